//! netCDF classic (`.nc`): arrays over named dimensions, with attributes. CDF-1, CDF-2 (64-bit
//! offsets) and CDF-5 (64-bit data); read only. netCDF-4 is HDF5.
//!
//! Specification: <https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html>
//! and, for CDF-5, <https://parallel-netcdf.github.io/doc/c-reference/pnetcdf-c/CDF_002d5-file-format-specification.html>.
//! All numbers are big-endian; a count has 4 bytes (CDF-5: 8), an offset 4 (CDF-1) or 8.
//!
//! | bytes | |
//! |---|---|
//! | 0 | `CDF`, then 1, 2 or 5 |
//! | 4 | the number of records; all ones while a file is being written |
//! | then | dimensions, attributes, variables: each a tag (10, 12, 11), a count, the entries |
//! | dimension | name, length; 0 is the dimension of records |
//! | attribute | name, type, count, values |
//! | variable | name, count of dimensions, their numbers, attributes, type, bytes, offset |
//! | data | variables without the dimension of records, one after the other; then the records, each with a part of all others |
//!
//! Names and values are filled up to 4 bytes, and so is each variable's part of a record, unless it
//! is the only one. Characters of several dimensions are text: the last one is its length, as the
//! CF conventions say. So are those of one dimension with an attribute `_Encoding`.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Number, Value};

use crate::array::element::{Convert, Fill, Padding};
use crate::array::source::MapSource;
use crate::array::text_codes::coded;
use crate::array::{ArrayMap, CodecPipeline, Element, Grid};
use crate::error::{Error, Result};
use crate::format::{Format, Head, ReadOptions, Sniff, Source, Spec};
use crate::formats::hierarchical::attributes::{DIMENSIONS, ENCODING, TYPES, decoded};
use crate::model::json_float;
use crate::model::{ArrayMeta, Attributes, Dtype, Facts, Logical, Plan, checked_product};
use crate::storage::{Blob, BlobSlice, Forward, Location};

/// The format.
pub struct Netcdf3;

static SPEC: Spec = Spec {
    name: "netcdf3",
    extensions: &["nc", "nc3", "cdf"],
    about: "netCDF classic (CDF-1, 2 and 5): variables, records, attributes",
    ..Spec::DEFAULT
};

impl Format for Netcdf3 {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        let known = matches!(head.bytes, [b'C', b'D', b'F', 1 | 2 | 5, ..]);
        Ok(if known { Sniff::Yes } else { Sniff::No })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let blob = at.blob()?;
        let header = Cursor::new(blob.clone(), options.resources.memory_bytes())?.header()?;
        let mut maps = Vec::with_capacity(header.variables.len());
        let mut arrays = Vec::with_capacity(header.variables.len());
        for variable in &header.variables {
            let (meta, map) = header.array(variable, &blob).map_err(|e| e.array(&variable.name))?;
            arrays.push(meta);
            maps.push(Some(map));
        }
        let plan = Plan {
            format: SPEC.name,
            format_version: Some(format!("CDF-{}", header.version)),
            arrays: arrays.into(),
            attributes: header.attributes.into(),
            ..Plan::default()
        };
        let memory = options.resources.memory_bytes();
        Ok(coded(Box::new(MapSource::new(plan, maps, memory)), memory))
    }
}

/// What the header says.
struct Header {
    version: u8,
    dimensions: Vec<Dimension>,
    attributes: Attributes,
    variables: Vec<Variable>,
    /// How many records there are.
    records: u64,
    /// Bytes of a record of all variables.
    record_bytes: u64,
}

struct Dimension {
    name: String,
    /// 0 for the dimension of records.
    length: u64,
}

struct Variable {
    name: String,
    dimensions: Vec<usize>,
    attributes: Attributes,
    element: ElementType,
    offset: u64,
    /// Bytes of its values, of one record where it has records.
    bytes: u64,
    has_records: bool,
}

/// A type of the specification.
#[derive(Clone, Copy, PartialEq)]
enum ElementType {
    Char,
    Number(Dtype),
}

