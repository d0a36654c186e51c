//! Types of the file, taken apart into leaves.

use std::ffi::c_int;

use super::element_type::{ElementType, Float, TypeLeaf};
use super::ffi;
use super::library::{self, Id, Library};
use crate::array::element::Fill;
use crate::error::{Error, Result};
use crate::model::{Attributes, TimeUnit};

const MAX_DEPTH: usize = 16;
const MAX_LEAVES: usize = 10_000;

/// What a type is that has no others inside, and the names of an enumeration's values; or why it
/// cannot be read.
type Plain = Result<(ElementType, Option<Attributes>), Reason>;

/// The leaves of a type, of a file whose references into heaps have so many bytes.
///
/// # Errors
/// A type that the library cannot describe.
pub(super) fn leaves(lib: &Library, kind: &Id, reference_bytes: usize) -> Result<Vec<TypeLeaf>> {
    let mut found = Vec::new();
    flatten_type(lib, kind, &TypeLeaf::default(), 0, &mut found)?;
    for leaf in &mut found {
        if let ElementType::Variable { bytes } | ElementType::Sequence { bytes, .. } =
            &mut leaf.kind
        {
            *bytes = reference_bytes;
        }
    }
    Ok(found)
}

/// Adds the leaves of a type that is at `place`: below these fields, at this offset, in these
/// lists.
fn flatten_type(
    lib: &Library,
    kind: &Id,
    place: &TypeLeaf,
    depth: usize,
    found: &mut Vec<TypeLeaf>,
) -> Result<()> {
    if depth > MAX_DEPTH || found.len() >= MAX_LEAVES {
        return Err(Error::refused(format!(
            "a type with more than {MAX_DEPTH} levels or {MAX_LEAVES} fields is not supported"
        )));
    }
    let (class, bytes) = (lib.H5Tget_class(kind.raw()), lib.H5Tget_size(kind.raw()));
    if bytes == 0 {
        return Err(library::failure("a type is damaged"));
    }
    let plain = match class {
        ffi::COMPOUND => match complex(lib, kind)? {
            Some(part) => Ok((ElementType::Complex(part), None)),
            None => {
                for m in 0..members(lib, kind)? {
                    let (name, member) = member(lib, kind, m)?;
                    let mut place = place.clone();
                    let at = lib.H5Tget_member_offset(kind.raw(), m);
                    place.offset = place.offset.saturating_add(at);
                    place.fields.push(name);
                    flatten_type(lib, &member, &place, depth + 1, found)?;
                }
                return Ok(());
            }
        },
        ffi::ARRAY => {
            let (base, dims) = list(lib, kind, bytes)?;
            let mut place = place.clone();
            place.dims.extend(dims);
            return flatten_type(lib, &base, &place, depth + 1, found);
        }
        _ => plain(lib, kind, class, bytes)?,
    };
    let (kind, names, error) = match plain {
        Ok((kind, names)) => (kind, names, None),
        Err(why) => (ElementType::Other { bytes }, None, Some(why)),
    };
    found.push(TypeLeaf { kind, names, error, bits: class == ffi::BITFIELD, ..place.clone() });
    Ok(())
}

/// The base of an array type, and its dimensions with the bytes from one item to the next.
fn list(lib: &Library, kind: &Id, bytes: usize) -> Result<(Id, Vec<(u64, usize)>)> {
    let damaged = "an array type is damaged";
    let mut dims = [0u64; 32];
    let rank = lib.H5Tget_array_ndims(kind.raw());
    if !(1..=32).contains(&rank) {
        return Err(library::failure(damaged));
    }
    // SAFETY: an array type has at most 32 dimensions.
    let code = unsafe { lib.H5Tget_array_dims2(kind.raw(), dims.as_mut_ptr()) };
    library::check(code, damaged)?;
    let base = Id::new(lib.H5Tget_super(kind.raw()), damaged)?;
    let mut stride = lib.H5Tget_size(base.raw());
    let mut all = Vec::new();
    for &n in dims[..rank as usize].iter().rev() {
        all.push((n, stride));
        let next = usize::try_from(n).ok().and_then(|n| stride.checked_mul(n));
        stride = next
            .filter(|&stride| stride <= bytes)
            .ok_or_else(|| Error::corrupt("an array type is larger than its elements"))?;
    }
    all.reverse();
    Ok((base, all))
}

