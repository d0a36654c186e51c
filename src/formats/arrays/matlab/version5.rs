//! Version 5: elements, and the matrices in them, down to the arrays.

use std::sync::Arc;

use super::element::{Cursor, MATRIX, PACKED, Tag, name_text, stored_dtype};
use super::found::FoundArrays;
use super::packed::{Packed, Unpacked};
use super::text;
use super::values::{Numbers, Stored};
use super::version4::plain;
use crate::array::{ArrayMap, Element};
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Dtype, checked_product};
use crate::storage::{Blob, BlobSlice};

const HEADER_BYTES: u64 = 128;
const MAX_DEPTH: usize = 64;
/// The longest name, and the most bytes of all field names of a struct.
const MAX_NAME: u64 = 64 << 10;
const MAX_FIELDS: u64 = 16 << 20;

/// The byte order that the header shows (`true`: big-endian); `None` where it is no such header.
pub(super) fn byte_order(head: &[u8]) -> Option<bool> {
    match head.get(124..128)? {
        [0, 1, b'I', b'M'] => Some(false),
        [1, 0, b'M', b'I'] => Some(true),
        _ => None,
    }
}

/// Finds the arrays of all elements.
///
/// # Errors
/// Corrupt; refused where there are too many.
pub(super) fn read(file: &BlobSlice, big: bool, found: &mut FoundArrays) -> Result<()> {
    let kept = Unpacked::new(found.memory_bytes);
    let mut top = Cursor::new(file.blob.clone(), big, HEADER_BYTES, file.len);
    let mut head = [0; 8];
    file.blob.read_at(116, &mut head)?;
    // The subsystem's data, which opaque objects refer to, are a nameless matrix.
    let subsystem = if big { u64::from_be_bytes(head) } else { u64::from_le_bytes(head) };
    while !top.is_at_end() {
        let at = top.at;
        let tag = top.tag("an element", false)?;
        if tag.kind == PACKED {
            let packed = Packed::new(top.slice(&tag), big, kept.clone())?;
            let len = packed.len();
            let mut inner = Cursor::new(Arc::new(packed), big, 0, len);
            let tag = inner.tag("a packed element", true)?;
            element(&inner, &tag, at == subsystem, found)?;
        } else {
            // Plain ones are filled up, where they are not the last.
            top.at = tag.next.next_multiple_of(8).min(top.end);
            element(&top, &tag, at == subsystem, found)?;
        }
    }
    Ok(())
}

fn element(cursor: &Cursor, tag: &Tag, subsystem: bool, found: &mut FoundArrays) -> Result<()> {
    if tag.kind != MATRIX {
        return Err(Error::corrupt(format!(
            "the element at byte {} is of type {}, a matrix is expected",
            tag.start, tag.kind
        )));
    }
    let matrix = Matrix::parse(cursor, tag)?;
    let name = matrix.as_ref().map(|m| m.name.clone()).unwrap_or_default();
    if name.is_empty() && (subsystem || matrix.as_ref().is_some_and(Matrix::is_subsystem)) {
        return Ok(());
    }
    if name.is_empty() {
        return Err(Error::corrupt(format!("the matrix at byte {} has no name", tag.start)));
    }
    visit(matrix, &name, 0, found)
}

/// The head of a matrix.
struct Matrix {
    class: u32,
    complex: bool,
    logical: bool,
    dims: Vec<u64>,
    name: String,
    /// What follows the head.
    rest: Cursor,
}

impl Matrix {
    /// `None`: an empty element, which is an empty matrix.
    fn parse(cursor: &Cursor, tag: &Tag) -> Result<Option<Matrix>> {
        if tag.kind != MATRIX {
            return Err(Error::corrupt(format!(
                "the element at byte {} is of type {}, a matrix is expected",
                tag.start, tag.kind
            )));
        }
        if tag.len == 0 {
            return Ok(None);
        }
        let end = tag.start + tag.len;
        let mut rest = Cursor::new(cursor.bytes.clone(), cursor.big, tag.start, end);
        let flags = rest.integers("the flags of a matrix", 64)?;
        let Some(&flags) = flags.first() else {
            return Err(Error::corrupt("a matrix has no flags"));
        };
        let class = flags & 0xff;
        let dims = match class {
            OPAQUE => vec![1, 1],
            _ => rest.integers("the dimensions of a matrix", 4 * 64)?,
        };
        if dims.len() < 2 {
            return Err(Error::corrupt(format!("a matrix has the dimensions {dims:?}")));
        }
        if let Some(&large) = dims.iter().find(|&&d| d > i32::MAX as u32) {
            return Err(Error::corrupt(format!("a matrix has the dimension {}", large as i32)));
        }
        let name = name_text(&rest.name("the name of a matrix", MAX_NAME)?);
        Ok(Some(Matrix {
            class,
            complex: flags & 0x800 != 0,
            logical: flags & 0x200 != 0,
            dims: dims.into_iter().map(u64::from).collect(),
            name,
            rest,
        }))
    }

