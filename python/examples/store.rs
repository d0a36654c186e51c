//! The library's calls for `benches/library.py`, each time that a line comes: `store write PATH ROWS`,
//! `store map PATH NAME`. Prints what they took, in seconds.

use std::hint::black_box;
use std::io::Write as _;
use std::time::Instant;

type Done = Result<(), Box<dyn std::error::Error>>;

/// Seconds of all threads so far, in hundredths.
fn processors() -> std::io::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    Ok(ticks.skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum::<f64>() / 100.0)
}

/// Runs `call` whenever a line comes, behind `before`.
fn each(before: impl Fn(), mut call: impl FnMut() -> Done) -> Done {
    println!("ready");
    std::io::stdout().flush()?;
    for line in std::io::stdin().lines() {
        line?;
        before();
        let (began, used) = (Instant::now(), processors()?);
        call()?;
        println!("{} {}", began.elapsed().as_secs_f64(), processors()? - used);
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn main() -> Done {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, path, third] = &args[..] else {
        return Err("store write|map PATH ROWS|NAME".into());
    };
    match what.as_str() {
        "write" => {
            let rows: usize = third.parse()?;
            let values: Vec<u8> =
                (0..rows * 256).flat_map(|i| (i as f32 * 0.37).to_le_bytes()).collect();
            let gone = || drop(std::fs::remove_dir_all(path));
            each(gone, || {
                let data = npk::Data::bytes(npk::Dtype::F32, &[rows, 256], &values)?;
                let mut store = npk::Store::create(path, &npk::StoreOptions::new())?;
                store.write("a", data)?;
                Ok(store.commit()?)
            })
        }
        "map" => each(
            || {},
            || {
                let array = npk::open(path, &npk::OpenOptions::new())?.array(third)?;
                assert!(!black_box(array).is_copy());
                Ok(())
            },
        ),
        other => Err(format!("there is no call '{other}'").into()),
    }
}