/// What a type is that has no others inside.
fn plain(lib: &Library, kind: &Id, class: c_int, bytes: usize) -> Result<Plain> {
    let id = kind.raw();
    let numbers = |kind: Result<ElementType, Reason>| kind.map(|kind| (kind, None));
    let refused = |what: &str| Ok(Err(what.to_string()));
    match class {
        ffi::INTEGER | ffi::BITFIELD => Ok(numbers(int(lib, kind, bytes, class == ffi::BITFIELD)?)),
        ffi::FLOAT => Ok(numbers(float(lib, kind, bytes)?.map(ElementType::Float))),
        ffi::COMPLEX => {
            let base = Id::new(lib.H5Tget_super(id), "a complex type is damaged")?;
            Ok(match float(lib, &base, bytes / 2)? {
                Ok(f) if f.is_part() => Ok((ElementType::Complex(f), None)),
                _ => Err(format!("complex numbers of {bytes} bytes are not supported")),
            })
        }
        ffi::ENUM => enumeration(lib, kind, bytes),
        ffi::STRING => Ok(Ok((
            match (lib.H5Tis_variable_str(id) > 0, lib.H5Tget_strpad(id)) {
                (true, _) => ElementType::Variable { bytes },
                (_, ffi::NULL_TERMINATED) => ElementType::Fixed { bytes, fill: Fill::AfterZero },
                (_, ffi::SPACE_PADDED) => ElementType::Fixed { bytes, fill: Fill::Blanks },
                _ => ElementType::Fixed { bytes, fill: Fill::Zeros },
            },
            None,
        ))),
        ffi::OPAQUE => {
            let tag = String::from_utf8_lossy(&lib.tag(id)).into_owned();
            let time = numpy_time(&tag).filter(|_| bytes == 8).map(|time| (time, None));
            let refused = format!("opaque values of {bytes} bytes (tag {tag:?}) are not supported");
            Ok(time.ok_or(refused))
        }
        ffi::REFERENCE => {
            refused("references to objects or regions have no meaning outside of their file")
        }
        ffi::VLEN => sequence(lib, kind, bytes),
        ffi::TIME => refused("the type class H5T_TIME is not supported"),
        other => refused(&format!("the type class {other} is not known")),
    }
}

/// Sequences of numbers. What is in others is not looked at: they may be nested without end.
fn sequence(lib: &Library, kind: &Id, bytes: usize) -> Result<Plain> {
    let base = Id::new(lib.H5Tget_super(kind.raw()), "a sequence type is damaged")?;
    let (class, size) = (lib.H5Tget_class(base.raw()), lib.H5Tget_size(base.raw()));
    if size == 0 {
        return Err(library::failure("a sequence type is damaged"));
    }
    let item = match class {
        ffi::INTEGER | ffi::BITFIELD | ffi::FLOAT | ffi::COMPLEX | ffi::ENUM => {
            plain(lib, &base, class, size)?.map(|(kind, _)| kind)
        }
        ffi::COMPOUND => match complex(lib, &base)? {
            Some(part) => Ok(ElementType::Complex(part)),
            None => Err("variable-length sequences of records are not supported".into()),
        },
        _ => Err("variable-length sequences of other values than numbers are not supported".into()),
    };
    Ok(item.map(|item| (ElementType::Sequence { bytes, item: Box::new(item) }, None)))
}

