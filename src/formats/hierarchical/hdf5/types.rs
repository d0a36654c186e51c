//! Types of the file, taken apart into leaves.

use super::c::{self, Id};
use super::ffi;
use super::kind::{Float, Kind, Leaf};
use crate::array::element::Fill;
use crate::error::{Error, Result};
use crate::model::{Attributes, Dtype, TimeUnit};

const DEEPEST: usize = 16;
const MOST_LEAVES: usize = 10_000;

/// Takes a type apart, of a file whose references into heaps have so many bytes.
///
/// # Errors
/// A type that the library cannot describe.
pub(super) fn leaves(kind: &Id, reference_bytes: usize) -> Result<Vec<Leaf>> {
    let mut found = Vec::new();
    let _lock = c::lock();
    take_apart(kind, &[], 0, Vec::new(), 0, &mut found)?;
    for leaf in &mut found {
        if let Kind::Variable { bytes } = &mut leaf.kind {
            *bytes = reference_bytes;
        }
    }
    Ok(found)
}

fn take_apart(
    kind: &Id,
    fields: &[String],
    offset: usize,
    dims: Vec<(u64, usize)>,
    depth: usize,
    found: &mut Vec<Leaf>,
) -> Result<()> {
    if depth > DEEPEST || found.len() >= MOST_LEAVES {
        return Err(Error::refused(format!(
            "a type with more than {DEEPEST} levels or {MOST_LEAVES} fields is not supported"
        )));
    }
    let id = kind.raw();
    // SAFETY: `id` is an open type; under the lock.
    let (class, bytes) = unsafe { (ffi::H5Tget_class(id), ffi::H5Tget_size(id)) };
    if bytes == 0 {
        return Err(c::failure("a type is damaged"));
    }
    let mut leaf = |kind: Kind, names: Option<Attributes>, error: Option<String>| {
        found.push(Leaf {
            fields: fields.to_vec(),
            offset,
            dims: dims.clone(),
            kind,
            names,
            error,
            bits: class == ffi::BITFIELD,
            ..Leaf::default()
        });
    };
    let refuse = |what: &str| (Kind::Other { bytes }, None, Some(what.to_string()));
    match class {
        ffi::COMPOUND => {
            if let Some(part) = complex(kind)? {
                leaf(Kind::Complex(part), None, None);
                return Ok(());
            }
            for m in 0..members(kind)? {
                let (name, member) = member(kind, m)?;
                // SAFETY: as above.
                let at = unsafe { ffi::H5Tget_member_offset(id, m) };
                let mut fields = fields.to_vec();
                fields.push(name);
                take_apart(
                    &member,
                    &fields,
                    offset.saturating_add(at),
                    dims.clone(),
                    depth + 1,
                    found,
                )?;
            }
        }
        ffi::ARRAY => {
            let mut inner = [0u64; 64];
            // SAFETY: an array type has at most 32 dimensions.
            let rank = unsafe { ffi::H5Tget_array_ndims(id) };
            if !(1..=32).contains(&rank) {
                return Err(c::failure("an array type is damaged"));
            }
            // SAFETY: as above.
            c::check(
                unsafe { ffi::H5Tget_array_dims2(id, inner.as_mut_ptr()) },
                "an array type is damaged",
            )?;
            // SAFETY: as above.
            let base = Id::new(unsafe { ffi::H5Tget_super(id) }, "an array type is damaged")?;
            // SAFETY: as above.
            let mut stride = unsafe { ffi::H5Tget_size(base.raw()) };
            let mut added = Vec::new();
            for &n in inner[..rank as usize].iter().rev() {
                added.push((n, stride));
                stride = usize::try_from(n)
                    .ok()
                    .and_then(|n| stride.checked_mul(n))
                    .filter(|&s| s <= bytes)
                    .ok_or_else(|| Error::corrupt("an array type is larger than its elements"))?;
            }
            let mut dims = dims.clone();
            dims.extend(added.into_iter().rev());
            take_apart(&base, fields, offset, dims, depth + 1, found)?;
        }
        ffi::INTEGER | ffi::BITFIELD => match int(kind, bytes, class == ffi::BITFIELD)? {
            Ok(kind) => leaf(kind, None, None),
            Err(why) => {
                let (kind, names, error) = refuse(&why);
                leaf(kind, names, error);
            }
        },
        ffi::FLOAT => {
            let (kind, error) = match float(kind, bytes)? {
                Ok(f) => (Kind::Float(f), None),
                Err(why) => (Kind::Other { bytes }, Some(why)),
            };
            leaf(kind, None, error);
        }
        ffi::COMPLEX => {
            // SAFETY: as above.
            let base = Id::new(unsafe { ffi::H5Tget_super(id) }, "a complex type is damaged")?;
            let (kind, error) = match float(&base, bytes / 2)? {
                Ok(f) if matches!(f.known(), Some(Dtype::F16 | Dtype::F32 | Dtype::F64)) => {
                    (Kind::Complex(f), None)
                }
                _ => (
                    Kind::Other { bytes },
                    Some(format!("complex numbers of {bytes} bytes are not supported")),
                ),
            };
            leaf(kind, None, error);
        }
        ffi::ENUM => {
            // SAFETY: as above.
            let base = Id::new(unsafe { ffi::H5Tget_super(id) }, "an enumeration is damaged")?;
            match int(&base, bytes, false)? {
                Ok(int) => {
                    let names = enum_names(kind, &int, bytes)?;
                    let is_bool = names.len() == 2
                        && names.get("FALSE").and_then(serde_json::Value::as_i64) == Some(0)
                        && names.get("TRUE").and_then(serde_json::Value::as_i64) == Some(1);
                    match int {
                        Kind::Int { bytes, big, .. } if is_bool => {
                            leaf(Kind::Bool { bytes, big }, None, None)
                        }
                        _ => leaf(int, Some(names), None),
                    }
                }
                Err(why) => {
                    let (kind, names, error) = refuse(&why);
                    leaf(kind, names, error);
                }
            }
        }
        ffi::STRING => {
            // SAFETY: as above.
            let (variable, pad) = unsafe { (ffi::H5Tis_variable_str(id), ffi::H5Tget_strpad(id)) };
            let kind = match (variable > 0, pad) {
                (true, _) => Kind::Variable { bytes },
                (_, 0) => Kind::Fixed { bytes, fill: Fill::AfterZero },
                (_, 2) => Kind::Fixed { bytes, fill: Fill::Blanks },
                _ => Kind::Fixed { bytes, fill: Fill::Zeros },
            };
            leaf(kind, None, None);
        }
        ffi::OPAQUE => {
            // SAFETY: the tag is the library's memory.
            let tag = unsafe { c::owned_text(ffi::H5Tget_tag(id)) }.unwrap_or_default();
            let tag = String::from_utf8_lossy(&tag).into_owned();
            match numpy_time(&tag).filter(|_| bytes == 8) {
                Some(kind) => leaf(kind, None, None),
                None => {
                    let (kind, names, error) = refuse(&format!(
                        "opaque values of {bytes} bytes (tag {tag:?}) are not supported"
                    ));
                    leaf(kind, names, error);
                }
            }
        }
        ffi::REFERENCE => {
            let (kind, names, error) =
                refuse("references to objects or regions have no meaning outside of their file");
            leaf(kind, names, error);
        }
        ffi::VLEN => {
            let (kind, names, error) = refuse("variable-length sequences are not supported");
            leaf(kind, names, error);
        }
        ffi::TIME => {
            let (kind, names, error) = refuse("the type class H5T_TIME is not supported");
            leaf(kind, names, error);
        }
        other => {
            let (kind, names, error) = refuse(&format!("the type class {other} is not known"));
            leaf(kind, names, error);
        }
    }
    Ok(())
}

