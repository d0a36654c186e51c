//! Codecs on their own: what was compressed comes out again, and never more than the limit,
//! whatever the bytes.

use std::io::Write;

use npk::codec::decompress::{Compression, Lzma, Wrapper};
use npk::codec::limit::Limit;
use npk::codec::shuffle::{bit_unshuffle, shuffle, unshuffle};
use npk::codec::{blosc, compress, lzf};
use npk::error::ErrorKind;
use proptest::prelude::*;

use super::support::mutants;

type Encode = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A Blosc buffer of the C library.
fn blosc_c(input: &[u8], name: &std::ffi::CStr, filter: u32, size: usize, level: i32) -> Vec<u8> {
    let mut out = vec![0u8; input.len() + 16];
    // SAFETY: both buffers are valid for their lengths; the name ends in a zero byte.
    let n = unsafe {
        let (from, to) = (input.as_ptr().cast(), out.as_mut_ptr().cast());
        blosc_src::blosc_compress_ctx(
            level,
            filter as i32,
            size,
            input.len(),
            from,
            to,
            out.len(),
            name.as_ptr(),
            0,
            1,
        )
    };
    out.truncate(usize::try_from(n).unwrap());
    out
}

/// Every compression, and how its bytes are made.
fn all() -> Vec<(&'static str, Compression, Encode)> {
    let deflate = |wrapper| move |input: &[u8]| compress::deflate(input, wrapper, 6).unwrap();
    let mut all: Vec<(&'static str, Compression, Encode)> = vec![
        ("deflate", Compression::Deflate(Wrapper::Raw), Box::new(deflate(Wrapper::Raw))),
        ("zlib", Compression::Deflate(Wrapper::Zlib), Box::new(deflate(Wrapper::Zlib))),
        ("gzip", Compression::Deflate(Wrapper::Gzip), Box::new(deflate(Wrapper::Gzip))),
        (
            "gzip of two members",
            Compression::Deflate(Wrapper::Gzip),
            Box::new(move |input| {
                let (a, b) = input.split_at(input.len() / 3);
                [deflate(Wrapper::Gzip)(a), deflate(Wrapper::Gzip)(b)].concat()
            }),
        ),
        ("zstd", Compression::Zstd, Box::new(|input| compress::zstd(input, 3).unwrap())),
        (
            "zstd without its size",
            Compression::Zstd,
            Box::new(|input| zstd::stream::encode_all(input, 1).unwrap()),
        ),
        (
            "lz4 with its size",
            Compression::Lz4Sized,
            Box::new(|input| {
                [&(input.len() as u32).to_le_bytes()[..], &lz4_flex::block::compress(input)]
                    .concat()
            }),
        ),
        (
            "lz4 in blocks",
            Compression::Lz4Blocks,
            Box::new(|input| compress::lz4_blocks(input).unwrap()),
        ),
        (
            "lz4 frame",
            Compression::Lz4Frame,
            Box::new(|input| {
                let mut coder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                coder.write_all(input).unwrap();
                coder.finish().unwrap()
            }),
        ),
        (
            "bzip2",
            Compression::Bzip2,
            Box::new(|input| {
                let mut coder =
                    bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                coder.write_all(input).unwrap();
                coder.finish().unwrap()
            }),
        ),
        (
            "xz",
            Compression::Lzma(Lzma::Headed),
            Box::new(|input| {
                let mut coder = liblzma::write::XzEncoder::new(Vec::new(), 1);
                coder.write_all(input).unwrap();
                coder.finish().unwrap()
            }),
        ),
        ("blosc", Compression::Blosc, Box::new(|input| blosc::compress(input, 4, 5).unwrap())),
    ];
    for name in [c"lz4", c"blosclz"] {
        for filter in 0..3 {
            for size in [1, 2, 3, 8, 16, 40] {
                all.push((
                    "blosc",
                    Compression::Blosc,
                    Box::new(move |input| blosc_c(input, name, filter, size, 9)),
                ));
            }
        }
    }
    all
}