fn enumeration(lib: &Library, kind: &Id, bytes: usize) -> Result<Plain> {
    let base = Id::new(lib.H5Tget_super(kind.raw()), "an enumeration is damaged")?;
    let int = match int(lib, &base, bytes, false)? {
        Ok(int) => int,
        Err(why) => return Ok(Err(why)),
    };
    let names = enum_names(lib, kind, &int, bytes)?;
    let value = |name: &str| names.get(name).and_then(serde_json::Value::as_i64);
    let is_bool = names.len() == 2 && value("FALSE") == Some(0) && value("TRUE") == Some(1);
    Ok(Ok(match int {
        ElementType::Int { bytes, big, .. } if is_bool => (ElementType::Bool { bytes, big }, None),
        _ => (int, Some(names)),
    }))
}

fn members(lib: &Library, kind: &Id) -> Result<u32> {
    u32::try_from(lib.H5Tget_nmembers(kind.raw()))
        .map_err(|_| library::failure("a type is damaged"))
}

fn member(lib: &Library, kind: &Id, m: u32) -> Result<(String, Id)> {
    let name = lib.member_name(kind, m)?;
    let member = Id::new(lib.H5Tget_member_type(kind.raw(), m), "a type is damaged")?;
    Ok((String::from_utf8_lossy(&name).into_owned(), member))
}

/// h5py's complex numbers: a compound of two equal numbers named r and i, one after the other.
fn complex(lib: &Library, kind: &Id) -> Result<Option<Float>> {
    if members(lib, kind)? != 2 {
        return Ok(None);
    }
    let (re, first) = member(lib, kind, 0)?;
    let (im, second) = member(lib, kind, 1)?;
    if (re.as_str(), im.as_str()) != ("r", "i") {
        return Ok(None);
    }
    let (classes, sizes, offsets) = (
        (lib.H5Tget_class(first.raw()), lib.H5Tget_class(second.raw())),
        (lib.H5Tget_size(first.raw()), lib.H5Tget_size(second.raw()), lib.H5Tget_size(kind.raw())),
        (lib.H5Tget_member_offset(kind.raw(), 0), lib.H5Tget_member_offset(kind.raw(), 1)),
    );
    let n = sizes.0;
    if classes != (ffi::FLOAT, ffi::FLOAT) || sizes.1 != n || sizes.2 != 2 * n || offsets != (0, n)
    {
        return Ok(None);
    }
    match (float(lib, &first, n)?, float(lib, &second, n)?) {
        (Ok(a), Ok(b)) if a == b && a.is_part() => Ok(Some(a)),
        _ => Ok(None),
    }
}

/// Why a type is not supported.
type Reason = String;

fn order(lib: &Library, kind: &Id) -> Result<bool, Reason> {
    match lib.H5Tget_order(kind.raw()) {
        ffi::LITTLE_ENDIAN | ffi::NO_ORDER => Ok(false),
        ffi::BIG_ENDIAN => Ok(true),
        ffi::VAX_ORDER => Err("numbers in VAX byte order are not supported".into()),
        _ => Err("numbers in an unknown byte order are not supported".into()),
    }
}

fn int(
    lib: &Library,
    kind: &Id,
    bytes: usize,
    unsigned: bool,
) -> Result<Result<ElementType, Reason>> {
    if bytes > 8 {
        return Ok(Err(format!("integers of {bytes} bytes are not supported")));
    }
    let (bits, first, sign) = (
        lib.H5Tget_precision(kind.raw()),
        lib.H5Tget_offset(kind.raw()),
        lib.H5Tget_sign(kind.raw()),
    );
    let (Ok(first), true) = (u32::try_from(first), (1..=8 * bytes).contains(&bits)) else {
        return Err(library::failure("an integer type is damaged"));
    };
    let bits = bits as u32;
    if first + bits > 8 * bytes as u32 {
        return Err(Error::corrupt("an integer type has more bits than its bytes"));
    }
    Ok(order(lib, kind).map(|big| ElementType::Int {
        bytes,
        big,
        signed: !unsigned && sign == ffi::TWOS_COMPLEMENT,
        first,
        bits,
    }))
}

