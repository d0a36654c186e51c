//! Times of one kind in different units.

use crate::model::{ArrayMeta, Logical, TimeUnit, iso8601};

/// Counts of two units in a unit that both are whole numbers of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    a: Scale,
    b: Scale,
}

#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Months a count has, where it counts months of the calendar: days come of them.
    months: Option<i128>,
    factor: i128,
}

impl Scale {
    /// `None` past 2^127, where nothing that a smaller unit counts can be.
    fn of(self, count: i128) -> Option<i128> {
        let count = self.months.map_or(count, |months| iso8601::first_day(count * months));
        count.checked_mul(self.factor)
    }
}

impl Times {
    /// Of two arrays that are both instants, or both spans of time; `None` where they are not, or
    /// where a month would need a length.
    pub(super) fn of(a: &Logical, b: &Logical) -> Option<Times> {
        let is_instant = |l: &Logical| {
            matches!(
                l,
                Logical::Datetime(_) | Logical::Timestamp(..) | Logical::Date32 | Logical::Date64
            )
        };
        if is_instant(a) != is_instant(b) {
            return None;
        }
        let (one, other) = (a.time_unit()?, b.time_unit()?);
        if one == other || one.base == other.base {
            let scale = |unit: TimeUnit| Scale { months: None, factor: unit.count.into() };
            return Some(Times { a: scale(one), b: scale(other) });
        }
        let months = |unit: &TimeUnit| match unit.base.as_str() {
            "Y" => Some(12 * i128::from(unit.count)),
            "M" => Some(i128::from(unit.count)),
            _ => None,
        };
        if !is_instant(a) {
            if let (Some(x), Some(y)) = (months(&one), months(&other)) {
                let scale = |factor| Scale { months: None, factor };
                return Some(Times { a: scale(x), b: scale(y) });
            }
            return Some(Times::of_lengths(one.attoseconds()?, other.attoseconds()?));
        }
        let day = TimeUnit::new("D");
        let length = |unit: &TimeUnit| match months(unit) {
            Some(_) => day.attoseconds(),
            None => unit.attoseconds(),
        };
        let mut times = Times::of_lengths(length(&one)?, length(&other)?);
        (times.a.months, times.b.months) = (months(&one), months(&other));
        Some(times)
    }

    fn of_lengths(a: i128, b: i128) -> Times {
        let (mut x, mut y) = (a, b);
        while y != 0 {
            (x, y) = (y, x % y);
        }
        let scale = |length: i128| Scale { months: None, factor: length / x.max(1) };
        Times { a: scale(a), b: scale(b) }
    }

    /// Whether two counts are the same time.
    pub(super) fn equal(&self, a: i128, b: i128) -> bool {
        let (a, b) = (self.a.of(a), self.b.of(b));
        a.is_some() && a == b
    }
}

/// Whether both count the same, so that equal counts are equal times.
pub(super) fn same_unit(a: &ArrayMeta, b: &ArrayMeta) -> bool {
    a.logical.time_unit() == b.logical.time_unit()
}

#[cfg(test)]
mod tests {
    use super::Times;
    use crate::model::{Logical, TimeUnit};

    fn at(unit: &str) -> Logical {
        Logical::Datetime(TimeUnit::parse(unit).unwrap())
    }
    fn span(unit: &str) -> Logical {
        Logical::Timedelta(TimeUnit::parse(unit).unwrap())
    }

    #[test]
    fn instants_and_spans_are_equal_in_any_unit() {
        let equal =
            |a: &Logical, x: i128, b: &Logical, y: i128| Times::of(a, b).unwrap().equal(x, y);
        assert!(equal(&at("s"), 1, &at("ms"), 1000));
        assert!(!equal(&at("s"), 1, &at("ms"), 1));
        assert!(equal(&at("25s"), 4, &at("20s"), 5));
        assert!(equal(&at("Y"), 50, &at("D"), 18_262));
        assert!(equal(&at("M"), -1, &at("h"), -31 * 24));
        assert!(equal(&at("Y"), 1, &at("M"), 12));
        assert!(equal(&Logical::Date32, 1, &Logical::Date64, 86_400_000));
        assert!(equal(&span("Y"), 2, &span("M"), 24));
        assert!(equal(&span("m"), 1, &Logical::Time32(TimeUnit::new("s")), 60));
        // Years are far more than attoseconds count.
        let far = i128::from(i64::MAX);
        assert!(!equal(&at("W"), far, &at("as"), far));
        for (a, b) in [(at("s"), span("s")), (span("M"), span("D")), (at("generic"), at("s"))] {
            assert!(Times::of(&a, &b).is_none(), "{a:?} {b:?}");
        }
    }
}
