//! The plain values inside the elements of a dataset, and how each becomes a value of the model.

use std::sync::Arc;

use crate::array::Element;
use crate::array::element::{Convert, Field, Fill, Padding, swap_bytes};
use crate::error::{Error, Result, SKIP_ARRAY};
use crate::model::{Attributes, Categories, Dtype, Logical, TimeUnit, Values};

/// A plain value inside an element: a whole element, or a field of it.
#[derive(Clone, Default)]
pub(super) struct TypeLeaf {
    /// The names of the fields that lead to it; none for a whole element.
    pub(super) fields: Vec<String>,
    /// Where it begins in the element.
    pub(super) offset: usize,
    /// Array dimensions inside the element: count and bytes from one to the next.
    pub(super) dims: Vec<(u64, usize)>,
    /// What it is.
    pub(super) kind: ElementType,
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
    /// Text of rows that is this one stands for a null.
    pub(super) null_text: Option<Vec<u8>>,
}

/// See [`TypeLeaf::codes`].
#[derive(Clone)]
pub(super) struct Codes {
    pub(super) categories: Arc<Categories>,
    pub(super) ordered: bool,
}

impl TypeLeaf {
    /// Bytes of the leaf in one element, packed.
    pub(super) fn packed_bytes(&self) -> usize {
        self.dims.iter().fold(self.kind.bytes(), |n, d| n.saturating_mul(d.0 as usize))
    }

    /// Bytes of one text.
    pub(super) fn text_bytes(&self) -> usize {
        self.joined.unwrap_or_else(|| self.kind.bytes())
    }

    /// How text of a fixed width becomes values.
    pub(super) fn padding(&self) -> Option<Padding> {
        let fill = match (&self.kind, self.joined) {
            // A zero byte among characters is one of them, but for those behind the last.
            (ElementType::Fixed { .. }, Some(_)) => Fill::Zeros,
            (ElementType::Fixed { fill, .. }, None) => *fill,
            _ => return None,
        };
        Some(if self.binary { Padding::Bytes(fill) } else { Padding::Text(fill) })
    }

    /// Elements of `bytes` bytes that hold this leaf; of `packed` ones nothing else.
    pub(super) fn element(&self, bytes: usize, packed: bool, scalar: bool) -> Element {
        let dims: Vec<u64> = self.dims.iter().map(|d| d.0).collect();
        let field = if packed {
            Field::dense(0, self.kind.bytes(), &dims)
        } else {
            Field { offset: self.offset, item: self.kind.bytes(), dims: self.dims.clone() }
        };
        let is_whole = field.offset == 0 && field.bytes() == bytes;
        // The items of a list count where they are rows, or texts of their own.
        let counts = !dims.is_empty() && (scalar || self.padding().is_some());
        let convert = match (self.padding(), self.kind.swapped_unit()) {
            _ if self.joined.is_some() => Convert::Nothing,
            (Some(padding), _) => Convert::Padded(padding),
            _ if self.truth => Convert::With(Arc::new(|mut values, _| {
                values.iter_mut().for_each(|v| *v = u8::from(*v != 0));
                Ok(values)
            })),
            (_, Some(1)) => Convert::Nothing,
            (_, Some(unit)) => Convert::Swap(unit),
            (_, None) => {
                let kind = self.kind.clone();
                Convert::With(Arc::new(move |values, first| kind.convert(values, first)))
            }
        };
        Element { bytes, field: (!is_whole || counts).then_some(field), convert }
    }

