//! What is fuzzed: each target takes any bytes, and panics where something is wrong with npk. The
//! fuzzing program calls them with bytes that libFuzzer makes, the tests with those that were found
//! before (`fixtures/fuzz/`).

pub mod codecs;
pub mod containers;
pub mod reading;
pub mod round_trip;
pub mod text;
pub mod views;

use npk::formats::FORMATS;

type Target = (&'static str, fn(&[u8]));

/// Targets that are no single file of a format.
const OTHERS: &[Target] = &[
    // Its files say nothing of themselves.
    ("read_raw", containers::raw),
    ("zipped_pt", containers::zipped_pt),
    ("zipped_npz", containers::zipped_npz),
    ("zipped_zarr", containers::zipped_zarr),
    ("sharded_safetensors", containers::sharded_safetensors),
    ("parquet_parts", containers::parquet_parts),
    ("safetensors_header", containers::safetensors_header),
    ("npy_header", codecs::npy_header),
    ("pickle", codecs::pickle),
    ("zip", codecs::zip),
    ("decompress", codecs::decompress),
    ("compress", codecs::compress),
    ("filters", codecs::filters),
    ("patterns", text::patterns),
    ("names", text::names),
    ("numbers", text::numbers),
    ("printing", text::printing),
    ("times", text::times),
    ("options", text::options),
    ("round_trip", round_trip::round_trip),
    ("strided", round_trip::strided),
    ("views", views::views),
];

/// The names of all targets: `read_npy` and the like, and the rest.
pub fn targets() -> Vec<String> {
    let formats = FORMATS.iter().map(|format| format.spec().name).filter(|name| *name != "raw");
    let readers = formats.map(|name| format!("read_{name}"));
    readers.chain(OTHERS.iter().map(|(name, _)| name.to_string())).collect()
}

/// Runs one input of a target.
///
/// # Panics
/// Where it found something, or there is no such target.
pub fn run(target: &str, bytes: &[u8]) {
    if let Some((_, target)) = OTHERS.iter().find(|(name, _)| *name == target) {
        return target(bytes);
    }
    let format = target.strip_prefix("read_");
    containers::read(format.unwrap_or_else(|| panic!("there is no target '{target}'")), bytes);
}
