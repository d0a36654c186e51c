//! IDX: one array of big-endian numbers, as the MNIST files are distributed, mostly as `.gz`.
//! Specification: <http://yann.lecun.com/exdb/mnist/>, the last section.
//!
//! | bytes | |
//! |---|---|
//! | 0, 1 | zero |
//! | 2 | type: 8 uint8, 9 int8, 0x0B int16, 0x0C int32, 0x0D float32, 0x0E float64 |
//! | 3 | the number of dimensions |
//! | then | a size of 4 bytes for each |
//! | then | the values, the last index running fastest |
//!
//! Read only. There is no name in a file: the array is called as its file. Its signature is short,
//! so detection also compares the length of the file, or takes a name such as
//! `train-images-idx3-ubyte`.

use crate::array::element::Convert;
use crate::array::source::MapSource;
use crate::array::{ArrayMap, Element};
use crate::error::{Error, Result};
use crate::format::{Format, Head, ReadOptions, Sniff, Source, Spec, foreign_file};
use crate::model::{ArrayMeta, Dtype, Plan, checked_product};
use crate::storage::{BlobSlice, Location};

/// The format.
pub struct Idx;

static SPEC: Spec = Spec {
    name: "idx",
    extensions: &["idx", "idx1-ubyte", "idx2-ubyte", "idx3-ubyte", "idx4-ubyte"],
    about: "IDX (MNIST): all types, big-endian, also packed with gzip",
    ..Spec::DEFAULT
};

/// What the header says.
struct Header {
    dtype: Dtype,
    shape: Vec<u64>,
    /// Bytes of the header and of the values.
    header_bytes: u64,
    bytes: u64,
}

impl Header {
    /// Reads the header from the first bytes of a file, 4 + 4 × 255 where it has them.
    fn parse(head: &[u8]) -> Result<Header> {
        let [0, 0, number, rank, rest @ ..] = head else {
            return Err(Error::corrupt("it does not begin as an IDX file does"));
        };
        let dtype = match number {
            0x08 => Dtype::U8,
            0x09 => Dtype::I8,
            0x0B => Dtype::I16,
            0x0C => Dtype::I32,
            0x0D => Dtype::F32,
            0x0E => Dtype::F64,
            _ => return Err(Error::corrupt(format!("IDX has no type {number:#04x}"))),
        };
        let rank = usize::from(*rank);
        let sizes = rest.get(..4 * rank).ok_or_else(|| {
            Error::corrupt(format!("the file is truncated: it ends inside its {rank} dimensions"))
                .hint("fetch the file again")
        })?;
        let shape: Vec<u64> =
            sizes.as_chunks::<4>().0.iter().map(|b| u32::from_be_bytes(*b).into()).collect();
        let bytes = checked_product(&shape)
            .and_then(|n| n.checked_mul(dtype.item_bytes()))
            .filter(|&n| n < 1 << 62)
            .ok_or_else(|| Error::corrupt(format!("the shape {shape:?} is too large")))?;
        Ok(Header { dtype, shape, header_bytes: 4 + 4 * rank as u64, bytes })
    }
}

/// Whether a file is called as MNIST's are: `train-images-idx3-ubyte`.
fn is_named(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.rsplit(['-', '.', '_']).nth(1).is_some_and(|part| {
        part.strip_prefix("idx").is_some_and(|rank| rank.len() == 1 && rank.as_bytes()[0] > b'0')
    })
}

impl Format for Idx {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        let plausible = matches!(head.bytes, [0, 0, 0x08 | 0x09 | 0x0B..=0x0E, 1..=32, ..]);
        if !plausible {
            return Ok(Sniff::No);
        }
        if is_named(&head.location.file_name()) {
            return Ok(Sniff::Yes);
        }
        let fits = |h: &Header| head.blob.is_some_and(|b| b.len() == h.header_bytes + h.bytes);
        Ok(match Header::parse(head.bytes) {
            Ok(header) if header.bytes > 0 && fits(&header) => Sniff::Yes,
            _ => Sniff::Maybe,
        })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let blob = at.blob()?;
        let head = blob.read_vec(0, blob.len().min(4 + 4 * 255))?;
        if let Some(error) = foreign_file::named(&head) {
            return Err(error);
        }
        let Header { dtype, shape, header_bytes, bytes } = Header::parse(&head)?;
        let have = blob.len() - header_bytes;
        if have < bytes {
            return Err(Error::corrupt(format!(
                "the file is truncated: the header declares {bytes} bytes of values, there are {have}"
            ))
            .hint("fetch the file again"));
        }
        if have > bytes {
            return Err(Error::corrupt(format!(
                "the header declares {bytes} bytes of values, {} more follow them",
                have - bytes
            )));
        }
        let mut meta = ArrayMeta::new(at.stem(), dtype, &shape);
        meta.details.stored_bytes = Some(bytes);
        let size = dtype.item_bytes() as usize;
        let convert = if size == 1 { Convert::Nothing } else { Convert::Swap(size) };
        if size > 1 {
            meta.details.stored_dtype = Some(format!("big-endian {dtype}"));
        }
        let element = Element { bytes: size, field: None, convert };
        let slice = BlobSlice { blob, start: header_bytes, len: bytes };
        let map = ArrayMap::raw(&shape, element, slice);
        let plan = Plan { format: SPEC.name, arrays: vec![meta].into(), ..Plan::default() };
        Ok(Box::new(MapSource::new(plan, vec![Some(map)], options.resources.memory_bytes())))
    }
}
