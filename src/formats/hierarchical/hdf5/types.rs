//! Types of the file, taken apart into leaves: the plain values inside an element, and how each
//! becomes a model value.

use std::sync::Arc;

use super::c::{self, Id};
use super::ffi;
use crate::error::{Error, Result};
use crate::model::{Attributes, Categories, Dtype, Logical, TimeUnit};

/// A plain value inside an element: a whole element, or a field of it.
#[derive(Clone)]
pub(super) struct Leaf {
    /// The names of the fields that lead to it; none for a whole element.
    pub(super) fields: Vec<String>,
    /// Where it begins in the element.
    pub(super) offset: usize,
    /// Array dimensions inside the element: count and bytes from one to the next.
    pub(super) dims: Vec<(u64, usize)>,
    /// What it is.
    pub(super) kind: Kind,
    /// The names of an enumeration's values.
    pub(super) names: Option<Attributes>,
    /// Why it cannot be read.
    pub(super) error: Option<String>,
    /// It is a field of bits.
    pub(super) bits: bool,
    /// Nonzero bytes are true: PyTables' booleans are fields of bits.
    pub(super) truth: bool,
    /// Text that is not UTF-8: its bytes.
    pub(super) binary: bool,
    /// Characters of the last dimension, which make one text together.
    pub(super) joined: Option<usize>,
    /// The zone of points in time, of which the lowest number is a null.
    pub(super) zone: Option<String>,
    /// Integers are codes into categories, and a null where they are -1.
    pub(super) codes: Option<Codes>,
}

/// See [`Leaf::codes`].
#[derive(Clone)]
pub(super) struct Codes {
    pub(super) categories: Arc<Categories>,
    pub(super) ordered: bool,
}

impl Leaf {
    /// Bytes of one text.
    pub(super) fn text_bytes(&self) -> usize {
        self.joined.unwrap_or_else(|| self.kind.bytes())
    }

    /// The model's type.
    pub(super) fn model(&self) -> (Dtype, Logical) {
        let (dtype, logical) = self.kind.model();
        match (&self.codes, &self.zone, logical) {
            (Some(codes), ..) => (
                dtype,
                Logical::Dictionary {
                    categories: codes.categories.clone(),
                    ordered: codes.ordered,
                },
            ),
            (_, Some(zone), Logical::Datetime(unit)) => {
                (dtype, Logical::Timestamp(unit, Some(zone.clone())))
            }
            (_, _, Logical::Text) if self.binary => (dtype, Logical::Binary),
            (_, _, logical) if self.truth => (Dtype::Bool, logical),
            (_, _, logical) => (dtype, logical),
        }
    }

    /// Takes the nulls out of converted values: where each row has one, and zeros in their place.
    ///
    /// # Errors
    /// A code that has no category.
    pub(super) fn take_nulls(&self, values: &mut [u8], first: u64) -> Result<Option<Vec<u8>>> {
        let size = self.kind.model().0.item_bytes() as usize;
        if self.codes.is_none() && self.zone.is_none() {
            return Ok(None);
        }
        let known = self.codes.as_ref().map(|codes| codes.categories.len() as u64);
        let mut nulls = false;
        let mut valid = vec![1u8; values.len() / size];
        for (n, (value, valid)) in values.chunks_exact_mut(size).zip(&mut valid).enumerate() {
            let mut wide = [if value[size - 1] & 0x80 != 0 { 0xff } else { 0 }; 8];
            wide[..size].copy_from_slice(value);
            let wide = i64::from_le_bytes(wide);
            let null = match known {
                Some(known) if wide != -1 => match u64::try_from(wide) {
                    Ok(code) if code < known => false,
                    _ => {
                        return Err(Error::corrupt(format!(
                            "row {} has the code {wide}, there are {known} categories",
                            first + n as u64
                        )));
                    }
                },
                Some(_) => true,
                None => wide == i64::MIN,
            };
            if null {
                value.fill(0);
                (*valid, nulls) = (0, true);
            }
        }
        Ok(nulls.then_some(valid))
    }
}

