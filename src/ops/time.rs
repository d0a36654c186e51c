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

/// A way to tell a time in a type that `holds` takes, the closest first: the new logical type, its
/// dtype and the change.
pub fn told_as(
    logical: &Logical,
    holds: fn(&Logical) -> bool,
) -> Option<(Logical, Dtype, Option<Rescale>)> {
    use Logical::*;
    let second = || TimeUnit::new("s");
    let rescale = |from, to, multiply: i64, into: &str| {
        Some(Rescale { multiply: multiply.into(), ..Rescale::between(from, to, into) })
    };
    let mut ways: Vec<(Logical, Dtype, Option<Rescale>)> = Vec::new();
    match logical {
        Datetime(u) | Timestamp(u, None) => {
            let (base, count) = (u.base.as_str(), u.count as i64);
            let stamp = |unit: &str, multiply: i64| {
                let logical = Timestamp(TimeUnit::new(unit), None);
                (
                    logical,
                    Dtype::I64,
                    if multiply == 1 {
                        None
                    } else {
                        rescale(Dtype::I64, Dtype::I64, multiply, "timestamp")
                    },
                )
            };
            match base {
                "s" | "ms" | "us" | "ns" => ways.push(stamp(base, count)),
                "D" if count == 1 => {
                    ways.push((Date32, Dtype::I32, rescale(Dtype::I64, Dtype::I32, 1, "date32")));
                    ways.push((
                        Timestamp(second(), None),
                        Dtype::I64,
                        rescale(Dtype::I64, Dtype::I64, 86400, "timestamp[s]"),
                    ));
                }
                "W" | "D" | "h" | "m" => {
                    let seconds = match base {
                        "W" => 604_800,
                        "D" => 86_400,
                        "h" => 3_600,
                        _ => 60,
                    };
                    ways.push(stamp("s", seconds * count));
                }
                _ => {}
            }
            ways.push((Datetime(u.clone()), Dtype::I64, None));
        }
        Timestamp(u, Some(_)) => ways.push((Datetime(u.clone()), Dtype::I64, None)),
        Timedelta(u) | Duration(u) => {
            let count = u.count as i64;
            let multiply = match u.base.as_str() {
                "s" | "ms" | "us" | "ns" => Some((u.base.as_str(), count)),
                "W" => Some(("s", 604_800 * count)),
                "D" => Some(("s", 86_400 * count)),
                "h" => Some(("s", 3_600 * count)),
                "m" => Some(("s", 60 * count)),
                _ => None,
            };
            if let Some((unit, by)) = multiply {
                let change =
                    if by == 1 { None } else { rescale(Dtype::I64, Dtype::I64, by, "duration") };
                ways.push((Duration(TimeUnit::new(unit)), Dtype::I64, change));
            }
            ways.push((Timedelta(u.clone()), Dtype::I64, None));
        }
        Date32 => ways.push((
            Datetime(TimeUnit::new("D")),
            Dtype::I64,
            rescale(Dtype::I32, Dtype::I64, 1, "datetime64[D]"),
        )),
        Date64 => ways.push((Datetime(TimeUnit::new("ms")), Dtype::I64, None)),
        Time32(u) => ways.push((
            Timedelta(u.clone()),
            Dtype::I64,
            rescale(Dtype::I32, Dtype::I64, 1, "timedelta64"),
        )),
        Time64(u) => ways.push((Timedelta(u.clone()), Dtype::I64, None)),
        _ => {}
    }
    ways.into_iter().find(|(logical, _, _)| holds(logical))
}
