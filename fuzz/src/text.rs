//! Text that people write: patterns, names, numbers, options. What can be is compared with another,
//! simpler way to the same answer.

use std::cmp::Ordering;

use npk::Dtype;
use npk::formats::text::delimited::number::{NumberKind, Reader, boolean, special};
use npk::formats::text::delimited::print::{Numbers, Printf};
use npk::model::{Logical, TimeUnit, iso8601};
use npk::resolve::{names as choosing, nulls::Nulls, rows::Slice};

/// The texts between zero bytes.
fn texts(bytes: &[u8]) -> Vec<&str> {
    bytes.split(|&b| b == 0).filter_map(|part| std::str::from_utf8(part).ok()).collect()
}

/// A pattern and a name, against the definition by recursion.
pub fn patterns(bytes: &[u8]) {
    fn matches(pattern: &[u8], name: &[u8]) -> bool {
        // reached[i]: whether the pattern so far takes the first i bytes of the name.
        let mut reached = vec![false; name.len() + 1];
        reached[0] = true;
        let mut rest = pattern.iter();
        while let Some(&b) = rest.next() {
            if b == b'*' {
                let first = reached.iter().position(|&r| r).unwrap_or(reached.len());
                reached[first..].fill(true);
                continue;
            }
            let b = if b == b'\\' { *rest.next().unwrap_or(&b'\\') } else { b };
            for i in (0..name.len()).rev() {
                reached[i + 1] = reached[i] && name[i] == b;
            }
            reached[0] = false;
        }
        reached[name.len()]
    }
    let texts = texts(bytes);
    let [text, name, ..] = texts[..] else { return };
    if text.len().max(name.len()) > 200 {
        return;
    }
    let pattern = choosing::Pattern::new(text);
    let due = text == name || matches(text.as_bytes(), name.as_bytes());
    assert_eq!(pattern.matches(name), due, "{text:?} of {name:?}");
    assert!(!pattern.is_exactly(name) || due);
}

/// The order of names is one: the same in both directions, and through a third.
pub fn names(bytes: &[u8]) {
    let texts = texts(bytes);
    let [a, b, c, ..] = texts[..] else { return };
    let order = choosing::natural;
    assert_eq!(order(a, b), order(b, a).reverse(), "{a:?} {b:?}");
    assert_eq!(order(a, b) == Ordering::Equal, a == b, "{a:?} {b:?}");
    if order(a, b) == order(b, c) {
        assert_eq!(order(a, c), order(a, b), "{a:?} {b:?} {c:?}");
    }
    if a.len() < 100 {
        let _ = choosing::nearest(a, [b, c].into_iter());
    }
}

/// Numbers, against the standard library's.
pub fn numbers(bytes: &[u8]) {
    let reader = Reader::new(b'.');
    let _ = (special(bytes), boolean(bytes), reader.is_number(bytes));
    let _ = (reader.complex(bytes, false), reader.complex(bytes, true));
    let Some(number) = reader.read(bytes, 0) else { return };
    assert!(number.end <= bytes.len());
    let text = std::str::from_utf8(&bytes[..number.end]).expect("digits, signs and a point");
    let double: f64 = text.parse().expect("a number for the standard library, too");
    match number.kind {
        NumberKind::Float | NumberKind::Overflow | NumberKind::Long => {
            assert_eq!(number.bits, double.to_bits(), "{text}: {:?}", number.kind);
        }
        NumberKind::Integer | NumberKind::Zeros => {
            let due = text.strip_prefix('+').unwrap_or(text).parse::<i128>().expect("an integer");
            let got = match number.negative {
                true => i128::from(number.bits as i64),
                false => i128::from(number.bits),
            };
            assert_eq!(got, due, "{text}");
        }
    }
    let single: f32 = text.parse().expect("a number");
    assert_eq!(reader.single(text.as_bytes()).to_bits(), single.to_bits(), "{text} as float32");
}