/// A type of values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Integers of `bits` bits from bit `first` on.
    Int { bytes: usize, big: bool, signed: bool, first: u32, bits: u32 },
    /// Floating-point numbers.
    Float(Float),
    /// Two floating-point numbers.
    Complex(Float),
    /// The enumeration FALSE, TRUE.
    Bool { bytes: usize, big: bool },
    /// Text of a fixed number of bytes.
    Fixed { bytes: usize, pad: Pad },
    /// Text of any length: a reference of so many bytes into a heap.
    Variable { bytes: usize },
    /// numpy times, kept by h5py as opaque bytes: unit, duration or point in time, byte order.
    Time { unit: TimeUnit, delta: bool, big: bool },
    /// Something that cannot be read.
    Other { bytes: usize },
}

/// How fixed text is filled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names)]
pub(super) enum Pad {
    /// The first zero byte ends it.
    NullTerm,
    /// Zero bytes at the end.
    NullPad,
    /// Blanks at the end.
    Space,
}

/// The layout of floating-point numbers: bit positions from the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Float {
    pub(super) bytes: usize,
    pub(super) big: bool,
    sign: u32,
    exponent: u32,
    exponent_bits: u32,
    mantissa: u32,
    mantissa_bits: u32,
    bias: u64,
    /// 0: a leading one is implied; otherwise it is stored (x87).
    norm: i32,
}

impl Float {
    const fn ieee(bytes: usize, exponent_bits: u32, mantissa_bits: u32) -> Float {
        let bits = 8 * bytes as u32;
        Float {
            bytes,
            big: false,
            sign: bits - 1,
            exponent: mantissa_bits,
            exponent_bits,
            mantissa: 0,
            mantissa_bits,
            bias: (1 << (exponent_bits - 1)) - 1,
            norm: 0,
        }
    }

    /// The model's type of the same layout.
    pub(super) fn known(self) -> Option<Dtype> {
        const KNOWN: [(Float, Dtype); 6] = [
            (Float::ieee(2, 5, 10), Dtype::F16),
            (Float::ieee(4, 8, 23), Dtype::F32),
            (Float::ieee(8, 11, 52), Dtype::F64),
            (Float::ieee(2, 8, 7), Dtype::Bf16),
            (Float::ieee(1, 4, 3), Dtype::F8E4m3),
            (Float::ieee(1, 5, 2), Dtype::F8E5m2),
        ];
        KNOWN.into_iter().find(|(f, _)| *f == Float { big: false, ..self }).map(|(_, d)| d)
    }

    /// The type that holds these numbers; whether each value must be looked at.
    fn held(self) -> (Dtype, bool) {
        if let Some(dtype) = self.known() {
            return (dtype, false);
        }
        let highest = (1i64 << self.exponent_bits) - 2 - self.bias as i64;
        let narrow = self.mantissa_bits <= 23
            && self.exponent_bits <= 8
            && self.bias <= 127
            && highest <= 127;
        (if narrow { Dtype::F32 } else { Dtype::F64 }, true)
    }

    /// The value of these bits; `None` where float64 does not hold it.
    fn value(self, bits: u128) -> Option<f64> {
        let field =
            |at: u32, n: u32| if n == 0 { 0 } else { (bits >> at) & (u128::MAX >> (128 - n)) };
        let negative = field(self.sign, 1) == 1;
        let exponent = field(self.exponent, self.exponent_bits) as u64;
        let mantissa = field(self.mantissa, self.mantissa_bits);
        let most = (u128::MAX >> (128 - self.exponent_bits)) as u64;
        let sign = if negative { -1.0 } else { 1.0 };
        let fraction_bits =
            if self.norm != 0 { self.mantissa_bits - 1 } else { self.mantissa_bits };
        let fraction = if self.norm != 0 { mantissa & !(1 << fraction_bits) } else { mantissa };
        if exponent == most {
            return Some(if fraction == 0 { sign * f64::INFINITY } else { f64::NAN });
        }
        // value = significand × 2^power
        let (significand, power) = if self.norm == 0 && exponent > 0 {
            (
                mantissa | 1 << self.mantissa_bits,
                exponent as i64 - self.bias as i64 - i64::from(fraction_bits),
            )
        } else {
            (mantissa, exponent.max(1) as i64 - self.bias as i64 - i64::from(fraction_bits))
        };
        if significand == 0 {
            return Some(sign * 0.0);
        }
        let zeros = significand.trailing_zeros();
        let (odd, power) = (significand >> zeros, power + i64::from(zeros));
        let width = i64::from(128 - odd.leading_zeros());
        // A float64 holds an odd significand of up to 53 bits, its lowest bit not below 2^-1074.
        if width > 53 || power < -1074 || power + width > 1024 {
            return None;
        }
        let (mut value, mut left) = (odd as f64, power);
        while left != 0 {
            let step = left.clamp(-1000, 900);
            value *= 2f64.powi(step as i32);
            left -= step;
        }
        Some(sign * value)
    }
}

