//! MATLAB's `.mat` files before version 7.3, also as Octave and SciPy write them; read only.
//! Version 7.3 is HDF5, and read as that.
//!
//! Specification: "MAT-File Format", MathWorks,
//! <https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf>; what it leaves out (int64,
//! opaque objects) is as SciPy's reader knows it.
//!
//! | version 5 | |
//! |---|---|
//! | 0..116, 116..124 | a text; where the subsystem's data are |
//! | 124..128 | version 0x0100 and `MI`, in the file's byte order |
//! | then | elements: a tag (type and bytes, 4 each, or 2 each with up to 4 bytes of data), the data, filled up to 8 bytes |
//! | type 14 | a matrix: elements of its flags, dimensions, name, and what its class has |
//! | type 15 | such an element, packed with zlib |
//!
//! | version 4 | |
//! |---|---|
//! | 0..20 | type (byte order, element, kind), rows, columns, whether complex, length of the name |
//! | then | name, real parts, imaginary parts; the next matrix |
//!
//! | class | becomes |
//! |---|---|
//! | numeric, logical | an array of MATLAB's class (however narrow the file stores it) and shape, which are never less than two dimensions |
//! | char | text: the last dimension is its length |
//! | sparse | NAME.data, NAME.indices, NAME.indptr (compressed columns), NAME.shape |
//! | struct, object | NAME.field; of several NAME.0.field, NAME.1.field … |
//! | cell | of texts of one line an array of text; else NAME.0, NAME.1 …, counted in the order of the array's C order |
//! | function handle, opaque (table, string, datetime) | listed, refused by name |
//!
//! Values lie in MATLAB's order, the first index running fastest, and come out in C order. Packed
//! elements are unpacked once: small ones into memory, others into a temporary file. Limits: 64
//! levels of nesting, 100,000 arrays.

use std::sync::Arc;

use crate::array::ArrayMap;
use crate::array::source::MapSource;
use crate::array::text_codes::coded;
use crate::error::{Error, Result};
use crate::format::foreign_file;
use crate::format::{Format, Head, ReadOptions, Sniff, Source, Spec, duplicates};
use crate::model::{ArrayMeta, Plan};
use crate::storage::{BlobSlice, Location};

mod element;
mod packed;
mod text;
mod values;
mod version4;
mod version5;

/// The format.
pub struct Matlab;

static SPEC: Spec = Spec {
    name: "mat",
    extensions: &["mat"],
    about: "MATLAB before 7.3 (versions 4 and 5): numbers, text, sparse, structs and cells as arrays",
    ..Spec::DEFAULT
};

/// More arrays than these are refused.
const MAX_ARRAYS: usize = 100_000;

impl Format for Matlab {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        Ok(match version5::byte_order(head.bytes) {
            Some(_) => Sniff::Yes,
            None if version4::is_plausible(head.bytes) => Sniff::Maybe,
            None => Sniff::No,
        })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let head = at.head(512)?;
        if let Some(error) = foreign_file::named(&head) {
            return Err(error);
        }
        let blob = at.blob()?;
        let mut found = FoundArrays::new(options.resources.memory_bytes());
        let version = match version5::byte_order(&head) {
            Some(big) => {
                version5::read(&BlobSlice::whole(blob), big, &mut found)?;
                "5"
            }
            None if version4::is_plausible(&head) => {
                version4::read(&BlobSlice::whole(blob), &mut found)?;
                "4"
            }
            None => return Err(Error::corrupt("it does not begin as a MATLAB file does")),
        };
        let names: Vec<String> = found.arrays.iter().map(|(meta, _)| meta.name.clone()).collect();
        let place = |i: usize| format!("array {i} of the file");
        let kept = duplicates::unique(&names, options.on_duplicate, &place)?;
        let mut plan = Plan {
            format: SPEC.name,
            format_version: Some(version.into()),
            notes: found.notes(),
            ..Plan::default()
        };
        let mut maps = Vec::with_capacity(names.len());
        for ((mut meta, map), name) in found.arrays.into_iter().zip(kept) {
            if let Some(name) = name {
                meta.name = name;
                plan.arrays.push(meta);
                maps.push(map);
            }
        }
        Ok(coded(Box::new(MapSource::new(plan, maps, options.resources.memory_bytes()))))
    }
}

/// What was found so far, within the memory limit.
struct FoundArrays {
    arrays: Vec<(ArrayMeta, Option<ArrayMap>)>,
    /// Structs and cells without elements.
    empty: u64,
    first_empty: String,
    memory_bytes: u64,
    /// About the bytes that all this takes.
    held: u64,
}

/// About what an array's name, type and place take.
const ARRAY_BYTES: u64 = 1024;

impl FoundArrays {
    fn new(memory_bytes: u64) -> FoundArrays {
        FoundArrays {
            arrays: Vec::new(),
            empty: 0,
            first_empty: String::new(),
            memory_bytes,
            held: 0,
        }
    }

    /// Counts bytes that stay in memory.
    fn hold(&mut self, bytes: u64) -> Result<()> {
        self.held = self.held.saturating_add(bytes);
        if self.held <= self.memory_bytes {
            return Ok(());
        }
        Err(Error::refused(format!(
            "its names and texts take more than {} bytes of memory, which is the limit",
            self.memory_bytes
        ))
        .hint("-m gives more memory"))
    }

    fn push(&mut self, mut meta: ArrayMeta, map: ArrayMap) -> Result<()> {
        self.room(&meta.name)?;
        if let Err(error) = meta.bytes() {
            (meta.rows, meta.inner) = (Some(0), Vec::new());
            meta.details.error = Some(Arc::new(error));
            self.arrays.push((meta, None));
        } else {
            self.arrays.push((meta, Some(map)));
        }
        Ok(())
    }

    /// An array that is listed, and refused when it is read.
    fn push_broken(&mut self, name: &str, stored: &str, error: Error) -> Result<()> {
        self.room(name)?;
        let mut meta = ArrayMeta::new(name, crate::model::Dtype::U8, &[0]);
        meta.details.stored_dtype = Some(stored.to_string());
        meta.details.error = Some(Arc::new(error.of_data()?.array(name)));
        self.arrays.push((meta, None));
        Ok(())
    }

    fn push_empty(&mut self, name: &str) {
        if self.empty == 0 {
            self.first_empty = name.to_string();
        }
        self.empty += 1;
    }

    fn room(&mut self, name: &str) -> Result<()> {
        self.hold(ARRAY_BYTES + 2 * name.len() as u64)?;
        if self.arrays.len() < MAX_ARRAYS {
            return Ok(());
        }
        Err(Error::refused(format!(
            "its structs and cells hold more than {MAX_ARRAYS} arrays, which is the limit"
        )))
    }

    fn notes(&self) -> Vec<String> {
        match self.empty {
            0 => Vec::new(),
            1 => vec![format!(
                "{} is an empty struct or cell, which holds no array",
                self.first_empty
            )],
            n => vec![format!(
                "{n} empty structs and cells hold no array, the first is {}",
                self.first_empty
            )],
        }
    }
}