    fn is_subsystem(&self) -> bool {
        self.class == 9
    }

    fn count(&self) -> Result<u64> {
        checked_product(&self.dims)
            .filter(|&n| n < 1 << 48)
            .ok_or_else(|| Error::corrupt(format!("the shape {:?} is too large", self.dims)))
    }
}

const CELL: u32 = 1;
const STRUCT: u32 = 2;
const OBJECT: u32 = 3;
const CHAR: u32 = 4;
const SPARSE: u32 = 5;
const FUNCTION: u32 = 16;
const OPAQUE: u32 = 17;

/// The type of a numeric class and MATLAB's name for it.
fn numeric(class: u32) -> Option<(Dtype, &'static str)> {
    Some(match class {
        6 => (Dtype::F64, "double"),
        7 => (Dtype::F32, "single"),
        8 => (Dtype::I8, "int8"),
        9 => (Dtype::U8, "uint8"),
        10 => (Dtype::I16, "int16"),
        11 => (Dtype::U16, "uint16"),
        12 => (Dtype::I32, "int32"),
        13 => (Dtype::U32, "uint32"),
        14 => (Dtype::I64, "int64"),
        15 => (Dtype::U64, "uint64"),
        _ => return None,
    })
}

/// Adds the arrays of a matrix.
fn visit(matrix: Option<Matrix>, name: &str, depth: usize, found: &mut FoundArrays) -> Result<()> {
    let Some(matrix) = matrix else {
        let map = ArrayMap::raw(&[0, 0], Element::plain(Dtype::F64), BlobSlice::memory(Vec::new()));
        return found.push(ArrayMeta::new(name, Dtype::F64, &[0, 0]), map);
    };
    if depth > MAX_DEPTH {
        return Err(
            Error::refused(format!("it is nested deeper than {MAX_DEPTH} levels")).array(name)
        );
    }
    let broken =
        |found: &mut FoundArrays, stored: &str, e: Error| found.push_broken(name, stored, e);
    match matrix.class {
        CELL => cell(matrix, name, depth, found),
        STRUCT | OBJECT => structure(matrix, name, depth, found),
        CHAR => match characters(matrix, name, found) {
            Ok((meta, map)) => found.push(meta, map),
            Err(e) => broken(found, "char", e),
        },
        SPARSE => match sparse(matrix, name, found) {
            Ok(arrays) => arrays.into_iter().try_for_each(|(meta, map)| found.push(meta, map)),
            Err(e) => broken(found, "sparse", e),
        },
        FUNCTION => broken(found, "function_handle", unsupported("a function handle")),
        OPAQUE | 18 => {
            let mut rest = matrix.rest;
            let class = rest
                .name("the system of an object", MAX_NAME)
                .and_then(|_| rest.name("the class of an object", MAX_NAME))
                .map(|class| name_text(&class))
                .unwrap_or_default();
            let class: String = class.chars().take(80).collect();
            broken(found, "opaque", unsupported(&format!("an object of the class '{class}'")))
        }
        class => match (numeric(class), matrix.logical) {
            (Some((_, _)), true) => numbers(matrix, Dtype::Bool, "logical", name, found),
            (Some((dtype, class)), false) => numbers(matrix, dtype, class, name, found),
            (None, _) => Err(Error::corrupt(format!("there is no class {class}")).array(name)),
        },
    }
}

fn unsupported(what: &str) -> Error {
    Error::refused(format!("it is {what}, which is not read from MATLAB files"))
        .hint("--skip-unsupported leaves it out")
}

/// The next element, of numbers.
fn stored(cursor: &mut Cursor, what: &str) -> Result<Stored> {
    let tag = cursor.tag(what, true)?;
    let dtype = stored_dtype(tag.kind)
        .ok_or_else(|| Error::corrupt(format!("{what} are stored as the type {}", tag.kind)))?;
    Ok(Stored { dtype, bytes: cursor.slice(&tag), big: cursor.big })
}

