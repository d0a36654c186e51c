//! Rust's own libraries as judges, where there is one for a format: they write and we read, we write
//! and they read. (The reference libraries judge in the tests of each format.)

use std::path::Path;

use ndarray::{Array1, Array2, Array3, ShapeBuilder};

use crate::support::{Scratch, at, npk};

/// Through a store and back into a file of this name.
fn through_a_store(s: &Scratch, from: &str, to: &str) -> String {
    npk(&["convert", &at(s, from), &at(s, "kept.npk"), "-f", "--layout", "columns"]);
    npk(&["convert", &at(s, "kept.npk"), &at(s, to), "-f"]);
    at(s, to)
}

#[test]
fn npy_by_ndarray_npy() {
    fn both<T>(values: Array3<T>)
    where
        T: ndarray_npy::WritableElement
            + ndarray_npy::ReadableElement
            + Copy
            + PartialEq
            + std::fmt::Debug,
    {
        let s = Scratch::new();
        let mut fortran = Array3::from_elem(values.dim().f(), values[[0, 0, 0]]);
        fortran.assign(&values);
        for values in [values, fortran] {
            ndarray_npy::write_npy(s.join("in.npy"), &values).unwrap();
            let back = through_a_store(&s, "in.npy", "back.npy");
            assert_eq!(ndarray_npy::read_npy::<_, Array3<T>>(back).unwrap(), values);
        }
    }
    let at = |(i, j, k): (usize, usize, usize)| i * 100 + j * 10 + k;
    both(Array3::from_shape_fn((3, 4, 5), |i| at(i) as f64 / 7.0));
    both(Array3::from_shape_fn((2, 1, 5), |i| at(i) as f32));
    both(Array3::from_shape_fn((2, 3, 2), |i| i64::MIN + at(i) as i64));
    both(Array3::from_shape_fn((2, 3, 2), |i| u64::MAX - at(i) as u64));
    both(Array3::from_shape_fn((1, 3, 2), |i| at(i) as i16));
    both(Array3::from_shape_fn((4, 3, 2), |i| at(i) % 3 == 0));
}

#[test]
fn csv_by_csv() {
    let s = Scratch::new();
    let rows = [
        ["id", "name", "quoted, header"],
        ["1", "plain", "a \"quote\""],
        ["2", "two\nlines", "a,comma"],
        ["3", "\u{e9}t\u{e9} \u{1f600}", " blanks "],
    ];
    let mut writer = csv::Writer::from_path(s.join("in.csv")).unwrap();
    rows.iter().for_each(|row| writer.write_record(row).unwrap());
    writer.flush().unwrap();
    let back = through_a_store(&s, "in.csv", "back.csv");
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(back).unwrap();
    let found: Vec<Vec<String>> =
        reader.records().map(|r| r.unwrap().iter().map(String::from).collect()).collect();
    assert_eq!(found, rows);
}

#[test]
fn safetensors_by_safetensors() {
    use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
    let s = Scratch::new();
    let bytes: Vec<u8> = (0..48).collect();
    let views = [
        ("half", Dtype::F16, vec![2, 12]),
        ("brain", Dtype::BF16, vec![24]),
        ("float8", Dtype::F8_E4M3, vec![3, 16]),
        ("long", Dtype::I64, vec![6]),
        ("scalar", Dtype::F64, vec![]),
    ];
    let view = |dtype: Dtype, shape: &Vec<usize>| {
        let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        TensorView::new(dtype, shape.clone(), &bytes[..len]).unwrap()
    };
    let all: Vec<_> = views.iter().map(|(name, d, shape)| (*name, view(*d, shape))).collect();
    serialize_to_file(all, None, &s.join("in.safetensors")).unwrap();
    let back = std::fs::read(through_a_store(&s, "in.safetensors", "back.safetensors")).unwrap();
    let back = SafeTensors::deserialize(&back).unwrap();
    assert_eq!(back.len(), views.len());
    for (name, dtype, shape) in views {
        assert_eq!(back.tensor(name).unwrap(), view(dtype, &shape), "{name}");
    }
}