/// Numbers that are printed are the same when they are read.
pub fn printing(bytes: &[u8]) {
    let numbers = Numbers { nan: "nan", decimal: b'.', format: None };
    let read = |out: &[u8]| std::str::from_utf8(out).unwrap().parse::<f64>().unwrap();
    for item in bytes.chunks_exact(8).take(8) {
        let bits = u64::from_le_bytes(item.try_into().unwrap());
        let double = f64::from_bits(bits);
        let mut out = Vec::new();
        numbers.real(double, &mut out);
        assert!(double.is_nan() && read(&out).is_nan() || read(&out).to_bits() == bits);
        out.clear();
        let single = f32::from_bits(bits as u32);
        numbers.real(single, &mut out);
        let back: f32 = std::str::from_utf8(&out).unwrap().parse().unwrap();
        assert!(single.is_nan() && back.is_nan() || back.to_bits() == single.to_bits());
        out.clear();
        numbers.complex(double, f64::from(single), &mut out);
        let reader = Reader::new(b'.');
        let (re, im) = reader.complex(&out, true).expect("a complex number");
        let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
        let said = String::from_utf8_lossy(&out);
        assert!(same(re, double) && same(im, f64::from(single)), "{said}");
    }
    if let Some(text) = texts(bytes).first()
        && text.len() < 64
        && let Ok(format) = Printf::parse(text)
    {
        let value = bytes.last_chunk::<8>().map_or(0.0, |b| f64::from_le_bytes(*b));
        format.print(value, &mut Vec::new());
    }
}

/// Times that are printed are the count that they were printed from, by the calendar's own rule.
pub fn times(bytes: &[u8]) {
    let Some(([unit, kind], rest)) = bytes.split_first_chunk::<2>() else { return };
    let Some(count) = rest.first_chunk::<8>().map(|b| i64::from_le_bytes(*b)) else { return };
    const UNITS: [(&str, i128); 5] =
        [("D", 86_400), ("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)];
    let (name, size) = UNITS[usize::from(*unit) % UNITS.len()];
    let unit = TimeUnit::new(name);
    let logical = match kind % 5 {
        0 => Logical::Datetime(unit),
        1 => Logical::Timestamp(unit, None),
        2 => Logical::Duration(unit),
        3 => Logical::Time64(unit),
        _ => Logical::Date64,
    };
    let mut out = Vec::new();
    iso8601::write(count, &logical, &mut out);
    let text = String::from_utf8(out).unwrap();
    if kind % 5 > 1 || text.is_empty() {
        return;
    }
    let (date, clock) = text.split_once('T').unwrap_or((&text, "00:00:00"));
    let (rest, day) = date.rsplit_once('-').unwrap();
    let (year, month) = rest.rsplit_once('-').unwrap();
    let int = |text: &str| text.parse::<i128>().unwrap();
    let days = days(int(year), int(month), int(day));
    if name == "D" {
        return assert_eq!(days, i128::from(count), "{text}");
    }
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let parts: Vec<i128> = clock.split(':').map(int).collect();
    let seconds = days * 86_400 + parts[0] * 3_600 + parts[1] * 60 + parts.get(2).unwrap_or(&0);
    let places = size.ilog10() as usize;
    let fraction = int(&format!("0{fraction:0<places$}"));
    assert_eq!(seconds * size + fraction, i128::from(count), "{text} in {name}");
}

/// Days since 1970 in the proleptic Gregorian calendar.
fn days(year: i128, month: i128, day: i128) -> i128 {
    const BEFORE: [i128; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leaps = |y: i128| y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400);
    let is_leap = leaps(year) > leaps(year - 1);
    let in_year = BEFORE[month as usize - 1] + i128::from(is_leap && month > 2) + day - 1;
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + in_year
}

/// What options take as text.
pub fn options(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.len() > 200 {
        return;
    }
    if let Ok(slice) = Slice::parse(text) {
        for total in [0, 1, 7, 1000, u64::MAX] {
            let (start, stop, count) = slice.of(total);
            assert!(start <= stop && stop <= total && count <= stop - start, "{text} of {total}");
            // Python's own rule.
            let due = (stop - start).div_ceil(slice.step);
            assert_eq!(count, due, "{text} of {total}");
        }
    }
    let _ = (choosing::pair("rename", text), choosing::substitution("rename", text));
    let _ = (Nulls::parse(text), Printf::parse(text), npk::console::parse_bytes(text));
    let _ = npk::ops::time::parse(text);
    if let Some(logical) = Logical::parse(text) {
        let _ = format!("{logical:?}");
    }
    if let Some(dtype) = Dtype::parse(text) {
        assert_eq!(Dtype::parse(&dtype.to_string()), Some(dtype), "{text}");
    }
    if let Some(unit) = TimeUnit::parse(text) {
        assert_eq!(TimeUnit::parse(&unit.to_string()).as_ref(), Some(&unit), "{text}");
        let _ = unit.attoseconds();
    }
}