fn float(lib: &Library, kind: &Id, bytes: usize) -> Result<Result<Float, Reason>> {
    if bytes > 16 {
        return Ok(Err(format!("floating-point numbers of {bytes} bytes are not supported")));
    }
    let (mut sign, mut exponent, mut exponent_bits, mut mantissa, mut mantissa_bits) =
        (0, 0, 0, 0, 0);
    // SAFETY: an open type.
    let (code, bias, norm) = unsafe {
        let code = lib.H5Tget_fields(
            kind.raw(),
            &mut sign,
            &mut exponent,
            &mut exponent_bits,
            &mut mantissa,
            &mut mantissa_bits,
        );
        (code, lib.H5Tget_ebias(kind.raw()), lib.H5Tget_norm(kind.raw()))
    };
    library::check(code, "a floating-point type is damaged")?;
    let total = 8 * bytes;
    let inside = |at: usize, n: usize| at < 256 && n < 256 && at + n <= total;
    if !inside(sign, 1)
        || !inside(exponent, exponent_bits)
        || !inside(mantissa, mantissa_bits)
        || exponent_bits == 0
        || mantissa_bits == 0
    {
        return Err(Error::corrupt("a floating-point type has fields outside of its bytes"));
    }
    if exponent_bits > 30 || bias > 1 << 31 || !(0..=2).contains(&norm) || mantissa_bits > 120 {
        return Ok(Err(format!(
            "floating-point numbers with {exponent_bits} bits of exponent are not supported"
        )));
    }
    Ok(order(lib, kind).map(|big| Float {
        bytes,
        big,
        sign: sign as u32,
        exponent: exponent as u32,
        exponent_bits: exponent_bits as u32,
        mantissa: mantissa as u32,
        mantissa_bits: mantissa_bits as u32,
        bias: bias as u64,
        norm,
    }))
}

fn enum_names(lib: &Library, kind: &Id, int: &ElementType, bytes: usize) -> Result<Attributes> {
    let mut names = Attributes::new();
    for m in 0..members(lib, kind)? {
        let mut value = [0u8; 16];
        let name = lib.member_name(kind, m)?;
        // SAFETY: the value has at most 8 bytes (checked by `int`).
        let code = unsafe { lib.H5Tget_member_value(kind.raw(), m, value.as_mut_ptr().cast()) };
        library::check(code, "an enumeration is damaged")?;
        let value = int.convert(value[..bytes].to_vec(), 0)?;
        names.insert(String::from_utf8_lossy(&name).into_owned(), int_json(int, &value));
    }
    Ok(names)
}

/// A converted integer as JSON.
pub(super) fn int_json(kind: &ElementType, value: &[u8]) -> serde_json::Value {
    let signed = matches!(kind, ElementType::Int { signed: true, .. });
    let mut wide =
        [if signed && value.last().is_some_and(|b| b & 0x80 != 0) { 0xFF } else { 0 }; 8];
    let n = value.len().min(8);
    wide[..n].copy_from_slice(&value[..n]);
    if signed { i64::from_le_bytes(wide).into() } else { u64::from_le_bytes(wide).into() }
}

/// `NUMPY:<M8[ns]`, as h5py tags the times of numpy.
fn numpy_time(tag: &str) -> Option<ElementType> {
    let text = tag.strip_prefix("NUMPY:")?;
    let big = text.starts_with('>');
    let text = text.trim_start_matches(['<', '>', '=', '|']);
    let (delta, rest) = match text.strip_prefix("M8") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("m8")?),
    };
    let unit = match rest {
        "" => TimeUnit::new("generic"),
        _ => TimeUnit::parse(rest.strip_prefix('[')?.strip_suffix(']')?)?,
    };
    Some(ElementType::Time { unit, delta, big })
}
