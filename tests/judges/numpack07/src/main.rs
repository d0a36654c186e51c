//! Reads and writes stores with the real NumPack 0.7.0, to judge `npk` by.
//!
//! `numpack07 list STORE`: a JSON line an array: name, dtype, shape, sha256 of its bytes, as
//! NumPack loads it. `numpack07 append STORE`: appends every array to itself. `numpack07 save FROM
//! TO`: loads all, saves all.

use ndarray::ArrayD;
use numpack::prelude::{DataType, NpkElement, ParallelIO};
// Links the system's OpenBLAS.
use openblas_src as _;
use sha2::{Digest, Sha256};

fn each<T: NpkElement>(io: &ParallelIO, to: Option<&ParallelIO>, name: &str, dtype: DataType, what: &str) {
    let array: ArrayD<T> = io.load_array(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    match (what, to) {
        ("append", _) => io.append_rows(name, &array).unwrap_or_else(|e| panic!("{name}: {e}")),
        ("save", Some(to)) => to.save_arrays(&[(name.to_string(), array, dtype)]).unwrap_or_else(|e| panic!("{name}: {e}")),
        _ => {
            let slice = array.as_slice().expect("C order");
            // SAFETY: elements are plain numbers.
            let bytes = unsafe { std::slice::from_raw_parts(slice.as_ptr().cast::<u8>(), std::mem::size_of_val(slice)) };
            let sha: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
            let dtype = format!("{dtype:?}").to_lowercase();
            println!("{}", serde_json::json!({"name": name, "dtype": dtype, "shape": array.shape(), "sha256": sha}));
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let what = args[0].as_str();
    let io = ParallelIO::new(args[1].clone().into()).expect("a store");
    let to = args.get(2).map(|to| ParallelIO::new(to.clone().into()).expect("a new store"));
    let mut names = io.list_arrays();
    names.sort();
    for name in &names {
        let dtype = io.get_array_meta(name).expect("metadata").get_dtype();
        match dtype.size_bytes() {
            1 => each::<u8>(&io, to.as_ref(), name, dtype, what),
            2 => each::<u16>(&io, to.as_ref(), name, dtype, what),
            4 => each::<u32>(&io, to.as_ref(), name, dtype, what),
            8 => each::<u64>(&io, to.as_ref(), name, dtype, what),
            _ => each::<num_complex::Complex64>(&io, to.as_ref(), name, dtype, what),
        }
    }
    for io in [Some(&io), to.as_ref()].into_iter().flatten() {
        if what != "list" {
            io.sync_metadata().expect("metadata written");
        }
    }
}