fn inputs() -> Vec<Vec<u8>> {
    let mixed =
        |n: u32| (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>();
    let ramp = (0..30_000u32).flat_map(|i| (i / 3).to_le_bytes()).collect::<Vec<_>>();
    vec![
        vec![],
        vec![7],
        mixed(13),
        vec![0; 100_000],
        mixed(5_000),
        ramp,
        "abcabcabcd".repeat(3_000).into_bytes(),
    ]
}

/// What was compressed comes out; with a limit one byte below it does not.
#[test]
fn limits() {
    for (name, codec, encode) in all() {
        for input in inputs() {
            let packed = encode(&input);
            for limit in [
                Limit::exactly(input.len()),
                Limit::most(input.len()),
                Limit::most(3 * input.len() + 9),
            ] {
                assert!(
                    codec.decode(&packed, limit).unwrap() == input,
                    "{name}: {} bytes",
                    input.len()
                );
            }
            if let Some(less) = input.len().checked_sub(1) {
                for limit in [Limit::exactly(less), Limit::most(less), Limit::most(less / 2)] {
                    let error = codec.decode(&packed, limit).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
                }
            }
        }
    }
    // LZF is used where it helps alone.
    for input in inputs() {
        if let Some(packed) = lzf::compress(&input).filter(|_| !input.is_empty()) {
            assert_eq!(
                Compression::Lzf.decode(&packed, Limit::exactly(input.len())).unwrap(),
                input
            );
            assert_eq!(
                Compression::Lzf.decode(&packed, Limit::most(input.len() - 1)).unwrap_err().kind(),
                ErrorKind::Corrupt
            );
        }
    }
}

/// Damaged bytes give an error or other values: never more than the limit, never a panic.
#[test]
fn damaged() {
    let input = &inputs()[5][..9_000];
    for (name, codec, encode) in all() {
        let packed = encode(input);
        for cut in [0, 1, 3, 9, 17, packed.len() / 2, packed.len() - 1] {
            let cut = &packed[..cut.min(packed.len() - 1)];
            let whole =
                codec.decode(cut, Limit::exactly(input.len())).is_ok_and(|out| out == input);
            assert!(
                !whole || name == "zlib" || name == "gzip",
                "{name}: cut to {} bytes",
                cut.len()
            );
        }
        mutants(&packed, 200, |bytes| {
            if let Ok(out) = codec.decode(bytes, Limit::most(input.len())) {
                assert!(out.len() <= input.len(), "{name}");
            }
        });
    }
}

/// BloscLZ lengths that wrap a counter of 32 bits: C-Blosc writes past its buffer.
#[test]
fn blosclz_length() {
    let mut stream = vec![0, 7, 0xE0];
    stream.extend(vec![0xFF; 8_500_000]);
    stream.extend([0, 0, 0]);
    let mut chunk = vec![2, 1, 0x10, 1];
    for n in [1_000u32, 1_000, 24 + stream.len() as u32, 20, stream.len() as u32] {
        chunk.extend(n.to_le_bytes());
    }
    chunk.extend(&stream);
    assert_eq!(
        Compression::Blosc.decode(&chunk, Limit::exactly(1_000)).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

proptest! {
    #[test]
    fn shuffles(size in 1usize..40, bytes in proptest::collection::vec(any::<u8>(), 0..3_000)) {
        let (mut there, mut back) = (vec![0; bytes.len()], vec![0; bytes.len()]);
        shuffle(&bytes, size, &mut there);
        unshuffle(&there, size, &mut back);
        prop_assert_eq!(&back, &bytes);
        let n = bytes.len() / size;
        for (i, byte) in bytes[..n * size].iter().enumerate() {
            prop_assert_eq!(there[i % size * n + i / size], *byte);
        }
        // Bits, one by one.
        let n = n / 8 * 8;
        let mut planes = vec![0u8; n * size];
        for (i, byte) in bytes[..n * size].iter().enumerate() {
            for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                let plane = 8 * (i % size) + bit;
                planes[plane * n / 8 + i / size / 8] |= 1 << (i / size % 8);
            }
        }
        let mut back = vec![0; n * size];
        bit_unshuffle(&planes, size, &mut back, &mut Vec::new());
        prop_assert_eq!(&back[..], &bytes[..n * size]);
    }
}
