//! What is told of two arrays that differ.

use crate::model::TimeUnit;

/// How values differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// How many elements (rows of text) differ.
    pub count: u64,
    /// Of how many.
    pub of: u64,
    /// The first that differs, as an index into the shape.
    pub first: Vec<u64>,
    /// Its two values.
    pub values: (String, String),
    /// The largest absolute difference of numbers; of times that count the same, in their unit.
    pub largest_absolute: f64,
    /// The largest relative difference of numbers.
    pub largest_relative: f64,
    /// What they count, where they are times.
    pub unit: Option<TimeUnit>,
}

impl Difference {
    /// With those of other rows.
    pub(super) fn add(&mut self, other: Difference) {
        if self.count == 0 || other.first < self.first {
            self.first = other.first;
            self.values = other.values;
            self.unit = other.unit;
        }
        self.count += other.count;
        self.largest_absolute = self.largest_absolute.max(other.largest_absolute);
        self.largest_relative = self.largest_relative.max(other.largest_relative);
    }
}