    /// Whether rows have nulls, which only their values tell.
    pub(super) fn has_nulls(&self) -> bool {
        self.zone.is_some() || self.codes.is_some() || self.null_text.is_some()
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
        if !self.has_nulls() {
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

    /// Takes the nulls out of text, a text a row: where each row has one, and no text in its place.
    pub(super) fn take_null_texts(&self, texts: Values) -> (Option<Vec<u8>>, Values) {
        let (Some(null), Values::Var { offsets, values }) = (&self.null_text, &texts) else {
            return (None, texts);
        };
        let text = |w: &[u64]| &values[w[0] as usize..w[1] as usize];
        let valid: Vec<u8> =
            offsets.windows(2).map(|w| u8::from(text(w) != null.as_slice())).collect();
        if !valid.contains(&0) {
            return (None, texts);
        }
        let (mut ends, mut left) = (vec![0], Vec::with_capacity(values.len()));
        for (w, &valid) in offsets.windows(2).zip(&valid) {
            if valid == 1 {
                left.extend_from_slice(text(w));
            }
            ends.push(left.len() as u64);
        }
        (Some(valid), Values::Var { offsets: ends, values: left.into() })
    }
}

/// A type of values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ElementType {
    /// Integers of `bits` bits from bit `first` on.
    Int { bytes: usize, big: bool, signed: bool, first: u32, bits: u32 },
    /// Floating-point numbers.
    Float(Float),
    /// Two floating-point numbers.
    Complex(Float),
    /// The enumeration FALSE, TRUE.
    Bool { bytes: usize, big: bool },
    /// Text of a fixed number of bytes.
    Fixed { bytes: usize, fill: Fill },
    /// Text of any length: a reference of so many bytes into a heap.
    Variable { bytes: usize },
    /// Numbers of any count: a reference of so many bytes into a heap.
    Sequence { bytes: usize, item: Box<ElementType> },
    /// numpy times, kept by h5py as opaque bytes: unit, duration or point in time, byte order.
    Time { unit: TimeUnit, delta: bool, big: bool },
    /// Something that cannot be read.
    Other { bytes: usize },
}

impl Default for ElementType {
    fn default() -> Self {
        ElementType::Other { bytes: 1 }
    }
}

/// The layout of floating-point numbers: bit positions from the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Float {
    pub(super) bytes: usize,
    pub(super) big: bool,
    pub(super) sign: u32,
    pub(super) exponent: u32,
    pub(super) exponent_bits: u32,
    pub(super) mantissa: u32,
    pub(super) mantissa_bits: u32,
    pub(super) bias: u64,
    /// 0: a leading one is implied; otherwise it is stored (x87).
    pub(super) norm: i32,
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

