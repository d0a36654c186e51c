//! Raw binary: one array without a header, as `numpy.ndarray.tofile`, Fortran programs and
//! instruments write it. The file says nothing of itself, so the user does.
//!
//! `--dtype` takes what `numpy.dtype` takes (`float32`, `>f4`, `S5`, `M8[ns]`, `f4, i2` for
//! records whose fields become arrays `NAME.f0` …), and bfloat16 and the float8 types by their
//! names. `--shape` is the whole of the rest where it is not given; one dimension may be -1.
//! `--offset` bytes are left out at the start. `--order F`: the first index runs fastest.
//!
//! Read only. Refused: a file whose length is not that of the shape, with both numbers; objects and
//! long doubles, as in npy. Detection never chooses this format by the bytes; a name that ends in
//! `.raw` leads to a hint.

use std::sync::Arc;

use crate::array::source::MapSource;
use crate::array::text_codes::coded;
use crate::array::{ArrayMap, Element, Pieces};
use crate::codec::npy_header::Header;
use crate::codec::numpy_types;
use crate::error::{Error, Result};
use crate::format::{Format, Head, RawOptions, ReadOptions, Sniff, Source, Spec, foreign_file};
use crate::formats::numpy::npy_data::Records;
use crate::model::{ArrayMeta, Dtype, Plan, checked_product};
use crate::storage::{BlobSlice, Location};

/// The format.
pub struct Raw;

static SPEC: Spec = Spec {
    name: "raw",
    extensions: &["raw"],
    about: "Binary without a header, as --dtype, --shape, --offset and --order describe it",
    ..Spec::DEFAULT
};

impl Format for Raw {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, _head: &Head<'_>) -> Result<Sniff> {
        Ok(Sniff::No)
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        if let Some(error) = foreign_file::named(&at.head(512)?) {
            return Err(error);
        }
        let raw = &options.raw;
        let Some(spelled) = &raw.dtype else {
            return Err(Error::refused("a raw file does not say what it holds").hint(
                "say it: --from raw --dtype float32 --shape 1000,3; >f4 is big-endian, --order F for Fortran",
            ));
        };
        let blob = at.blob()?;
        let have = blob.len().checked_sub(raw.offset).ok_or_else(|| {
            Error::refused(format!(
                "--offset {} is past the end, the file has {} bytes",
                raw.offset,
                blob.len()
            ))
        })?;
        let numpy = numpy_types::descr(spelled).map_err(|_| no_type(spelled))?;
        let plan = |arrays: Vec<ArrayMeta>| Plan {
            format: SPEC.name,
            arrays: arrays.into(),
            ..Plan::default()
        };
        let (start, memory) = (raw.offset, options.resources.memory_bytes());
        let slice = |len| BlobSlice { blob: blob.clone(), start, len };
        // Types that numpy lacks are plain elements.
        if let Some(dtype) = Dtype::parse(spelled).filter(|d| d.numpy().is_none()) {
            if raw.fortran {
                return Err(Error::refused(format!("{dtype} is read in C order only"))
                    .hint("read it as uint16 or uint8 with --order F, which keeps the bits"));
            }
            let shape = shape(raw, dtype.item_bytes(), have)?;
            let meta = ArrayMeta::new(at.stem(), dtype, &shape);
            let map = ArrayMap::raw(&shape, Element::plain(dtype), slice(have));
            return Ok(Box::new(MapSource::new(plan(vec![meta]), vec![Some(map)], memory)));
        }
        let header = |shape: Vec<u64>| Header {
            version: String::new(),
            descr: numpy.clone(),
            fortran: raw.fortran,
            shape,
            data_offset: start,
        };
        let one =
            Records::new(&header(vec![1]), &at.stem()).map_err(|e| match numpy_known(spelled) {
                true => e,
                false => no_type(spelled),
            })?;
        let bytes = one.bytes.filter(|&bytes| bytes > 0).ok_or_else(|| {
            Error::refused(format!("elements of the type '{spelled}' have no size of their own"))
                .hint("give it, as S5 or U10")
        })?;
        let records = Records::new(&header(shape(raw, bytes, have)?), &at.stem())?;
        let pieces: Arc<dyn Pieces> = Arc::new(slice(have));
        let source = MapSource::new(plan(records.metas().to_vec()), records.maps(&pieces), memory);
        Ok(coded(Box::new(source), options.resources.memory_bytes()))
    }
}

/// Whether numpy takes this spelling of a simple type.
fn numpy_known(spelled: &str) -> bool {
    numpy_types::canonical(spelled).is_some() || spelled.contains(',')
}

fn no_type(spelled: &str) -> Error {
    Error::usage(format!("there is no type '{spelled}'"))
        .hint("as numpy spells it: float32, >f4, int16, S5, M8[ns]; or bfloat16")
}

/// The shape, with what -1 stands for; it must take all `have` bytes.
fn shape(raw: &RawOptions, item_bytes: u64, have: u64) -> Result<Vec<u64>> {
    let given = raw.shape.as_deref().unwrap_or(&[None]);
    let known: Vec<u64> = given.iter().flatten().copied().collect();
    let shown: Vec<String> =
        given.iter().map(|d| d.map_or("-1".to_string(), |n| n.to_string())).collect();
    let from = match raw.offset {
        0 => String::new(),
        offset => format!(" from byte {offset} on"),
    };
    let wrong = |need: String| {
        Error::refused(format!(
            "the shape {} of {item_bytes} bytes each needs {need}, the file has {have}{from}",
            shown.join(",")
        ))
    };
    let bytes = checked_product(&known).and_then(|n| n.checked_mul(item_bytes));
    let Some(bytes) = bytes.filter(|&n| n < 1 << 62) else {
        return Err(wrong("more than 2^62 bytes".into()));
    };
    if known.len() == given.len() {
        if bytes == have {
            return Ok(known);
        }
        let hint = "one dimension may be -1: it is what the file's length makes it";
        return Err(wrong(format!("{bytes} bytes")).hint(hint));
    }
    if bytes == 0 || !have.is_multiple_of(bytes) {
        return Err(wrong(format!("a multiple of {bytes} bytes")));
    }
    Ok(given.iter().map(|d| d.unwrap_or(have / bytes)).collect())
}