#[cfg(feature = "hdf5")]
#[test]
fn hdf5_by_hdf5_metno() {
    let s = Scratch::new();
    let matrix = Array2::from_shape_fn((300, 7), |(i, j)| (i * 7 + j) as f32 / 3.0);
    let counts = Array1::from_iter((0..500).map(|i| i64::MAX - i));
    {
        let file = hdf5::File::create(s.join("in.h5")).unwrap();
        let group = file.create_group("g").unwrap();
        let builder = group.new_dataset_builder().chunk((64, 3)).shuffle().deflate(4);
        builder.with_data(&matrix).create("matrix").unwrap();
        file.new_dataset_builder().with_data(&counts).create("counts").unwrap();
        let units = "m/s".parse::<hdf5::types::VarLenUnicode>().unwrap();
        let at = group.dataset("matrix").unwrap();
        at.new_attr::<hdf5::types::VarLenUnicode>().create("units").unwrap();
        at.attr("units").unwrap().write_scalar(&units).unwrap();
    }
    let back = hdf5::File::open(through_a_store(&s, "in.h5", "back.h5")).unwrap();
    let found = back.dataset("g/matrix").unwrap();
    assert_eq!(found.read_2d::<f32>().unwrap(), matrix);
    let units: hdf5::types::VarLenUnicode = found.attr("units").unwrap().read_scalar().unwrap();
    assert_eq!(units.as_str(), "m/s");
    assert_eq!(back.dataset("counts").unwrap().read_1d::<i64>().unwrap(), counts);
}

/// What `zarrs` finds in an array.
fn zarr_rows(root: &Path, array: &str) -> Vec<f64> {
    use zarrs::array::{Array, ArraySubset};
    let store = std::sync::Arc::new(zarrs::filesystem::FilesystemStore::new(root).unwrap());
    let array = Array::open(store, array).unwrap();
    let all = ArraySubset::new_with_shape(array.shape().to_vec());
    array.retrieve_array_subset::<Vec<f64>>(&all).unwrap()
}

#[test]
fn zarr_by_zarrs() {
    use zarrs::array::codec::{
        BloscCodec, BloscCompressor, BloscShuffleMode, GzipCodec, TransposeCodec, TransposeOrder,
        ZstdCodec,
    };
    use zarrs::array::{ArrayBuilder, ArraySubset, data_type};
    let s = Scratch::new();
    let values = Array2::from_shape_fn((23, 9), |(i, j)| (i * 9 + j) as f64 / 7.0);
    let store =
        std::sync::Arc::new(zarrs::filesystem::FilesystemStore::new(s.join("in.zarr")).unwrap());
    zarrs::group::GroupBuilder::new().build(store.clone(), "/").unwrap().store_metadata().unwrap();
    let make = |name: &str, set: &dyn Fn(&mut ArrayBuilder)| {
        let mut builder =
            ArrayBuilder::new(vec![23, 9], vec![8, 4], data_type::float64(), f64::NAN);
        set(&mut builder);
        let array = builder.build(store.clone(), name).unwrap();
        array.store_metadata().unwrap();
        let all = ArraySubset::new_with_shape(vec![23, 9]);
        let flat: Vec<f64> = values.iter().copied().collect();
        array.store_array_subset(&all, &flat).unwrap();
    };
    make("/plain", &|_| {});
    make("/gzip", &|b| {
        b.bytes_to_bytes_codecs(vec![std::sync::Arc::new(GzipCodec::new(5).unwrap())]);
    });
    make("/zstd", &|b| {
        b.bytes_to_bytes_codecs(vec![std::sync::Arc::new(ZstdCodec::new(3, true))]);
    });
    make("/transposed", &|b| {
        let order = TransposeOrder::new(&[1, 0]).unwrap();
        b.array_to_array_codecs(vec![std::sync::Arc::new(TransposeCodec::new(order))]);
    });
    make("/blosc", &|b| {
        let (lz4, shuffle) = (BloscCompressor::LZ4, BloscShuffleMode::Shuffle);
        let level = 5.try_into().unwrap();
        let blosc = BloscCodec::new(lz4, level, None, shuffle, Some(8)).unwrap();
        b.bytes_to_bytes_codecs(vec![std::sync::Arc::new(blosc)]);
    });
    make("/sharded", &|b| {
        b.subchunk_shape(vec![4, 2]);
    });
    let flat: Vec<f64> = values.iter().copied().collect();
    for compression in ["none", "gzip", "zstd", "blosc"] {
        npk(&["convert", &at(&s, "in.zarr"), &at(&s, "back.zarr"), "-f", "-c", compression]);
        for name in ["/plain", "/gzip", "/zstd", "/transposed", "/blosc", "/sharded"] {
            assert_eq!(zarr_rows(&s.join("back.zarr"), name), flat, "{compression} {name}");
        }
    }
    npk(&["convert", &at(&s, "in.zarr"), &at(&s, "kept.npk"), "-a", "sharded"]);
    npk(&["diff", &at(&s, "in.zarr"), &at(&s, "kept.npk"), "-a", "sharded"]);
}