impl Kind {
    /// Bytes in the file.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Kind::Int { bytes, .. } | Kind::Bool { bytes, .. } | Kind::Fixed { bytes, .. } => {
                *bytes
            }
            Kind::Variable { bytes } | Kind::Other { bytes } => *bytes,
            Kind::Float(f) => f.bytes,
            Kind::Complex(f) => 2 * f.bytes,
            Kind::Time { .. } => 8,
        }
    }

    /// The model's type.
    pub(super) fn model(&self) -> (Dtype, Logical) {
        let plain = |dtype| (dtype, Logical::Plain);
        match self {
            Kind::Int { bytes, signed, .. } => plain(match (bytes, signed) {
                (1, false) => Dtype::U8,
                (2, false) => Dtype::U16,
                (3..=4, false) => Dtype::U32,
                (_, false) => Dtype::U64,
                (1, true) => Dtype::I8,
                (2, true) => Dtype::I16,
                (3..=4, true) => Dtype::I32,
                (_, true) => Dtype::I64,
            }),
            Kind::Float(f) => plain(f.held().0),
            Kind::Complex(f) => plain(match f.known() {
                Some(Dtype::F16) => Dtype::C32,
                Some(Dtype::F32) => Dtype::C64,
                _ => Dtype::C128,
            }),
            Kind::Bool { .. } => plain(Dtype::Bool),
            Kind::Fixed { .. } | Kind::Variable { .. } => (Dtype::U8, Logical::Text),
            Kind::Time { unit, delta: false, .. } => (Dtype::I64, Logical::Datetime(unit.clone())),
            Kind::Time { unit, delta: true, .. } => (Dtype::I64, Logical::Timedelta(unit.clone())),
            Kind::Other { .. } => plain(Dtype::U8),
        }
    }

    /// Text of any length.
    pub(super) fn is_variable(&self) -> bool {
        matches!(self, Kind::Variable { .. })
    }

    /// Whether the bytes in the file are the model's.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Kind::Int { bytes, big, first: 0, bits, .. } => {
                matches!(bytes, 1 | 2 | 4 | 8)
                    && *bits == 8 * *bytes as u32
                    && (!big || *bytes == 1)
            }
            Kind::Float(f) => f.known().is_some() && (!f.big || f.bytes == 1),
            Kind::Complex(f) => !f.big,
            Kind::Time { big, .. } => !big,
            _ => false,
        }
    }

    /// The format's own name of it.
    pub(super) fn describe(&self) -> String {
        let order = |big: bool| if big { "BE" } else { "LE" };
        match self {
            Kind::Int { bytes, big, signed, first, bits } => {
                let base =
                    format!("{}{}{}", if *signed { "I" } else { "U" }, 8 * bytes, order(*big));
                if *first != 0 || *bits != 8 * *bytes as u32 {
                    format!("{base} ({bits} bits from {first})")
                } else {
                    base
                }
            }
            Kind::Float(f) => match f.known() {
                Some(d) => format!("{d} {}", order(f.big)),
                None => format!(
                    "F{}{} ({} + {} bits)",
                    8 * f.bytes,
                    order(f.big),
                    f.exponent_bits,
                    f.mantissa_bits
                ),
            },
            Kind::Complex(f) => format!("complex of F{}{}", 8 * f.bytes, order(f.big)),
            Kind::Bool { bytes, .. } => format!("enum {{FALSE, TRUE}} of {bytes} bytes"),
            Kind::Fixed { bytes, .. } => format!("string of {bytes} bytes"),
            Kind::Variable { .. } => "variable string".into(),
            Kind::Time { unit, delta, .. } => {
                format!("opaque NUMPY:{}8[{unit}]", if *delta { "m" } else { "M" })
            }
            Kind::Other { bytes } => format!("{bytes} bytes"),
        }
    }

    /// Turns packed values of the file into the model's. `first` is the number of the first value,
    /// for errors.
    ///
    /// # Errors
    /// A value that the model's type does not hold.
    pub(super) fn convert(&self, mut raw: Vec<u8>, first: u64) -> Result<Vec<u8>> {
        if self.is_ready() {
            return Ok(raw);
        }
        let plain_int = |bytes: usize, bits: u32, at: u32| {
            matches!(bytes, 2 | 4 | 8) && at == 0 && bits == 8 * bytes as u32
        };
        match *self {
            Kind::Int { bytes, bits, first: 0, .. } if plain_int(bytes, bits, 0) => {
                swap(&mut raw, bytes)
            }
            Kind::Time { .. } => swap(&mut raw, 8),
            Kind::Float(f) if f.known().is_some() => swap(&mut raw, f.bytes),
            Kind::Complex(f) if f.known().is_some() => swap(&mut raw, f.bytes),
            Kind::Int { bytes, big, signed, first, bits } => {
                let size = self.model().0.item_bytes() as usize;
                let mut out = Vec::with_capacity(raw.len() / bytes * size);
                for value in raw.chunks_exact(bytes) {
                    let stored = gather(value, big) >> first;
                    let mut value = (stored as u64) & (u64::MAX >> (64 - bits));
                    if signed && bits < 64 && value >> (bits - 1) == 1 {
                        value |= u64::MAX << bits;
                    }
                    out.extend_from_slice(&value.to_le_bytes()[..size]);
                }
                return Ok(out);
            }
            Kind::Float(f) => {
                let narrow = f.held().0 == Dtype::F32;
                let mut out = Vec::with_capacity(raw.len() / f.bytes * if narrow { 4 } else { 8 });
                for (i, value) in raw.chunks_exact(f.bytes).enumerate() {
                    let Some(value) = f.value(gather(value, f.big)) else {
                        return Err(Error::refused(format!(
                            "value {} is a floating-point number of {} bytes that float64 cannot hold exactly",
                            first + i as u64,
                            f.bytes
                        )));
                    };
                    if narrow {
                        out.extend_from_slice(&(value as f32).to_le_bytes());
                    } else {
                        out.extend_from_slice(&value.to_le_bytes());
                    }
                }
                return Ok(out);
            }
            // Writers put other numbers than 0 and 1 there, too; h5py and numpy take them all for
            // true.
            Kind::Bool { bytes, .. } => {
                return Ok(raw
                    .chunks_exact(bytes)
                    .map(|value| u8::from(value.iter().any(|&b| b != 0)))
                    .collect());
            }
            _ => {}
        }
        Ok(raw)
    }
}

