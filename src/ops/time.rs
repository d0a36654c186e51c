//! Times in other units, exactly; NaT, the int64 minimum, stays what it is.

use crate::error::{Error, Result};
use crate::model::{Buf, Dtype, Logical, Mask, TimeUnit, typed};

/// Counts × `multiply` ÷ `divide`, read as int32 or int64 and written as int64 or int32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescale {
    /// int32 or int64.
    pub from: Dtype,
    /// int32 or int64.
    pub to: Dtype,
    /// At least 1.
    pub multiply: i128,
    /// At least 1.
    pub divide: i128,
    /// Whether what does not divide evenly is rounded down.
    pub lossy: bool,
    /// How the new type is called, for messages.
    pub into: String,
}

impl Rescale {
    /// The same counts in another width.
    fn between(from: Dtype, to: Dtype, into: &str) -> Rescale {
        Rescale { from, to, multiply: 1, divide: 1, lossy: false, into: into.into() }
    }

    /// Rescales every element.
    ///
    /// # Errors
    /// Refused, with the index, where a count is out of the new type's range or not a whole number
    /// of its units.
    pub fn apply(&self, values: &Buf, array: &str, first_element: u64) -> Result<Buf> {
        let wide: Vec<i64> = match self.from {
            Dtype::I32 => typed::<i32>(values).iter().map(|v| *v as i64).collect(),
            _ => typed::<i64>(values).into_owned(),
        };
        let mut out = Vec::with_capacity(wide.len());
        for (i, v) in wide.into_iter().enumerate() {
            if v == i64::MIN {
                out.push(v);
                continue;
            }
            let scaled = i128::from(v).checked_mul(self.multiply);
            let at = first_element + i as u64;
            if !self.lossy && scaled.is_some_and(|s| s % self.divide != 0) {
                let error =
                    Error::refused(format!("element {at} ({v}) is not exact as {}", self.into))
                        .array(array);
                return Err(error.hint("--lossy lets --dtype round"));
            }
            let fits = scaled.and_then(|s| i64::try_from(s.div_euclid(self.divide)).ok());
            let fits = fits
                .filter(|s| *s != i64::MIN && (self.to != Dtype::I32 || i32::try_from(*s).is_ok()));
            out.push(fits.ok_or_else(|| {
                Error::refused(format!("element {at} ({v}) is out of range as {}", self.into))
                    .array(array)
            })?);
        }
        Ok(match self.to {
            Dtype::I32 => Buf::from_vec(out.into_iter().map(|v| v as i32).collect::<Vec<i32>>()),
            _ => Buf::from_vec(out),
        })
    }
}

/// A type of times that `--dtype` takes, as it is shown: `datetime64[us]`, `timedelta64[ns]`,
/// `timestamp[us, UTC]`, `duration[ms]`.
pub fn parse(text: &str) -> Option<Logical> {
    Logical::parse(text).filter(|logical| match logical {
        Logical::Timestamp(unit, _)
        | Logical::Datetime(unit)
        | Logical::Timedelta(unit)
        | Logical::Duration(unit) => unit.attoseconds().is_some(),
        _ => false,
    })
}

