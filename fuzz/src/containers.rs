//! Files that libFuzzer could not make by itself: folders, and files with checksums and lengths
//! around what is interesting.

use std::path::Path;

use npk::codec::zip::write::{Written, directory};
use npk::error::ErrorKind;
use npk::format::{RawOptions, ReadOptions, Resources};
use npk::formats::by_name;

use super::reading::{Folder, MEMORY_BYTES, check_kind, read as read_path, read_some_with};

/// What stands before each file of a bundle: this, its name, and a newline.
const MARK: &[u8] = b"\x1dFILE ";

/// The names and bytes of a bundle: a folder in a row of bytes that stays one wherever it is cut.
/// Names stay within the folder.
fn files(bundle: &[u8]) -> Vec<(String, &[u8])> {
    const MOST: usize = 64;
    let mut starts: Vec<usize> = bundle
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, w)| *w == MARK)
        .map(|(i, _)| i)
        .collect();
    starts.truncate(MOST);
    let ends = starts.iter().skip(1).copied().chain([bundle.len()]);
    let file = |(start, end): (usize, usize)| {
        let file = &bundle[start + MARK.len()..end];
        let line = file.iter().position(|&b| b == b'\n')?;
        let name = std::str::from_utf8(&file[..line]).ok()?;
        let within = name.len() < 200
            && !name.contains('\0')
            && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        within.then(|| (name.to_string(), &file[line + 1..]))
    };
    starts.iter().copied().zip(ends).filter_map(file).collect()
}

/// Puts the files of a bundle below `root`; where a name is taken, the first one stays.
fn unbundle(bundle: &[u8], root: &Path) {
    std::fs::create_dir(root).unwrap();
    for (name, bytes) in files(bundle) {
        let path = root.join(name);
        let made = path.parent().is_none_or(|folder| std::fs::create_dir_all(folder).is_ok());
        if made && !path.exists() {
            let _ = std::fs::write(path, bytes);
        }
    }
}

/// The bytes as a file of this format, or as a bundle where it is a folder.
pub fn read(format: &str, bytes: &[u8]) {
    let folder = Folder::new();
    let spec = by_name(format).unwrap_or_else(|| panic!("no format {format}")).spec();
    let path = folder.join(&format!("input.{}", spec.extensions[0]));
    if bytes.starts_with(MARK) {
        unbundle(bytes, &path);
    } else {
        std::fs::write(&path, bytes).unwrap();
    }
    read_path(format, &path);
}

/// A zip archive of a bundle's files, stored, with the right checksums: behind those nothing would
/// ever be reached.
fn zipped(bundle: &[u8]) -> Vec<u8> {
    let (mut bytes, mut members) = (Vec::new(), Vec::new());
    for (name, data) in files(bundle) {
        let member = Written {
            name,
            method: 0,
            offset: bytes.len() as u64,
            crc: crc32fast::hash(data),
            stored_bytes: data.len() as u64,
            bytes: data.len() as u64,
            descriptor: false,
        };
        bytes.extend(member.local(64));
        bytes.extend(data);
        members.push(member);
    }
    let end = bytes.len() as u64;
    bytes.extend(directory(&members, end));
    bytes
}

fn read_zipped(format: &str, name: &str, bundle: &[u8]) {
    let folder = Folder::new();
    let path = folder.join(name);
    std::fs::write(&path, zipped(bundle)).unwrap();
    read_path(format, &path);
}

/// PyTorch's records.
pub fn zipped_pt(bundle: &[u8]) {
    read_zipped("pt", "input.pt", bundle);
}

/// The members of an npz.
pub fn zipped_npz(bundle: &[u8]) {
    read_zipped("npz", "input.npz", bundle);
}

/// A Zarr store in an archive.
pub fn zipped_zarr(bundle: &[u8]) {
    read_zipped("zarr", "input.zarr.zip", bundle);
}

/// An index of safetensors files and its shards.
pub fn sharded_safetensors(bundle: &[u8]) {
    let folder = Folder::new();
    let root = folder.join("model");
    unbundle(bundle, &root);
    read_path("safetensors", &root.join("model.safetensors.index.json"));
}

/// Columns and the footer of a Parquet file, the footer first: as long as it may be.
pub fn parquet_parts(bytes: &[u8]) {
    let cut = bytes.windows(MARK.len()).position(|w| w == MARK).unwrap_or(bytes.len());
    let (footer, columns) = bytes.split_at(cut);
    let columns = columns.strip_prefix(MARK).unwrap_or(columns);
    let len = (footer.len() as u32).to_le_bytes();
    let file = [b"PAR1", columns, footer, &len, b"PAR1"].concat();
    read("parquet", &file);
}

/// The header of a safetensors file, and no bytes of tensors but zeros.
pub fn safetensors_header(header: &[u8]) {
    let file = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 64]].concat();
    read("safetensors", &file);
}

/// A raw file: its type up to a newline, then offset, order, rank and dimensions, a byte each.
pub fn raw(bytes: &[u8]) {
    let Some(line) = bytes.iter().position(|&b| b == b'\n') else { return };
    let Ok(dtype) = std::str::from_utf8(&bytes[..line]) else { return };
    let Some(([offset, order, rank], rest)) = bytes[line + 1..].split_first_chunk::<3>() else {
        return;
    };
    let rank = usize::from(rank % 5).min(rest.len());
    let (dims, data) = rest.split_at(rank);
    let dims = dims.iter().map(|&d| (d != 255).then_some(u64::from(d)));
    let raw = RawOptions {
        dtype: Some(dtype.to_string()),
        shape: (rank > 0).then(|| dims.collect()),
        offset: u64::from(*offset),
        fortran: order % 2 == 1,
    };
    let options =
        ReadOptions { raw, resources: Resources::new(1, MEMORY_BYTES), ..ReadOptions::default() };
    let folder = Folder::new();
    let path = folder.join("input.raw");
    std::fs::write(&path, data).unwrap();
    match read_some_with("raw", &path, &options) {
        // The type is the user's word.
        Err(error) if error.kind() == ErrorKind::Usage => {}
        Err(error) => check_kind(&error),
        Ok(()) => {}
    }
}
