//! What the values of an array mean beyond their element type.

use std::sync::Arc;

use super::{Categories, CategoryKind, Decimals, Nested};

/// A unit of time, as numpy spells it; a count of more than one only in numpy (`datetime64[25s]`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimeUnit {
    /// `Y M W D h m s ms us ns ps fs as` or `generic`.
    pub base: String,
    /// How many of them one step is; 1 but for odd numpy files.
    pub count: u32,
}

impl TimeUnit {
    /// The unit of this name, one step each.
    pub fn new(base: &str) -> TimeUnit {
        TimeUnit { base: base.into(), count: 1 }
    }
    /// Parses `ns` or `25s`; `None` for a unit that numpy does not know.
    pub fn parse(text: &str) -> Option<TimeUnit> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count = if digits == 0 { 1 } else { text[..digits].parse().ok().filter(|&c| c > 0)? };
        let base = &text[digits..];
        let known =
            ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "generic"];
        known.contains(&base).then(|| TimeUnit { base: base.into(), count })
    }
    /// How long it is; months, years and numbers without a unit have no one length.
    pub fn attoseconds(&self) -> Option<i128> {
        const SECOND: i128 = 1_000_000_000_000_000_000;
        let one = match self.base.as_str() {
            "W" => 604_800 * SECOND,
            "D" => 86_400 * SECOND,
            "h" => 3_600 * SECOND,
            "m" => 60 * SECOND,
            "s" => SECOND,
            "ms" => SECOND / 1_000,
            "us" => SECOND / 1_000_000,
            "ns" => SECOND / 1_000_000_000,
            "ps" => 1_000_000,
            "fs" => 1_000,
            "as" => 1,
            _ => return None,
        };
        Some(one * i128::from(self.count))
    }
}

impl std::fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.count != 1 {
            write!(f, "{}", self.count)?;
        }
        f.write_str(&self.base)
    }
}

/// What the elements mean, beyond their dtype.
#[derive(Clone, Debug, Default)]
pub enum Logical {
    /// Plain numbers or booleans.
    #[default]
    Plain,
    /// numpy `datetime64`: int64 counts since 1970; NaT is the int64 minimum, a value, not a null.
    Datetime(TimeUnit),
    /// numpy `timedelta64`: int64 counts; NaT as above.
    Timedelta(TimeUnit),
    /// Arrow timestamp: int64 counts since 1970, with or without a zone.
    Timestamp(TimeUnit, Option<String>),
    /// Arrow duration: int64 counts.
    Duration(TimeUnit),
    /// Days since 1970, int32.
    Date32,
    /// Milliseconds since 1970, int64.
    Date64,
    /// Time of day, int32 counts of `s` or `ms`.
    Time32(TimeUnit),
    /// Time of day, int64 counts of `us` or `ns`.
    Time64(TimeUnit),
    /// UTF-8 text: [`Values::Var`](super::Values::Var) over bytes, dtype `U8`.
    Text,
    /// Bytes of any length: [`Values::Var`](super::Values::Var) over bytes, dtype `U8`.
    Binary,
    /// A decimal number, as whole numbers of 10^-scale: int64 up to 18 digits, otherwise a last
    /// dimension of 2 or 4 `uint64` words, little-endian two's complement (see [`Decimals`]).
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the decimal point.
        scale: i8,
        /// Bits of Arrow's type, which may be wider than it must: 32, 64, 128 or 256.
        bits: u16,
    },
    /// Integer codes (the array's dtype) into categories; nulls by the chunk's mask. Text of more
    /// than one dimension comes so ([`crate::array::text_codes`]): codes of its shape.
    Dictionary {
        /// The categories; they may grow while the array is read, and are whole when it has been
        /// read.
        categories: Arc<Categories>,
        /// Whether the order of the categories means something (pandas' ordered categoricals).
        ordered: bool,
    },
    /// Ragged lists of elements of the array's dtype: [`Values::Var`](super::Values::Var) over them.
    List,
    /// Lists, structs, maps and what else has parts: [`Values::Nested`](super::Values::Nested), dtype `U8`. Nulls are in
    /// the arrays, never in a mask beside them.
    Nested(Arc<Nested>),
    /// Sub-byte elements, several to a byte; `shape` is the one the header gave, in elements.
    Packed {
        /// The format's name of the element type: `F4`, `F6_E2M3`, `F6_E3M2`.
        dtype: String,
        /// The shape in elements.
        shape: Vec<u64>,
    },
}

