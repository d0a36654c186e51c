//! Dates, times and durations as ISO 8601 text.

use super::{Logical, TimeUnit};

/// Year, month, day of a day count from 1970-01-01 (Hinnant's algorithm).
fn civil(days: i128) -> (i128, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_index + 2) / 5 + 1) as u32;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 } as u32;
    (year_of_era + era * 400 + i128::from(month <= 2), month, day)
}

fn year(value: i128, out: &mut Vec<u8>) {
    let sign = if value < 0 { "-" } else { "" };
    out.extend_from_slice(format!("{sign}{:04}", value.abs()).as_bytes());
}

fn date(days: i128, out: &mut Vec<u8>) {
    let (y, m, d) = civil(days);
    year(y, out);
    out.extend_from_slice(format!("-{m:02}-{d:02}").as_bytes());
}

/// Decimal places of the second, for units below it.
fn places(unit: &str) -> Option<u32> {
    Some(match unit {
        "s" => 0,
        "ms" => 3,
        "us" => 6,
        "ns" => 9,
        "ps" => 12,
        "fs" => 15,
        "as" => 18,
        _ => return None,
    })
}

fn clock(seconds: i128, fraction: i128, places: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60).as_bytes(),
    );
    if places > 0 {
        out.extend_from_slice(format!(".{fraction:0width$}", width = places as usize).as_bytes());
    }
}

fn instant(count: i64, unit: &TimeUnit, out: &mut Vec<u8>) {
    let count = i128::from(count) * i128::from(unit.count);
    match unit.base.as_str() {
        "Y" => year(1970 + count, out),
        "M" => {
            year(1970 + count.div_euclid(12), out);
            out.extend_from_slice(format!("-{:02}", count.rem_euclid(12) + 1).as_bytes());
        }
        "W" => date(7 * count, out),
        "D" => date(count, out),
        "h" => {
            date(count.div_euclid(24), out);
            out.extend_from_slice(format!("T{:02}", count.rem_euclid(24)).as_bytes());
        }
        "m" => {
            date(count.div_euclid(1440), out);
            let minutes = count.rem_euclid(1440);
            out.extend_from_slice(format!("T{:02}:{:02}", minutes / 60, minutes % 60).as_bytes());
        }
        base => match places(base) {
            Some(places) => {
                let one = 10i128.pow(places);
                let (seconds, fraction) = (count.div_euclid(one), count.rem_euclid(one));
                date(seconds.div_euclid(86_400), out);
                out.push(b'T');
                clock(seconds.rem_euclid(86_400), fraction, places, out);
            }
            None => out.extend_from_slice(count.to_string().as_bytes()),
        },
    }
}

/// An ISO 8601 duration: `P1DT2H3M4.5S`.
fn duration(count: i64, unit: &TimeUnit, out: &mut Vec<u8>) {
    let count = i128::from(count) * i128::from(unit.count);
    let sign = if count < 0 { "-" } else { "" };
    let magnitude = count.abs();
    let whole = |letter: &str| format!("{sign}P{magnitude}{letter}");
    let text = match unit.base.as_str() {
        "Y" => whole("Y"),
        "M" => whole("M"),
        "generic" => count.to_string(),
        base => {
            let (one, per_unit) = match base {
                "W" => (1, 604_800),
                "D" => (1, 86_400),
                "h" => (1, 3600),
                "m" => (1, 60),
                sub => (10i128.pow(places(sub).unwrap_or(0)), 1),
            };
            let total = magnitude * per_unit;
            let (seconds, fraction) = (total / one, total % one);
            let mut text = format!(
                "{sign}P{}DT{}H{}M{}",
                seconds / 86_400,
                seconds / 3600 % 24,
                seconds / 60 % 60,
                seconds % 60
            );
            if fraction > 0 {
                let width = places(base).unwrap_or(0) as usize;
                text.push_str(format!(".{fraction:0width$}").trim_end_matches('0'));
            }
            text + "S"
        }
    };
    out.extend_from_slice(text.as_bytes());
}

/// Appends a time, date or duration of this kind; nothing for numpy's NaT. Other counts as numbers.
pub fn write(count: i64, logical: &Logical, out: &mut Vec<u8>) {
    match logical {
        Logical::Datetime(_) | Logical::Timedelta(_) if count == i64::MIN => {}
        Logical::Datetime(unit) => instant(count, unit, out),
        Logical::Timestamp(unit, zone) => {
            instant(count, unit, out);
            if zone.is_some() {
                out.extend_from_slice(b"+00:00");
            }
        }
        Logical::Timedelta(unit) | Logical::Duration(unit) => duration(count, unit, out),
        Logical::Date32 => date(i128::from(count), out),
        Logical::Date64 if count % 86_400_000 == 0 => date(i128::from(count / 86_400_000), out),
        Logical::Date64 => instant(count, &TimeUnit::new("ms"), out),
        Logical::Time32(unit) | Logical::Time64(unit) => {
            let places = places(&unit.base).unwrap_or(0);
            let one = 10i128.pow(places);
            let count = i128::from(count);
            if count < 0 {
                out.push(b'-');
            }
            clock(count.abs() / one, count.abs() % one, places, out);
        }
        _ => out.extend_from_slice(count.to_string().as_bytes()),
    }
}

/// The same as text to show: `NaT` for numpy's NaT.
pub fn text(count: i64, logical: &Logical) -> String {
    let mut out = Vec::new();
    write(count, logical, &mut out);
    match out.is_empty() {
        true => "NaT".into(),
        false => String::from_utf8_lossy(&out).into_owned(),
    }
}

/// The day count from 1970-01-01 of the first day of a month, which is counted from January 1970.
pub fn first_day(month: i128) -> i128 {
    let (year, month) = (1970 + month.div_euclid(12), month.rem_euclid(12) + 1);
    // Years begin in March, so that a leap day is the last of its year.
    let (year, month_index) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month_index + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::{civil, first_day};

    #[test]
    fn months_begin_on_their_first_day() {
        for month in (-40_000..40_000).chain([-1_200_000, 1_200_000]) {
            let (year, of_year, day) = civil(first_day(month));
            let expected = (1970 + month.div_euclid(12), month.rem_euclid(12) as u32 + 1, 1);
            assert_eq!((year, of_year, day), expected);
        }
    }
}
