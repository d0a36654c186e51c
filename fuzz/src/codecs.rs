//! Bytes to bytes, and the small machines that read headers.

use std::io::Read;
use std::sync::Arc;

use npk::codec::compress::Compressor;
use npk::codec::compressed::Coding;
use npk::codec::decompress::{Compression, Lzma, LzmaFilter, Wrapper};
use npk::codec::filters::{Filter, NumberType};
use npk::codec::limit::Limit;
use npk::codec::zip::Archive;
use npk::codec::{npy_header as header, numpy_elements, numpy_types, pickle as pickles, shuffle};
use npk::error::Result;
use npk::model::Logical;
use npk::storage::MemoryBlob;

use super::reading::check_kind;

fn checked<T>(result: Result<T>) -> Option<T> {
    result.inspect_err(check_kind).ok()
}

/// Every compression: what kind in the first byte, a size in the next three, then its data.
pub fn decompress(bytes: &[u8]) {
    let Some(([kind, size, low, high], data)) = bytes.split_first_chunk::<4>() else { return };
    let most = usize::from(u16::from_le_bytes([*low, *high]));
    let size = usize::from(*size).max(1);
    let raw = |id| {
        let preset = u32::from(*kind >> 6);
        LzmaFilter { id, preset, dict_size: Some(4096), distance: size as u32 }
    };
    let codec = match kind % 16 {
        0 => Compression::Deflate(Wrapper::Raw),
        1 => Compression::Deflate(Wrapper::Zlib),
        2 => Compression::Deflate(Wrapper::Gzip),
        3 => Compression::Zstd,
        4 => Compression::Lz4Sized,
        5 => Compression::Lz4Blocks,
        6 => Compression::Lz4Frame,
        7 => Compression::Bzip2,
        8 => Compression::Lzma(Lzma::Headed),
        9 => Compression::Lzma(Lzma::Raw(vec![raw(3), raw(0x21)])),
        10 => Compression::Lzf,
        11 => Compression::Blosc,
        12 => Compression::BitShuffled { size, zstd: false },
        13 => Compression::BitShuffled { size, zstd: true },
        coding => {
            let coding = Coding::ALL[usize::from(coding) % 2];
            let Some(decoder) = checked(coding.decoder(std::io::Cursor::new(data.to_vec()))) else {
                return;
            };
            let mut out = Vec::new();
            if let Err(error) = decoder.take(1 << 20).read_to_end(&mut out) {
                check_kind(&npk::Error::carried_by(&error).expect("an error of this crate"));
            }
            return;
        }
    };
    for limit in [Limit::most(most), Limit::exactly(most)] {
        if let Some(out) = checked(codec.decode(data, limit)) {
            assert!(out.len() <= most, "{codec:?}: {} bytes of {most}", out.len());
        }
    }
    if codec.is_streamable() {
        let stream = codec.stream(Box::new(std::io::Cursor::new(data.to_vec()))).unwrap();
        let _ = stream.expect("a stream").take(1 << 20).read_to_end(&mut Vec::new());
    }
}

/// Every encoder and shuffle: what it makes is undone to the same bytes.
pub fn compress(bytes: &[u8]) {
    let Some(([kind, size], data)) = bytes.split_first_chunk::<2>() else { return };
    let level = i32::from(kind >> 4);
    let item = usize::from(*size).max(1);
    let encoder = match kind % 7 {
        0 => Compressor::Deflate(Wrapper::Raw, level.min(12)),
        1 => Compressor::Deflate(Wrapper::Zlib, level.min(12)),
        2 => Compressor::Deflate(Wrapper::Gzip, level.min(12)),
        3 => Compressor::Zstd(level.min(9)),
        4 => Compressor::Lz4Blocks,
        5 => Compressor::Lzf,
        _ => Compressor::Blosc { item_bytes: item, level: (level as u8).clamp(1, 9) },
    };
    if let Some(packed) = encoder.encode(data).unwrap() {
        let back = encoder.compression().decode(&packed, Limit::exactly(data.len()));
        assert_eq!(back.unwrap(), data, "{encoder:?}");
    }
    let (mut there, mut back) = (vec![0; data.len()], vec![0; data.len()]);
    shuffle::shuffle(data, item, &mut there);
    shuffle::unshuffle(&there, item, &mut back);
    assert_eq!(back, data);
    let whole = data.len() / (8 * item) * (8 * item);
    shuffle::bit_unshuffle(&data[..whole], item, &mut there[..whole], &mut Vec::new());
}

