//! What is not 0 is true, and 1 from the reader on: checksums, comparisons and outputs do not see
//! how a file says true.

use std::ffi::OsStr;
use std::path::Path;

use super::pt_support::{call, dict, tensor_of, text, write};
use crate::support::{Scratch, at, inspect, npk, npk_any, python};

/// 300 booleans of all bytes, and the same as 0 and 1.
fn make(s: &Scratch) {
    python(
        s.path(),
        "
import numpy as np, zarr
from safetensors.numpy import save_file
odd = np.array([0, 1, 2, 255, 0, 128] * 50, 'u1').reshape(100, 3)
plain = (odd != 0)
np.save('plain.npy', plain)
odd.tofile('odd.bin')
odd = odd.view('?')
np.save('odd.npy', odd); np.save('fortran.npy', np.asfortranarray(odd))
np.savez('stored.npz', odd=odd); np.savez_compressed('deflated.npz', odd=odd)
save_file({'odd': odd}, 'odd.safetensors')
for name, codecs in [('raw', None), ('packed', 'auto')]:
    for v in (2, 3):
        z = zarr.open_group(f'{name}{v}.zarr', mode='w', zarr_format=v).create_array('odd', shape=odd.shape, dtype='bool', chunks=(30, 3), compressors=codecs)
        z[:] = odd
r = np.zeros(100, [('odd', '?', (3,)), ('n', 'i4')]); r['odd'] = odd
np.save('record.npy', r)
",
    );
    let tensor =
        tensor_of("0", "BoolStorage", &[100, 3], &call("collections", "OrderedDict", &[]), b"");
    let bytes = std::fs::read(s.join("odd.bin")).unwrap();
    write(&s.join("odd.pt"), &dict(&[(&text("odd"), &tensor)]), &[("archive/data/0", &bytes)]);
    npk(&["convert", &at(s, "plain.npy"), &at(s, "odd.npk"), "--rename", "plain=odd"]);
    std::fs::write(s.join("odd.npk/data_odd.npkd"), &bytes).unwrap();
}

fn checksum(path: &Path, array: &str) -> String {
    let all = inspect(path);
    let all = all["arrays"].as_array().unwrap();
    let found =
        all.iter().find(|a| a["name"] == array).unwrap_or_else(|| panic!("no {array}: {all:?}"));
    found["checksum"].as_str().unwrap_or_else(|| panic!("{found}")).to_string()
}

#[test]
#[ignore = "asks the real libraries"]
fn what_is_not_zero_is_one() {
    let s = Scratch::new();
    make(&s);
    let want = checksum(&s.join("plain.npy"), "plain");
    let sources = [
        "odd.npy",
        "fortran.npy",
        "record.npy",
        "stored.npz",
        "deflated.npz",
        "odd.safetensors",
        "raw2.zarr",
        "raw3.zarr",
        "packed2.zarr",
        "packed3.zarr",
        "odd.pt",
        "odd.npk",
    ];
    for source in sources {
        let name = match source {
            "fortran.npy" => "fortran",
            "record.npy" => "record.odd",
            _ => "odd",
        };
        assert_eq!(checksum(&s.join(source), name), want, "{source}");
        let stats = npk(&["inspect", "--stats", "--json", &at(&s, source)]);
        assert!(!stats.contains("255") && !stats.contains("128"), "{source}: {stats}");
        let all = [
            "o.npk",
            "o.npy",
            "o.npz",
            "o.npkg",
            "o.safetensors",
            "o.pt",
            "o.h5",
            "o.zarr",
            "o.feather",
            "o.csv",
        ];
        for &output in if source == "odd.npy" { &all[..] } else { &all[..1] } {
            let out = at(&s, output);
            let mut args = vec!["convert", "-f", "-q", "--verify", "-a", name, "--rename"];
            let (from, renamed) = (at(&s, source), format!("{name}=x"));
            args.extend([renamed.as_str(), &from, &out]);
            if output == "o.csv" {
                args.retain(|a| *a != "--verify"); // its columns have names of their own
            }
            let done = npk_any(&args.iter().map(OsStr::new).collect::<Vec<_>>());
            assert!(
                done.status.success(),
                "{source} → {output}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
            match output {
                "o.npy" => {
                    let (got, want) =
                        (std::fs::read(&out).unwrap(), std::fs::read(s.join("plain.npy")).unwrap());
                    assert!(got == want, "{source}");
                }
                "o.csv" => assert!(
                    std::fs::read_to_string(&out).unwrap().lines().nth(1)
                        == Some("False,True,True"),
                    "{source}"
                ),
                "o.feather" => {}
                _ => {
                    let of = inspect(Path::new(&out));
                    let array = of["arrays"][0]["name"].as_str().unwrap().to_string();
                    assert_eq!(checksum(Path::new(&out), &array), want, "{source} → {output}");
                }
            }
        }
    }
    npk(&["convert", "-q", &at(&s, "plain.npy"), &at(&s, "clean.npk"), "--rename", "plain=x"]);
    npk(&["diff", &at(&s, "o.npk"), &at(&s, "clean.npk")]);
    // The files themselves are equal to diff.
    let done = npk_any(&[
        OsStr::new("diff"),
        s.join("odd.npk").as_os_str(),
        s.join("stored.npz").as_os_str(),
    ]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    python(
        s.path(),
        "
import numpy as np, h5py, zarr
want = np.load('plain.npy')
for got in [np.load('o.npz')['x'], h5py.File('o.h5')['x'][:], zarr.open_group('o.zarr', mode='r')['x'][:]]:
    assert got.dtype == bool and (got.view('u1') == want.view('u1')).all()
assert open('o.npk/data_x.npkd', 'rb').read() == want.tobytes()
",
    );
}

/// A mask's bytes are booleans, too.
#[test]
#[ignore = "asks the real libraries"]
fn masks_are_zero_and_one() {
    let s = Scratch::new();
    std::fs::write(s.join("a.csv"), "x,y\n1,a\n,b\n3,\n4,d\n").unwrap();
    npk(&["convert", &at(&s, "a.csv"), &at(&s, "a.npk")]);
    npk(&["convert", &at(&s, "a.csv"), &at(&s, "b.npk")]);
    let mask = s.join("b.npk/data_x.valid.npkd");
    assert_eq!(std::fs::read(&mask).unwrap(), [1, 0, 1, 1]);
    std::fs::write(&mask, [2, 0, 255, 1]).unwrap();
    assert_eq!(checksum(&s.join("a.npk"), "x"), checksum(&s.join("b.npk"), "x"));
    npk(&["diff", &at(&s, "a.npk"), &at(&s, "b.npk")]);
    for output in ["c.npk", "c.h5", "c.zarr", "c.npz"] {
        npk(&["convert", "-f", &at(&s, "b.npk"), &at(&s, output), "-a", "x"]);
    }
    assert_eq!(std::fs::read(s.join("c.npk/data_x.valid.npkd")).unwrap(), [1, 0, 1, 1]);
    python(
        s.path(),
        "
import numpy as np, h5py, zarr
for got in [np.load('c.npz')['x.valid'], h5py.File('c.h5')['x.valid'][:], zarr.open_group('c.zarr', mode='r')['x.valid'][:]]:
    assert got.view('u1').tolist() == [1, 0, 1, 1], got
",
    );
}