fn numbers(
    matrix: Matrix,
    dtype: Dtype,
    class: &'static str,
    name: &str,
    found: &mut FoundArrays,
) -> Result<()> {
    let mut rest = matrix.rest;
    let real = stored(&mut rest, "the values of a matrix").map_err(|e| e.array(name))?;
    let complex = matrix.complex && dtype != Dtype::Bool;
    let numbers = Numbers {
        shape: matrix.dims,
        class,
        dtype,
        real,
        imaginary: complex.then(|| {
            let find = move || stored(&mut rest.clone(), "the imaginary parts of a matrix");
            Box::new(find) as Box<dyn Fn() -> _ + Send + Sync>
        }),
    };
    match numbers.array(name) {
        Ok((meta, map)) => found.push(meta, map),
        Err(e) => found.push_broken(name, class, e),
    }
}

/// The texts of characters.
fn matrix_texts(matrix: Matrix, found: &mut FoundArrays) -> Result<Vec<String>> {
    let mut rest = matrix.rest;
    if matrix.dims.contains(&0) {
        return text::texts(&[], 2, false, &matrix.dims);
    }
    let tag = rest.tag("the characters of a matrix", true)?;
    found.hold(tag.len.saturating_mul(4))?;
    let data = rest.data(&tag, "the text", u64::MAX)?;
    text::texts(&data, tag.kind, rest.big, &matrix.dims)
}

fn characters(
    matrix: Matrix,
    name: &str,
    found: &mut FoundArrays,
) -> Result<(ArrayMeta, ArrayMap)> {
    let shape = matrix.dims[..matrix.dims.len() - 1].to_vec();
    let texts = matrix_texts(matrix, found)?;
    found.hold(24 * texts.len() as u64)?;
    text::array(name, &shape, &texts)
}

/// Compressed columns: row numbers, where columns begin, values.
fn sparse(
    matrix: Matrix,
    name: &str,
    found: &mut FoundArrays,
) -> Result<Vec<(ArrayMeta, ArrayMap)>> {
    let mut rest = matrix.rest;
    let &[rows, columns] = matrix.dims.as_slice() else {
        return Err(Error::corrupt(format!("a sparse matrix has the shape {:?}", matrix.dims)));
    };
    let indices = stored(&mut rest, "the row numbers of a sparse matrix")?;
    let indptr = stored(&mut rest, "the columns of a sparse matrix")?;
    let (i32s, columns_bytes) =
        (|d: Dtype| matches!(d, Dtype::I32 | Dtype::U32), 4 * (columns + 1));
    if !i32s(indices.dtype) || !i32s(indptr.dtype) || indptr.bytes.len != columns_bytes {
        return Err(Error::corrupt("a sparse matrix has row numbers or columns of a wrong size"));
    }
    let last = indptr.values(columns, columns + 1, Dtype::I32)?;
    let nonzero = last.first_chunk::<4>().map_or(0, |b| i32::from_le_bytes(*b));
    let nonzero = u64::try_from(nonzero)
        .map_err(|_| Error::corrupt(format!("a sparse matrix has {nonzero} values")))?;
    // There may be room for more values than there are.
    let first = |mut of: Stored| {
        let bytes = nonzero * of.dtype.item_bytes();
        if bytes > of.bytes.len {
            let have = of.bytes.len / of.dtype.item_bytes();
            return Err(Error::corrupt(format!(
                "a sparse matrix has {nonzero} values, {have} are stored"
            )));
        }
        of.bytes.len = bytes;
        Ok(of)
    };
    let mut values = stored(&mut rest, "the values of a sparse matrix")?;
    if matrix.logical && values.bytes.len < nonzero * values.dtype.item_bytes() {
        // MATLAB calls them doubles, and stores a byte for each.
        values.dtype = Dtype::U8;
    }
    let real = first(values)?;
    let dtype = if matrix.logical { Dtype::Bool } else { Dtype::F64 };
    let complex = matrix.complex && !matrix.logical;
    let imaginary = complex.then(|| {
        let find = move || {
            let mut all = stored(&mut rest.clone(), "the imaginary parts of a sparse matrix")?;
            all.bytes.len = all.bytes.len.min(nonzero * all.dtype.item_bytes());
            Ok(all)
        };
        Box::new(find) as Box<dyn Fn() -> _ + Send + Sync>
    });
    let class = if matrix.logical { "logical" } else { "double" };
    let one = |part: &str, shape, dtype, class, real, imaginary| {
        Numbers { shape: vec![shape], class, dtype, real, imaginary }
            .array(&format!("{name}.{part}"))
    };
    found.hold(64)?;
    Ok(vec![
        one("data", nonzero, dtype, class, real, imaginary)?,
        one("indices", nonzero, Dtype::I32, "int32", first(indices)?, None)?,
        one("indptr", columns + 1, Dtype::I32, "int32", indptr, None)?,
        plain(
            format!("{name}.shape"),
            Dtype::I64,
            bytemuck::cast_slice(&[rows as i64, columns as i64]),
        ),
    ])
}