impl ElementType {
    /// By its number; those past 6 are of CDF-5.
    fn of(number: u32, version: u8) -> Result<ElementType> {
        Ok(ElementType::Number(match number {
            1 => Dtype::I8,
            2 => return Ok(ElementType::Char),
            3 => Dtype::I16,
            4 => Dtype::I32,
            5 => Dtype::F32,
            6 => Dtype::F64,
            7 if version == 5 => Dtype::U8,
            8 if version == 5 => Dtype::U16,
            9 if version == 5 => Dtype::U32,
            10 if version == 5 => Dtype::I64,
            11 if version == 5 => Dtype::U64,
            _ => return Err(Error::corrupt(format!("there is no type {number} in CDF-{version}"))),
        }))
    }
    fn bytes(self) -> u64 {
        match self {
            ElementType::Char => 1,
            ElementType::Number(dtype) => dtype.item_bytes(),
        }
    }
}

/// Reads the header forwards.
struct Cursor {
    bytes: Forward,
    version: u8,
}

/// About what a dimension, an attribute or a variable takes in memory, and a number of JSON.
const ENTRY_BYTES: u64 = 256;
const NUMBER_BYTES: u64 = 64;
const WINDOW_BYTES: u64 = 64 << 10;
/// What a count of records says while a file is being written.
const STREAMING: [u64; 2] = [u32::MAX as u64, u64::MAX];

impl Cursor {
    fn new(blob: Arc<dyn Blob>, memory_bytes: u64) -> Result<Cursor> {
        let mut bytes = Forward::new(blob, WINDOW_BYTES, memory_bytes);
        let version = match bytes.take(4)? {
            [b'C', b'D', b'F', version @ (1 | 2 | 5)] => *version,
            _ => return Err(Error::corrupt("this is not a netCDF classic file")),
        };
        Ok(Cursor { bytes, version })
    }

    /// The next bytes, and what fills them up to four.
    fn padded(&mut self, len: u64) -> Result<&[u8]> {
        let whole = len.checked_next_multiple_of(4).unwrap_or(u64::MAX);
        // At the end of a file that has no data, some writers leave the filling out.
        let whole = if whole > self.bytes.left() { len } else { whole };
        // It stays, as text or as numbers.
        self.bytes.hold(whole.min(self.bytes.left()))?;
        Ok(&self.bytes.take(whole)?[..len as usize])
    }
    fn u32(&mut self) -> Result<u32> {
        let bytes = self.bytes.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }
    /// A count or a length.
    fn count(&mut self) -> Result<u64> {
        if self.version == 5 { self.u64() } else { self.u32().map(u64::from) }
    }
    fn offset(&mut self) -> Result<u64> {
        if self.version == 1 { self.u32().map(u64::from) } else { self.u64() }
    }
    fn name(&mut self) -> Result<String> {
        let len = self.count()?;
        let bytes = self.padded(len)?;
        match std::str::from_utf8(bytes) {
            Ok(name) if !name.is_empty() => Ok(name.to_string()),
            _ => Err(Error::corrupt(format!("{:?} is not a name", String::from_utf8_lossy(bytes)))),
        }
    }
    /// A list: `tag` and a count, or two zeros. Each entry takes at least `least` bytes.
    fn list(&mut self, tag: u32, what: &str, least: u64) -> Result<u64> {
        let found = self.u32()?;
        let count = self.count()?;
        if found != tag && (found != 0 || count != 0) {
            return Err(Error::corrupt(format!("the list of {what} begins with the tag {found}")));
        }
        self.bytes.check_count(count, least, what)?;
        self.bytes.hold(count.saturating_mul(ENTRY_BYTES))?;
        Ok(count)
    }

    fn attributes(&mut self) -> Result<Attributes> {
        let mut attributes = Attributes::new();
        let mut types = Map::new();
        for _ in 0..self.list(12, "attributes", 12)? {
            let name = self.name()?;
            let element = ElementType::of(self.u32()?, self.version)?;
            let count = self.count()?;
            if let ElementType::Number(_) = element {
                let left = self.bytes.left();
                self.bytes.hold(count.min(left).saturating_mul(NUMBER_BYTES))?;
            }
            let bytes = self.padded(count.saturating_mul(element.bytes()))?;
            let value = match element {
                ElementType::Char => {
                    let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
                    match std::str::from_utf8(text) {
                        Ok(text) => text.into(),
                        // As attributes of HDF5 have it.
                        Err(_) => {
                            let spec = format!("base64:string:ascii:{}()", text.len());
                            types.insert(name.clone(), spec.into());
                            BASE64.encode(text).into()
                        }
                    }
                }
                ElementType::Number(dtype) => {
                    let shape = if count == 1 { String::new() } else { count.to_string() };
                    types.insert(name.clone(), format!("{}({shape})", dtype.name()).into());
                    let mut all: Vec<Value> = bytes
                        .chunks_exact(element.bytes() as usize)
                        .map(|b| number(dtype, b))
                        .collect();
                    if count == 1 { all.remove(0) } else { all.into() }
                }
            };
            if [TYPES, DIMENSIONS].contains(&name.as_str()) {
                let text = format!("an attribute is called '{name}', which npk needs itself");
                return Err(Error::refused(text));
            }
            if attributes.insert(name.clone(), value).is_some() {
                return Err(Error::corrupt(format!("the attribute '{name}' appears twice")));
            }
        }
        if !types.is_empty() {
            attributes.insert(TYPES.into(), types.into());
        }
        Ok(attributes)
    }