/// The bytes of a value as a number.
fn gather(value: &[u8], big: bool) -> u128 {
    let join = |n: u128, &b: &u8| n << 8 | u128::from(b);
    if big { value.iter().fold(0, join) } else { value.iter().rev().fold(0, join) }
}

fn swap(raw: &mut [u8], bytes: usize) {
    match bytes {
        2 => raw.as_chunks_mut::<2>().0.iter_mut().for_each(|v| v.reverse()),
        4 => raw.as_chunks_mut::<4>().0.iter_mut().for_each(|v| v.reverse()),
        8 => raw.as_chunks_mut::<8>().0.iter_mut().for_each(|v| v.reverse()),
        _ => raw.chunks_exact_mut(bytes.max(1)).for_each(|v| v.reverse()),
    }
}

/// The text inside a fixed field.
pub(super) fn trimmed(field: &[u8], pad: Pad) -> &[u8] {
    let end = match pad {
        Pad::NullTerm => field.iter().position(|&b| b == 0).unwrap_or(field.len()),
        Pad::NullPad => field.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1),
        Pad::Space => field.iter().rposition(|&b| b != b' ').map_or(0, |i| i + 1),
    };
    &field[..end]
}

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
            truth: false,
            binary: false,
            joined: None,
            zone: None,
            codes: None,
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
                (_, 0) => Kind::Fixed { bytes, pad: Pad::NullTerm },
                (_, 2) => Kind::Fixed { bytes, pad: Pad::Space },
                _ => Kind::Fixed { bytes, pad: Pad::NullPad },
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