/// The place in C order of the `k`th element of the file's order.
fn c_order(mut k: u64, dims: &[u64]) -> u64 {
    let total: u64 = dims.iter().product();
    let (mut place, mut stride) = (0, total);
    for &n in dims {
        stride /= n;
        place += k % n * stride;
        k /= n;
    }
    place
}

/// Counts the elements of a struct or cell, each of which takes at least `least` bytes.
fn elements(matrix: &Matrix, least: u64, name: &str) -> Result<u64> {
    let count = matrix.count().map_err(|e| e.array(name))?;
    let left = matrix.rest.end.saturating_sub(matrix.rest.at);
    if count.saturating_mul(least) > left {
        return Err(
            Error::corrupt(format!("it claims {count} elements, {left} bytes follow")).array(name)
        );
    }
    Ok(count)
}

fn cell(matrix: Matrix, name: &str, depth: usize, found: &mut FoundArrays) -> Result<()> {
    let count = elements(&matrix, 8, name)?;
    if count == 0 {
        found.push_empty(name);
        return Ok(());
    }
    if let Some(texts) = lines(&matrix, count, found)? {
        let (meta, map) = text::array(name, &matrix.dims, &texts)?;
        return found.push(meta, map);
    }
    let mut rest = matrix.rest;
    for k in 0..count {
        let tag = rest.tag("an element of a cell", true).map_err(|e| e.array(name))?;
        let own = Matrix::parse(&rest, &tag).map_err(|e| e.array(name))?;
        visit(own, &format!("{name}.{}", c_order(k, &matrix.dims)), depth + 1, found)?;
    }
    Ok(())
}

/// The texts of a cell in which all elements are one line of characters, or none.
fn lines(matrix: &Matrix, count: u64, found: &mut FoundArrays) -> Result<Option<Vec<String>>> {
    let mut rest = matrix.rest.clone();
    let is_line = |m: &Matrix| {
        m.class == CHAR && m.dims.len() == 2 && (m.dims[0] == 1 || m.dims.contains(&0))
    };
    for _ in 0..count {
        let Ok(tag) = rest.tag("an element of a cell", true) else { return Ok(None) };
        match Matrix::parse(&rest, &tag) {
            Ok(Some(own)) if is_line(&own) => {}
            _ => return Ok(None),
        }
    }
    found.hold(count.saturating_mul(64))?;
    let mut rest = matrix.rest.clone();
    let mut texts = vec![String::new(); count as usize];
    for k in 0..count {
        let tag = rest.tag("an element of a cell", true)?;
        let Some(own) = Matrix::parse(&rest, &tag)? else { return Ok(None) };
        if own.dims.contains(&0) {
            continue;
        }
        match matrix_texts(own, found) {
            Ok(mut one) => texts[c_order(k, &matrix.dims) as usize] = one.remove(0),
            // Each for itself tells which of them it is.
            Err(e) => return e.of_data().map(|_| None),
        }
    }
    Ok(Some(texts))
}

fn structure(matrix: Matrix, name: &str, depth: usize, found: &mut FoundArrays) -> Result<()> {
    let mut matrix = matrix;
    if matrix.class == OBJECT {
        matrix.rest.name("the class of an object", MAX_NAME).map_err(|e| e.array(name))?;
    }
    let width = matrix
        .rest
        .integers("the length of field names", 8)
        .map_err(|e| e.array(name))?
        .first()
        .map_or(0, |&width| width as usize);
    let names = matrix.rest.name("the field names", MAX_FIELDS).map_err(|e| e.array(name))?;
    if width == 0 && !names.is_empty() || width > 0 && !names.len().is_multiple_of(width) {
        let text = format!("{} bytes of field names are not names of {width}", names.len());
        return Err(Error::corrupt(text).array(name));
    }
    let fields: Vec<String> = names.chunks_exact(width.max(1)).map(name_text).collect();
    found.hold(fields.iter().map(|f| 32 + f.len() as u64).sum())?;
    let count = elements(&matrix, 8 * fields.len() as u64, name)?;
    if count == 0 || fields.is_empty() {
        found.push_empty(name);
        return Ok(());
    }
    let mut rest = matrix.rest;
    for k in 0..count {
        let own = match count {
            1 => name.to_string(),
            _ => format!("{name}.{}", c_order(k, &matrix.dims)),
        };
        for field in &fields {
            let tag = rest.tag("a field of a struct", true).map_err(|e| e.array(name))?;
            let value = Matrix::parse(&rest, &tag).map_err(|e| e.array(name))?;
            visit(value, &format!("{own}.{field}"), depth + 1, found)?;
        }
    }
    Ok(())
}