    fn header(mut self) -> Result<Header> {
        let version = self.version;
        let records = self.count()?;
        let mut dimensions = Vec::new();
        for _ in 0..self.list(10, "dimensions", 8)? {
            dimensions.push(Dimension { name: self.name()?, length: self.count()? });
        }
        let attributes = self.attributes()?;
        let mut variables = Vec::new();
        let mut names = HashSet::new();
        for _ in 0..self.list(11, "variables", 32)? {
            let variable = self.variable(&dimensions)?;
            if !names.insert(variable.name.clone()) {
                let text = format!("the variable '{}' appears twice", variable.name);
                return Err(Error::corrupt(text));
            }
            variables.push(variable);
        }
        let mut header =
            Header { version, dimensions, attributes, variables, records, record_bytes: 0 };
        header.count_records(self.bytes.position() + self.bytes.left())?;
        Ok(header)
    }

    fn variable(&mut self, dimensions: &[Dimension]) -> Result<Variable> {
        let name = self.name()?;
        let about = |e: Error| e.array(&name);
        let rank = self.list_len("dimensions").map_err(about)?;
        let mut own = Vec::new();
        for _ in 0..rank {
            let number = self.count()?;
            let known = usize::try_from(number).ok().filter(|&n| n < dimensions.len());
            own.push(
                known.ok_or_else(|| {
                    about(Error::corrupt(format!("there is no dimension {number}")))
                })?,
            );
        }
        let attributes = self.attributes().map_err(about)?;
        let element = ElementType::of(self.u32()?, self.version).map_err(about)?;
        // The size is redundant, and too small a number for large variables.
        self.count()?;
        let offset = self.offset()?;
        let has_records = own.first().is_some_and(|&d| dimensions[d].length == 0);
        let lengths: Vec<u64> =
            own.iter().skip(usize::from(has_records)).map(|&d| dimensions[d].length).collect();
        if lengths.contains(&0) {
            let text = "the dimension of records is not its first one";
            return Err(about(Error::corrupt(text)));
        }
        let bytes = checked_product(&lengths)
            .and_then(|n| n.checked_mul(element.bytes()))
            .ok_or_else(|| about(Error::corrupt(format!("its shape {lengths:?} overflows"))))?;
        Ok(Variable { name, dimensions: own, attributes, element, offset, bytes, has_records })
    }
    /// A count without a tag, of entries of a count's size.
    fn list_len(&mut self, what: &str) -> Result<u64> {
        let count = self.count()?;
        let left = self.bytes.left();
        if count > left / 4 {
            return Err(Error::corrupt(format!("it claims {count} {what}, {left} bytes follow")));
        }
        Ok(count)
    }
}