    /// Whether two of them make a complex number of the model.
    pub(super) fn is_part(self) -> bool {
        matches!(self.known(), Some(Dtype::F16 | Dtype::F32 | Dtype::F64))
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

    /// Whether float64 may not hold these numbers exactly.
    fn is_wider_than_double(self) -> bool {
        let fraction_bits = self.mantissa_bits - u32::from(self.norm != 0);
        self.known().is_none() && (fraction_bits > 52 || self.exponent_bits > 11)
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

impl ElementType {
    /// Bytes in the file.
    pub(super) fn bytes(&self) -> usize {
        match self {
            ElementType::Int { bytes, .. }
            | ElementType::Bool { bytes, .. }
            | ElementType::Fixed { bytes, .. } => *bytes,
            ElementType::Variable { bytes }
            | ElementType::Sequence { bytes, .. }
            | ElementType::Other { bytes } => *bytes,
            ElementType::Float(f) => f.bytes,
            ElementType::Complex(f) => 2 * f.bytes,
            ElementType::Time { .. } => 8,
        }
    }

    /// The model's type.
    pub(super) fn model(&self) -> (Dtype, Logical) {
        let plain = |dtype| (dtype, Logical::Plain);
        match self {
            ElementType::Int { bytes, signed, .. } => plain(match (bytes, signed) {
                (1, false) => Dtype::U8,
                (2, false) => Dtype::U16,
                (3..=4, false) => Dtype::U32,
                (_, false) => Dtype::U64,
                (1, true) => Dtype::I8,
                (2, true) => Dtype::I16,
                (3..=4, true) => Dtype::I32,
                (_, true) => Dtype::I64,
            }),
            ElementType::Float(f) => plain(f.held().0),
            ElementType::Complex(f) => plain(match f.known() {
                Some(Dtype::F16) => Dtype::C32,
                Some(Dtype::F32) => Dtype::C64,
                _ => Dtype::C128,
            }),
            ElementType::Bool { .. } => plain(Dtype::Bool),
            ElementType::Fixed { .. } | ElementType::Variable { .. } => (Dtype::U8, Logical::Text),
            ElementType::Time { unit, delta: false, .. } => {
                (Dtype::I64, Logical::Datetime(unit.clone()))
            }
            ElementType::Time { unit, delta: true, .. } => {
                (Dtype::I64, Logical::Timedelta(unit.clone()))
            }
            ElementType::Sequence { item, .. } => (item.model().0, Logical::List),
            ElementType::Other { .. } => plain(Dtype::U8),
        }
    }

    /// Text.
    pub(super) fn is_text(&self) -> bool {
        matches!(self, ElementType::Fixed { .. } | ElementType::Variable { .. })
    }

    /// Text of any length, or numbers of any count.
    pub(super) fn is_variable(&self) -> bool {
        matches!(self, ElementType::Variable { .. } | ElementType::Sequence { .. })
    }

    /// Floating-point numbers that float64 may not hold exactly.
    pub(super) fn may_be_refused(&self) -> bool {
        matches!(self, ElementType::Float(f) if f.is_wider_than_double())
    }

    /// Bytes of an item of what is in a heap.
    pub(super) fn item_bytes(&self) -> u64 {
        match self {
            ElementType::Sequence { item, .. } => item.bytes() as u64,
            _ => 1,
        }
    }

    /// The bytes of the file are the model's once units of so many bytes are turned around (1: they
    /// are already); `None` where every value must be looked at.
    fn swapped_unit(&self) -> Option<usize> {
        let unit = |bytes: usize, big: bool| if big { bytes } else { 1 };
        match *self {
            ElementType::Int { bytes, big, first: 0, bits, .. }
                if matches!(bytes, 1 | 2 | 4 | 8) && bits == 8 * bytes as u32 =>
            {
                Some(unit(bytes, big))
            }
            ElementType::Float(f) if f.known().is_some() => Some(unit(f.bytes, f.big)),
            ElementType::Complex(f) => Some(unit(f.bytes, f.big)),
            ElementType::Time { big, .. } => Some(unit(8, big)),
            ElementType::Fixed { .. }
            | ElementType::Variable { .. }
            | ElementType::Sequence { .. }
            | ElementType::Other { .. } => Some(1),
            _ => None,
        }
    }

    /// Whether the bytes in the file are the model's.
    pub(super) fn is_ready(&self) -> bool {
        let is_other =
            self.is_text() || self.is_variable() || matches!(self, ElementType::Other { .. });
        self.swapped_unit() == Some(1) && !is_other
    }

    /// The format's own name of it.
    pub(super) fn describe(&self) -> String {
        let order = |big: bool| if big { "BE" } else { "LE" };
        match self {
            ElementType::Int { bytes, big, signed, first, bits } => {
                let base =
                    format!("{}{}{}", if *signed { "I" } else { "U" }, 8 * bytes, order(*big));
                if *first != 0 || *bits != 8 * *bytes as u32 {
                    format!("{base} ({bits} bits from {first})")
                } else {
                    base
                }
            }
            ElementType::Float(f) => match f.known() {
                Some(d) => format!("{d} {}", order(f.big)),
                None => format!(
                    "F{}{} ({} + {} bits)",
                    8 * f.bytes,
                    order(f.big),
                    f.exponent_bits,
                    f.mantissa_bits
                ),
            },
            ElementType::Complex(f) => format!("complex of F{}{}", 8 * f.bytes, order(f.big)),
            ElementType::Bool { bytes, .. } => format!("enum {{FALSE, TRUE}} of {bytes} bytes"),
            ElementType::Fixed { bytes, .. } => format!("string of {bytes} bytes"),
            ElementType::Variable { .. } => "variable string".into(),
            ElementType::Sequence { item, .. } => format!("sequences of {}", item.describe()),
            ElementType::Time { unit, delta, .. } => {
                format!("opaque NUMPY:{}8[{unit}]", if *delta { "m" } else { "M" })
            }
            ElementType::Other { bytes } => format!("{bytes} bytes"),
        }
    }

    /// Turns packed values of the file into the model's. `first` is the number of the first value,
    /// for errors.
    ///
    /// # Errors
    /// A value that the model's type does not hold.
    pub(super) fn convert(&self, mut raw: Vec<u8>, first: u64) -> Result<Vec<u8>> {
        if let Some(unit) = self.swapped_unit() {
            swap_bytes(&mut raw, unit);
            return Ok(raw);
        }
        match *self {
            ElementType::Int { bytes, big, signed, first, bits } => {
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
                Ok(out)
            }
            ElementType::Float(f) => {
                let narrow = f.held().0 == Dtype::F32;
                let mut out = Vec::with_capacity(raw.len() / f.bytes * if narrow { 4 } else { 8 });
                for (i, value) in raw.chunks_exact(f.bytes).enumerate() {
                    let Some(value) = f.value(gather(value, f.big)) else {
                        return Err(Error::refused(format!(
                            "value {} is a floating-point number of {} bytes that float64 cannot hold exactly",
                            first + i as u64,
                            f.bytes
                        ))
                        .hint(SKIP_ARRAY));
                    };
                    if narrow {
                        out.extend_from_slice(&(value as f32).to_le_bytes());
                    } else {
                        out.extend_from_slice(&value.to_le_bytes());
                    }
                }
                Ok(out)
            }
            // Writers put other numbers than 0 and 1 there, too; h5py and numpy take them all for
            // true.
            ElementType::Bool { bytes, .. } => {
                let is_true = |value: &[u8]| u8::from(value.iter().any(|&b| b != 0));
                Ok(raw.chunks_exact(bytes).map(is_true).collect())
            }
            _ => Ok(raw),
        }
    }
}

/// The bytes of a value as a number.
fn gather(value: &[u8], big: bool) -> u128 {
    let join = |n: u128, &b: &u8| n << 8 | u128::from(b);
    if big { value.iter().fold(0, join) } else { value.iter().rev().fold(0, join) }
}
