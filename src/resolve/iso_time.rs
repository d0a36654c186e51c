//! Dates and times in words, as ISO 8601 has them: `2020-01-31`, `2020-01-31T12:30:00.5Z`, `12:30`.

use crate::model::iso8601::first_day;
use crate::model::{Logical, TimeUnit};

/// The count of a date, an instant or a time of day in this type; `None` where the text is none, or
/// the type cannot hold it exactly.
pub fn count(text: &str, logical: &Logical) -> Option<i64> {
    let text = text.trim();
    let (unit, zoned) = match logical {
        Logical::Date32 => (TimeUnit::new("D"), false),
        Logical::Date64 => (TimeUnit::new("ms"), false),
        Logical::Datetime(unit) => (unit.clone(), false),
        Logical::Timestamp(unit, zone) => (unit.clone(), zone.is_some()),
        Logical::Time32(unit) | Logical::Time64(unit) => {
            return counted(clock(text)?, unit);
        }
        _ => return None,
    };
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let utc = time.and_then(|t| t.strip_suffix('Z').or_else(|| t.strip_suffix("+00:00")));
    let time = match (time, utc) {
        (None, _) => "00:00",
        (Some(_), Some(utc)) if zoned => utc,
        (Some(time), None) if !zoned => time,
        // A clock whose zone nobody knows, or one that the type does not have.
        _ => return None,
    };
    counted(days(date)?.checked_mul(DAY)?.checked_add(clock(time)?)?, &unit)
}

/// Whether a count is within what the type means: times of day are less than 24 hours, and the
/// least count of numpy's times is none.
pub fn holds(logical: &Logical, count: i64) -> bool {
    match logical {
        Logical::Time32(unit) | Logical::Time64(unit) => {
            let one = unit.attoseconds().unwrap_or(1);
            count >= 0 && i128::from(count) < DAY / one
        }
        Logical::Datetime(_) | Logical::Timedelta(_) => count != i64::MIN,
        _ => true,
    }
}

/// In attoseconds.
const DAY: i128 = 86_400 * SECOND;
/// In attoseconds.
const SECOND: i128 = 1_000_000_000_000_000_000;

fn counted(attoseconds: i128, unit: &TimeUnit) -> Option<i64> {
    let one = unit.attoseconds()?;
    (attoseconds % one == 0).then(|| i64::try_from(attoseconds / one).ok())?
}

/// Digits alone: a number's parser would take a sign.
fn number(text: &str, digits: usize) -> Option<i128> {
    let good = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    if good { text.parse().ok() } else { None }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
fn days(text: &str) -> Option<i128> {
    let [year, month, day] = text.split('-').collect::<Vec<_>>()[..] else { return None };
    let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i128::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    Some(first_day((year - 1970) * 12 + month - 1) + day - 1)
}

/// `12:30`, `12:30:00`, `12:30:00.25` in attoseconds.
fn clock(text: &str) -> Option<i128> {
    let mut parts = text.split(':');
    let (hours, minutes) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let (whole, fraction) = match parts.next() {
        None => ("00", ""),
        Some(seconds) => seconds.split_once('.').unwrap_or((seconds, "")),
    };
    let seconds = number(whole, 2)?;
    if parts.next().is_some() || hours > 23 || minutes > 59 || seconds > 59 || fraction.len() > 18 {
        return None;
    }
    let fraction = match fraction {
        "" => 0,
        digits => number(&format!("{digits:0<18}"), 18)?,
    };
    Some((hours * 3600 + minutes * 60 + seconds) * SECOND + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_counted() {
        let us = || TimeUnit::new("us");
        let instant = |text| count(text, &Logical::Timestamp(us(), None));
        assert_eq!(instant("2020-01-01"), Some(1_577_836_800_000_000));
        assert_eq!(instant("1969-12-31T23:59:59.999999"), Some(-1));
        assert_eq!(instant("2000-02-29 00:00:01"), Some(951_782_401_000_000));
        for bad in ["2001-02-29", "1900-02-29", "2020-13-01", "2020-1-1", "24:00", "nan", ""] {
            assert_eq!(instant(bad), None, "{bad}");
        }
        // Finer than the type, and of no zone.
        assert_eq!(instant("2020-01-01T00:00:00.0000001"), None);
        assert_eq!(instant("2020-01-01T00:00Z"), None);
        let zoned = |text| count(text, &Logical::Timestamp(us(), Some("Asia/Tokyo".into())));
        assert_eq!(zoned("2020-01-01T00:00Z"), Some(1_577_836_800_000_000));
        assert_eq!(zoned("2020-01-01T00:00"), None);
        assert_eq!(count("2020-01-01", &Logical::Date32), Some(18_262));
        assert_eq!(count("12:30", &Logical::Time32(TimeUnit::new("s"))), Some(45_000));
        assert!(
            !holds(&Logical::Time64(us()), -1) && !holds(&Logical::Time64(us()), 86_400_000_000)
        );
        assert!(holds(&Logical::Time64(us()), 86_399_999_999));
    }
}
