//! What text looks like: its lengths, and which values come most often.

use std::collections::HashMap;

/// Different values that are counted.
const MAX_VALUES: usize = 4096;
/// Bytes of a value that are kept to be shown.
const MAX_SHOWN_BYTES: usize = 80;

/// The figures of a column of text.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// The bytes of the shortest, of the longest, and of all together.
    pub shortest: Option<u64>,
    /// See `shortest`.
    pub longest: u64,
    /// See `shortest`.
    pub bytes: u64,
    /// Values that are not null.
    pub count: u64,
    counts: HashMap<Key, u64>,
    /// Whether there were more different values than are counted.
    full: bool,
}

/// The beginning of a value, its length, and a hash of the whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key(Vec<u8>, u64, u64);

impl Texts {
    /// One more value.
    pub fn add(&mut self, text: &[u8]) {
        let length = text.len() as u64;
        self.count += 1;
        self.bytes += length;
        self.longest = self.longest.max(length);
        self.shortest = Some(self.shortest.map_or(length, |s| s.min(length)));
        let shown = &text[..text.len().min(MAX_SHOWN_BYTES)];
        let hash = if shown.len() == text.len() { 0 } else { hash(text) };
        self.count_of(Key(shown.to_vec(), length, hash), 1);
    }
    fn count_of(&mut self, key: Key, n: u64) {
        if let Some(count) = self.counts.get_mut(&key) {
            *count += n;
        } else if self.counts.len() < MAX_VALUES {
            self.counts.insert(key, n);
        } else {
            self.full = true;
        }
    }
    /// The same over the values of both.
    pub fn merge(&mut self, other: Texts) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.longest = self.longest.max(other.longest);
        self.shortest = [self.shortest, other.shortest].into_iter().flatten().min();
        self.full |= other.full;
        // In one order, so that the same values are kept whenever this is run.
        let mut counts: Vec<(Key, u64)> = other.counts.into_iter().collect();
        counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts.into_iter().for_each(|(key, n)| self.count_of(key, n));
    }
    /// How many different values there are, and whether that is exact.
    pub fn distinct(&self) -> (usize, bool) {
        (self.counts.len(), !self.full)
    }
    /// The values that come most often, with their counts; shortened ones end in `…`.
    pub fn most_frequent(&self, most: usize) -> Vec<(String, u64)> {
        let mut all: Vec<(&Key, u64)> = self.counts.iter().map(|(key, &n)| (key, n)).collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        let shown = |(Key(bytes, length, _), n): (&Key, u64)| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let cut = *length > bytes.len() as u64;
            // A character may have been cut in two.
            let text =
                if cut { text.trim_end_matches('\u{fffd}').to_string() + "…" } else { text };
            (text, n)
        };
        all.into_iter().take(most).map(shown).collect()
    }
}

fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