fn members(kind: &Id) -> Result<u32> {
    // SAFETY: an open type; under the lock.
    u32::try_from(unsafe { ffi::H5Tget_nmembers(kind.raw()) })
        .map_err(|_| c::failure("a type is damaged"))
}

fn member(kind: &Id, m: u32) -> Result<(String, Id)> {
    // SAFETY: an open type and a member that it has; under the lock.
    unsafe {
        let name = c::owned_text(ffi::H5Tget_member_name(kind.raw(), m))
            .ok_or_else(|| c::failure("a type is damaged"))?;
        let member = Id::new(ffi::H5Tget_member_type(kind.raw(), m), "a type is damaged")?;
        Ok((String::from_utf8_lossy(&name).into_owned(), member))
    }
}

/// h5py's complex numbers: a compound of two equal numbers named r and i, one after the other.
fn complex(kind: &Id) -> Result<Option<Float>> {
    if members(kind)? != 2 {
        return Ok(None);
    }
    let (re, first) = member(kind, 0)?;
    let (im, second) = member(kind, 1)?;
    if (re.as_str(), im.as_str()) != ("r", "i") {
        return Ok(None);
    }
    // SAFETY: open types; under the lock.
    let (classes, sizes, offsets) = unsafe {
        (
            (ffi::H5Tget_class(first.raw()), ffi::H5Tget_class(second.raw())),
            (
                ffi::H5Tget_size(first.raw()),
                ffi::H5Tget_size(second.raw()),
                ffi::H5Tget_size(kind.raw()),
            ),
            (ffi::H5Tget_member_offset(kind.raw(), 0), ffi::H5Tget_member_offset(kind.raw(), 1)),
        )
    };
    let n = sizes.0;
    if classes != (ffi::FLOAT, ffi::FLOAT) || sizes.1 != n || sizes.2 != 2 * n || offsets != (0, n)
    {
        return Ok(None);
    }
    match (float(&first, n)?, float(&second, n)?) {
        (Ok(a), Ok(b))
            if a == b && matches!(a.known(), Some(Dtype::F16 | Dtype::F32 | Dtype::F64)) =>
        {
            Ok(Some(a))
        }
        _ => Ok(None),
    }
}