impl Logical {
    /// Whether rows differ in size: the values come as [`Values::Var`](super::Values::Var) or
    /// [`Values::Nested`](super::Values::Nested).
    pub fn is_var(&self) -> bool {
        matches!(self, Logical::Text | Logical::Binary | Logical::List | Logical::Nested(_))
    }
    /// The type of a nested column.
    pub fn nested(&self) -> Option<&Arc<Nested>> {
        if let Logical::Nested(nested) = self { Some(nested) } else { None }
    }
    /// How decimals are stored, where these are decimals.
    pub fn decimals(&self) -> Option<Decimals> {
        match self {
            Logical::Decimal { precision, scale, .. } => Some(Decimals::of(*precision, *scale)),
            _ => None,
        }
    }
    /// The type of times or decimals that [`super::ArrayMeta::type_name`] shows so.
    pub fn parse(name: &str) -> Option<Logical> {
        if let Some(digits) = name.strip_prefix("decimal(") {
            let (precision, scale) = digits.strip_suffix(')')?.split_once(',')?;
            let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
            let bits = if precision <= 38 { 128 } else { 256 };
            return Some(Logical::Decimal { precision, scale, bits });
        }
        let (kind, unit) = match name.split_once('[') {
            Some((kind, unit)) => (kind, unit.strip_suffix(']')?),
            None => (name, "generic"),
        };
        let (unit, zone) = match unit.split_once(',') {
            Some((unit, zone)) => (unit.trim(), Some(zone.trim().to_string())),
            None => (unit, None),
        };
        let unit = TimeUnit::parse(unit)?;
        Some(match kind {
            "timestamp" => Logical::Timestamp(unit, zone),
            _ if zone.is_some() => return None,
            "datetime64" => Logical::Datetime(unit),
            "timedelta64" => Logical::Timedelta(unit),
            "duration" => Logical::Duration(unit),
            "time32" => Logical::Time32(unit),
            "time64" => Logical::Time64(unit),
            "date32" => Logical::Date32,
            "date64" => Logical::Date64,
            _ => return None,
        })
    }
    /// The categories of a dictionary, or of each dictionary in a nested column.
    pub fn dictionaries(&self) -> &[Arc<Categories>] {
        match self {
            Logical::Dictionary { categories, .. } => std::slice::from_ref(categories),
            Logical::Nested(nested) => &nested.dictionaries,
            _ => &[],
        }
    }
    /// The same with other categories: as many as [`Logical::dictionaries`] gives.
    pub fn with_dictionaries(&self, all: Vec<Arc<Categories>>) -> Logical {
        match (self, &all[..]) {
            (Logical::Dictionary { ordered, .. }, [categories]) => {
                Logical::Dictionary { categories: categories.clone(), ordered: *ordered }
            }
            (Logical::Nested(nested), _) => {
                Logical::Nested(Arc::new(Nested { dictionaries: all, ..nested.as_ref().clone() }))
            }
            _ => self.clone(),
        }
    }
    /// The categories, where these are codes of text or bytes.
    pub fn text_categories(&self) -> Option<&Arc<Categories>> {
        match self {
            Logical::Dictionary { categories, .. }
                if !matches!(categories.kind(), CategoryKind::Fixed(..)) =>
            {
                Some(categories)
            }
            _ => None,
        }
    }
    /// Whether the elements are plain numbers or booleans.
    pub fn is_plain(&self) -> bool {
        matches!(self, Logical::Plain)
    }
    /// Dates, times and durations of all kinds.
    pub fn is_time(&self) -> bool {
        matches!(
            self,
            Logical::Datetime(_)
                | Logical::Timedelta(_)
                | Logical::Timestamp(..)
                | Logical::Duration(_)
                | Logical::Date32
                | Logical::Date64
                | Logical::Time32(_)
                | Logical::Time64(_)
        )
    }
    /// What times count.
    pub fn time_unit(&self) -> Option<TimeUnit> {
        match self {
            Logical::Datetime(unit)
            | Logical::Timedelta(unit)
            | Logical::Timestamp(unit, _)
            | Logical::Duration(unit)
            | Logical::Time32(unit)
            | Logical::Time64(unit) => Some(unit.clone()),
            Logical::Date32 => Some(TimeUnit::new("D")),
            Logical::Date64 => Some(TimeUnit::new("ms")),
            _ => None,
        }
    }
    /// Whether the least count is no time: numpy's NaT.
    pub fn has_nat(&self) -> bool {
        matches!(self, Logical::Datetime(_) | Logical::Timedelta(_))
    }
}

impl PartialEq for Logical {
    /// Categories are compared by identity of type, not by content: use [`Categories::snapshot`]
    /// for that.
    fn eq(&self, other: &Logical) -> bool {
        use Logical::*;
        match (self, other) {
            (Plain, Plain)
            | (Date32, Date32)
            | (Date64, Date64)
            | (Text, Text)
            | (Binary, Binary)
            | (List, List) => true,
            (Nested(a), Nested(b)) => a == b,
            (Datetime(a), Datetime(b))
            | (Timedelta(a), Timedelta(b))
            | (Duration(a), Duration(b)) => a == b,
            (Time32(a), Time32(b)) | (Time64(a), Time64(b)) => a == b,
            (Timestamp(a, x), Timestamp(b, y)) => a == b && x == y,
            // The same numbers, stored in the same way.
            (Decimal { precision: a, scale: x, .. }, Decimal { precision: b, scale: y, .. }) => {
                a == b && x == y
            }
            (
                Dictionary { categories: a, ordered: x },
                Dictionary { categories: b, ordered: y },
            ) => a.kind() == b.kind() && x == y,
            (Packed { dtype: a, shape: x }, Packed { dtype: b, shape: y }) => a == b && x == y,
            _ => false,
        }
    }
}