/// Times of the same kind in the other's unit: the logical type (a timestamp keeps its zone), and
/// the change. `None` where they are of different kinds, or a unit has no length.
pub fn rescaled(from: &Logical, to: &Logical, lossy: bool) -> Option<(Logical, Rescale)> {
    use Logical::*;
    let (a, b, logical) = match (from, to) {
        (Datetime(a), Datetime(b)) | (Timedelta(a), Timedelta(b)) | (Duration(a), Duration(b)) => {
            (a, b, to.clone())
        }
        (Timestamp(a, zone), Timestamp(b, other)) if other.is_none() || zone == other => {
            (a, b, Timestamp(b.clone(), zone.clone()))
        }
        _ => return None,
    };
    let (a, b) = (a.attoseconds()?, b.attoseconds()?);
    let divisor = gcd(a, b);
    let into = crate::model::ArrayMeta::column("", Dtype::I64, logical.clone(), None).type_name();
    let change = Rescale {
        multiply: a / divisor,
        divide: b / divisor,
        lossy,
        ..Rescale::between(Dtype::I64, Dtype::I64, &into)
    };
    Some((logical, change))
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Makes NaT null, in a mask that is made if there is none.
pub fn nat_to_null(values: &Buf, valid: &mut Option<Mask>, rows: u64) {
    let counts = typed::<i64>(values);
    if !counts.contains(&i64::MIN) || counts.len() as u64 != rows {
        return;
    }
    let mut mask = valid.as_ref().map_or_else(|| vec![1u8; rows as usize], |v| v.to_vec());
    for (m, v) in mask.iter_mut().zip(counts.iter()) {
        *m &= u8::from(*v != i64::MIN);
    }
    *valid = Some(Buf::from_vec(mask));
}

/// A way to tell a time in a type that `supports` takes, the closest first: the new logical type, its
/// dtype and the change.
pub fn closest_supported(logical: &Logical, supports: fn(&Logical) -> bool) -> Option<Way> {
    ways(logical).into_iter().find(|(logical, _, _)| supports(logical))
}

/// A logical type, its dtype, and how the values change.
type Way = (Logical, Dtype, Option<Rescale>);

fn rescale(from: Dtype, to: Dtype, multiply: i64, into: &str) -> Option<Rescale> {
    Some(Rescale { multiply: multiply.into(), ..Rescale::between(from, to, into) })
}

/// Values of 64 bits, multiplied.
fn multiplied(multiply: i64, into: &str) -> Option<Rescale> {
    if multiply == 1 { None } else { rescale(Dtype::I64, Dtype::I64, multiply, into) }
}

/// How many of which unit, of those that Arrow has, a unit of numpy is.
fn arrow_unit(unit: &TimeUnit) -> Option<(&str, i64)> {
    let count = unit.count as i64;
    Some(match unit.base.as_str() {
        base @ ("s" | "ms" | "us" | "ns") => (base, count),
        "W" => ("s", 604_800 * count),
        "D" => ("s", 86_400 * count),
        "h" => ("s", 3_600 * count),
        "m" => ("s", 60 * count),
        _ => return None,
    })
}

/// All ways to tell a time, the closest first.
fn ways(logical: &Logical) -> Vec<Way> {
    use Logical::*;
    match logical {
        Datetime(u) | Timestamp(u, None) => {
            let stamp = |(unit, multiply): (&str, i64), into: &str| -> Way {
                (Timestamp(TimeUnit::new(unit), None), Dtype::I64, multiplied(multiply, into))
            };
            let mut ways = Vec::new();
            if u.base == "D" && u.count == 1 {
                ways.push((Date32, Dtype::I32, rescale(Dtype::I64, Dtype::I32, 1, "date32")));
                ways.extend(arrow_unit(u).map(|unit| stamp(unit, "timestamp[s]")));
            } else {
                ways.extend(arrow_unit(u).map(|unit| stamp(unit, "timestamp")));
            }
            ways.push((Datetime(u.clone()), Dtype::I64, None));
            ways
        }
        Timestamp(u, Some(_)) => vec![(Datetime(u.clone()), Dtype::I64, None)],
        Timedelta(u) | Duration(u) => {
            let duration = |(unit, multiply)| -> Way {
                (Duration(TimeUnit::new(unit)), Dtype::I64, multiplied(multiply, "duration"))
            };
            let exact = arrow_unit(u).map(duration);
            exact.into_iter().chain([(Timedelta(u.clone()), Dtype::I64, None)]).collect()
        }
        Date32 => {
            let wider = rescale(Dtype::I32, Dtype::I64, 1, "datetime64[D]");
            vec![(Datetime(TimeUnit::new("D")), Dtype::I64, wider)]
        }
        Date64 => vec![(Datetime(TimeUnit::new("ms")), Dtype::I64, None)],
        Time32(u) => {
            let wider = rescale(Dtype::I32, Dtype::I64, 1, "timedelta64");
            vec![(Timedelta(u.clone()), Dtype::I64, wider)]
        }
        Time64(u) => vec![(Timedelta(u.clone()), Dtype::I64, None)],
        _ => Vec::new(),
    }
}