type OrRefused<T> = std::result::Result<T, String>;

fn order(kind: &Id) -> OrRefused<bool> {
    // SAFETY: an open type; under the lock.
    match unsafe { ffi::H5Tget_order(kind.raw()) } {
        0 => Ok(false),
        1 => Ok(true),
        4 => Ok(false),
        2 => Err("numbers in VAX byte order are not supported".into()),
        _ => Err("numbers in an unknown byte order are not supported".into()),
    }
}

fn int(kind: &Id, bytes: usize, unsigned: bool) -> Result<OrRefused<Kind>> {
    if bytes > 8 {
        return Ok(Err(format!("integers of {bytes} bytes are not supported")));
    }
    // SAFETY: an open type; under the lock.
    let (bits, first, sign) = unsafe {
        (
            ffi::H5Tget_precision(kind.raw()),
            ffi::H5Tget_offset(kind.raw()),
            ffi::H5Tget_sign(kind.raw()),
        )
    };
    let (Ok(first), true) = (u32::try_from(first), (1..=8 * bytes).contains(&bits)) else {
        return Err(c::failure("an integer type is damaged"));
    };
    let bits = bits as u32;
    if first + bits > 8 * bytes as u32 {
        return Err(Error::corrupt("an integer type has more bits than its bytes"));
    }
    Ok(order(kind).map(|big| Kind::Int { bytes, big, signed: !unsigned && sign == 1, first, bits }))
}

fn float(kind: &Id, bytes: usize) -> Result<OrRefused<Float>> {
    if bytes > 16 {
        return Ok(Err(format!("floating-point numbers of {bytes} bytes are not supported")));
    }
    let (mut sign, mut exponent, mut exponent_bits, mut mantissa, mut mantissa_bits) =
        (0, 0, 0, 0, 0);
    // SAFETY: an open type; under the lock.
    let (code, bias, norm) = unsafe {
        let code = ffi::H5Tget_fields(
            kind.raw(),
            &mut sign,
            &mut exponent,
            &mut exponent_bits,
            &mut mantissa,
            &mut mantissa_bits,
        );
        (code, ffi::H5Tget_ebias(kind.raw()), ffi::H5Tget_norm(kind.raw()))
    };
    c::check(code, "a floating-point type is damaged")?;
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
    Ok(order(kind).map(|big| Float {
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

fn enum_names(kind: &Id, int: &Kind, bytes: usize) -> Result<Attributes> {
    let mut names = Attributes::new();
    for m in 0..members(kind)? {
        let mut value = [0u8; 16];
        // SAFETY: an open type; the value has at most 8 bytes (checked by `int`).
        unsafe {
            let name = c::owned_text(ffi::H5Tget_member_name(kind.raw(), m))
                .ok_or_else(|| c::failure("an enumeration is damaged"))?;
            c::check(
                ffi::H5Tget_member_value(kind.raw(), m, value.as_mut_ptr().cast()),
                "an enumeration is damaged",
            )?;
            let value = int.convert(value[..bytes].to_vec(), 0)?;
            names.insert(String::from_utf8_lossy(&name).into_owned(), int_json(int, &value));
        }
    }
    Ok(names)
}

/// A converted integer as JSON.
pub(super) fn int_json(kind: &Kind, value: &[u8]) -> serde_json::Value {
    let signed = matches!(kind, Kind::Int { signed: true, .. });
    let mut wide =
        [if signed && value.last().is_some_and(|b| b & 0x80 != 0) { 0xFF } else { 0 }; 8];
    let n = value.len().min(8);
    wide[..n].copy_from_slice(&value[..n]);
    if signed { i64::from_le_bytes(wide).into() } else { u64::from_le_bytes(wide).into() }
}

/// `NUMPY:<M8[ns]`, as h5py tags the times of numpy.
fn numpy_time(tag: &str) -> Option<Kind> {
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
    Some(Kind::Time { unit, delta, big })
}