/// A big-endian number as JSON.
fn number(dtype: Dtype, big_endian: &[u8]) -> Value {
    let mut bytes = big_endian.to_vec();
    bytes.reverse();
    json_float::to_json(dtype, &bytes).unwrap_or_else(|| {
        let negative = big_endian[0] & 0x80 != 0;
        let signed = matches!(dtype, Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64);
        let mut wide = [if signed && negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(&bytes);
        if signed {
            Number::from(i64::from_le_bytes(wide)).into()
        } else {
            Number::from(u64::from_le_bytes(wide)).into()
        }
    })
}

impl Header {
    /// Finds the size of a record, and how many there are where the header does not say.
    fn count_records(&mut self, file_bytes: u64) -> Result<()> {
        let of_records = || self.variables.iter().filter(|v| v.has_records);
        let alone = of_records().count() == 1;
        let overflow = || Error::corrupt("the size of a record overflows");
        self.record_bytes = of_records()
            .map(|v| if alone { Some(v.bytes) } else { v.bytes.checked_next_multiple_of(4) })
            .try_fold(0u64, |sum, bytes| sum.checked_add(bytes?))
            .ok_or_else(overflow)?;
        let streaming = STREAMING[usize::from(self.version == 5)];
        if self.records == streaming {
            let first = of_records().map(|v| v.offset).min().unwrap_or(file_bytes);
            let held = file_bytes.saturating_sub(first);
            self.records = held.checked_div(self.record_bytes).unwrap_or(0);
        }
        Ok(())
    }

    /// What a variable is, and where its values are.
    fn array(&self, variable: &Variable, blob: &Arc<dyn Blob>) -> Result<(ArrayMeta, ArrayMap)> {
        let mut shape: Vec<u64> =
            variable.dimensions.iter().map(|&d| self.dimensions[d].length).collect();
        if variable.has_records {
            shape[0] = self.records;
        }
        let records = if variable.has_records { self.records } else { 1 };
        // Where there are no records, the offset is that of one to come.
        let offset = if records == 0 { 0 } else { variable.offset };
        let end = match records {
            0 => Some(0),
            n => (n - 1)
                .checked_mul(self.record_bytes)
                .and_then(|bytes| bytes.checked_add(variable.bytes)?.checked_add(offset)),
        };
        let have = blob.len();
        let end = end.filter(|&end| end <= have).ok_or_else(|| {
            let need = end.map_or("more than 2^64".into(), |end| end.to_string());
            Error::corrupt(format!(
                "the file is truncated: the values end at byte {need}, the file has {have} bytes"
            ))
            .hint("fetch the file again")
        })?;
        let names: Vec<Value> =
            variable.dimensions.iter().map(|&d| self.dimensions[d].name.as_str().into()).collect();
        let mut attributes = variable.attributes.clone();
        if !names.is_empty() {
            attributes.insert(DIMENSIONS.into(), names.into());
        }
        let (dtype, convert, bytes, stored) = match variable.element {
            ElementType::Number(dtype) => {
                let size = dtype.item_bytes() as usize;
                let convert = if size == 1 { Convert::Nothing } else { Convert::Swap(size) };
                (dtype, convert, size, None)
            }
            // The last of several dimensions is the length of the text. Characters of one dimension
            // may be one text or a text each: an encoding says that they are one.
            ElementType::Char => {
                let is_one = !variable.has_records && attributes.contains_key(ENCODING);
                let is_joined = shape.len() > usize::from(!is_one);
                let width = shape.pop_if(|_| is_joined).unwrap_or(1);
                if shape.is_empty() {
                    attributes.shift_remove(DIMENSIONS);
                } else if let Some(Value::Array(names)) = attributes.get_mut(DIMENSIONS) {
                    names.truncate(shape.len());
                }
                decoded(&mut attributes);
                let width = usize::try_from(width)
                    .map_err(|_| Error::refused(format!("its texts have {width} characters")))?;
                let convert = Convert::Padded(Padding::Text(Fill::Zeros));
                (Dtype::U8, convert, width, Some(format!("{width} characters")))
            }
        };
        let mut meta = ArrayMeta::new(variable.name.clone(), dtype, &shape);
        if variable.element == ElementType::Char {
            meta.logical = Logical::Text;
        }
        meta.details = Facts {
            stored_dtype: stored,
            stored_bytes: Some(records.saturating_mul(variable.bytes)),
            attributes,
            ..Facts::default()
        }
        .into();
        let grid = if variable.has_records && self.record_bytes != variable.bytes {
            let mut strides = c_strides(&shape, bytes as u64);
            strides[0] = self.record_bytes;
            Grid::Strided(strides)
        } else {
            Grid::Whole
        };
        let slice = BlobSlice { blob: blob.clone(), start: offset, len: end - offset };
        let element = Element { bytes, field: None, convert };
        let (pieces, codecs) = (Arc::new(slice), CodecPipeline::none());
        Ok((meta, ArrayMap { shape, grid, pieces, codecs, element, fill: Vec::new() }))
    }
}

/// Bytes from one element to the next along each dimension, in C order.
fn c_strides(shape: &[u64], item_bytes: u64) -> Vec<u64> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = item_bytes;
    for &n in shape.iter().rev() {
        strides.push(stride);
        stride = stride.saturating_mul(n);
    }
    strides.reverse();
    strides
}