/// Filters over numbers.
pub fn filters(bytes: &[u8]) {
    const TYPES: [&str; 14] = [
        "|b1", "|i1", "|u1", "<i2", ">i2", "<u2", "<i4", ">u4", "<i8", "<u8", "<f2", ">f4", "<f8",
        ">f8",
    ];
    let Some(([kind, from, to, scale, offset], data)) = bytes.split_first_chunk::<5>() else {
        return;
    };
    let number = |n: &u8| NumberType::parse(TYPES[usize::from(*n) % TYPES.len()]).unwrap();
    let (from, to) = (number(from), number(to));
    let most = 1 << 16;
    let filter = match kind % 4 {
        0 => Filter::Delta { to, from },
        1 => {
            let (scale, offset) = (f64::from(*scale) - 8.0, f64::from(*offset) - 8.0);
            Filter::ScaleOffset { to, from, scale, offset }
        }
        2 => Filter::Cast { to, from },
        _ => Filter::PackBits,
    };
    if let Some(out) = checked(filter.decode(data.to_vec(), most)) {
        assert!(out.len() <= most.max(data.len()));
    }
    let _ = (filter.stored_bytes(data.len()), filter.stored_size());
}

/// npy headers: version in the first byte, then the text. What is plain is written as it was.
pub fn npy_header(bytes: &[u8]) {
    let Some((version, text)) = bytes.split_first() else { return };
    let version = version % 4;
    let mut whole = b"\x93NUMPY".to_vec();
    whole.extend([version, 0]);
    match version {
        1 => whole.extend((text.len().min(0xFFFF) as u16).to_le_bytes()),
        _ => whole.extend((text.len() as u32).to_le_bytes()),
    }
    whole.extend(text);
    if let Ok(text) = std::str::from_utf8(text) {
        let _ = (numpy_types::canonical(text), checked(numpy_types::descr(text)));
    }
    let Some(read) = checked(header::parse(&whole)) else { return };
    let Some((fields, _)) = checked(numpy_elements::leaves(&read.descr)) else { return };
    let _ = fields.len();
    if let numpy_types::Descr::Simple(text) = &read.descr
        && let Some(dtype) = npk::Dtype::parse(text)
        && let Some(spelled) = numpy_elements::spell(dtype, &Logical::Plain)
    {
        let again = header::parse(&header::write(&spelled, &read.shape)).unwrap();
        assert_eq!((again.shape, again.fortran), (read.shape, false));
    }
}

/// The machine that reads pickles as data.
pub fn pickle(bytes: &[u8]) {
    let Some(read) = checked(pickles::read(bytes.to_vec(), 1 << 20)) else { return };
    let (mut texts, mut objects) = (0, 0);
    for (id, node) in read.nodes() {
        texts += usize::from(read.text(id).is_some()) + read.text_len(id).map_or(0, |n| n % 2);
        objects += usize::from(read.object(id).is_some() || read.tuple(id).is_some());
        let _ = (read.int(id), read.short(id), read.global(id), format!("{node:?}").len());
    }
    let _ = (read.root(), read.used(), read.surrogates(), read.globals().count(), texts, objects);
    let _ = (pickles::long_digits(bytes), pickles::shown(&String::from_utf8_lossy(bytes)));
}

/// A zip directory and its members.
pub fn zip(bytes: &[u8]) {
    const MOST: u64 = 1 << 18;
    let blob = Arc::new(MemoryBlob(bytes.to_vec()));
    let Some(archive) = checked(Archive::open(blob)) else { return };
    let all: Vec<usize> = (0..archive.entries.len()).collect();
    let _ =
        (archive.notes(), checked(archive.heads(&all, 64)), checked(archive.data_offsets(&all)));
    for &member in all.iter().take(8) {
        let Some(at) = checked(archive.data_offset(member)) else { continue };
        let Some(mut stream) = checked(archive.member(member, at)) else { continue };
        let bytes = archive.entries[member].bytes;
        if bytes <= MOST && checked(stream.take(bytes)).is_some() {
            let _ = checked(stream.finish());
        }
    }
}
