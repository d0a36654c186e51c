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

use crate::array::source::MapSource;
use crate::array::text_codes::coded;
use crate::error::{Error, Result};
use crate::format::{Format, Head, ReadOptions, Sniff, Source, Spec, duplicates, foreign_file};
use crate::model::{ArrayMeta, Plan};
use crate::storage::{BlobSlice, Location};

mod element;
mod found;
mod packed;
mod text;
mod values;
mod version4;
mod version5;

use found::FoundArrays;

/// The format.
pub struct Matlab;

static SPEC: Spec = Spec {
    name: "mat",
    extensions: &["mat"],
    about: "MATLAB before 7.3 (versions 4 and 5): numbers, text, sparse, structs and cells as arrays",
    ..Spec::DEFAULT
};

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
        let (format_version, notes) = (Some(version.into()), found.notes());
        let place = |i: usize| format!("array {i} of the file");
        let arrays = duplicates::unique_arrays(found.arrays, options.on_duplicate, &place)?;
        let (metas, maps): (Vec<ArrayMeta>, Vec<_>) = arrays.into_iter().unzip();
        let plan = Plan {
            format: SPEC.name,
            format_version,
            notes,
            arrays: metas.into(),
            ..Plan::default()
        };
        let memory = options.resources.memory_bytes();
        Ok(coded(Box::new(MapSource::new(plan, maps, memory)), memory))
    }
}
