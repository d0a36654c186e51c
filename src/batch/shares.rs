//! Shares of a batch: which of several machines converts which unit.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// One of the shares of a batch. Every unit belongs to exactly one of them, by its name alone: what
/// other units there are moves it nowhere.
pub(crate) use crate::format::Share as Shard;

impl Shard {
    /// All units: the only share of one.
    pub(crate) const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// `3/16` is the fourth of sixteen shares.
    ///
    /// # Errors
    /// Usage: no two numbers, or no such share.
    pub(crate) fn parse(text: &str) -> Result<Shard> {
        let numbers = text.split_once('/').and_then(|(index, count)| {
            let number = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse().ok())?;
            Some((number(index)?, number(count)?))
        });
        match numbers {
            Some((index, count)) if index < count => Ok(Shard { index, count }),
            Some((index, count)) => {
                let of = if count == 0 { 16 } else { count };
                let last = format!("the last of {of} is {}/{of}", of - 1);
                Err(Error::usage(format!("--shard {text}: there is no share {index} of {count}"))
                    .hint(format!("shares are counted from 0: {last}")))
            }
            None => Err(Error::usage(format!("--shard takes I/N, not '{text}'"))
                .hint("the first of 16 shares is 0/16, the last 15/16")),
        }
    }

    /// The one of so many shares that the unit with this key belongs to.
    pub(crate) fn of(key: &str, count: u64) -> Shard {
        Shard { index: hash64(&group(key)) % count, count }
    }

    /// Whether the unit with this key belongs to the share.
    pub(crate) fn holds(self, key: &str) -> bool {
        self == Shard::of(key, self.count)
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// The first 8 bytes of the SHA-256 of a key, as a big-endian number. It is pinned: another version
/// of npk, or a script, finds the same shares.
pub(crate) fn hash64(key: &str) -> u64 {
    let digest = Sha256::digest(key.as_bytes());
    digest.iter().take(8).fold(0, |hash, &byte| hash << 8 | u64::from(byte))
}

/// The key that decides about the share: of the files of one checkpoint
/// (`model-00001-of-00003.npk`) it is the checkpoint's (`model.npk`), so that they stay together.
pub(crate) fn group(key: &str) -> Cow<'_, str> {
    let without_number = || {
        let (numbered, total) = key.rsplit_once("-of-")?;
        let ending = total.trim_start_matches(|c: char| c.is_ascii_digit());
        let (stem, number) = numbered.rsplit_once('-')?;
        let numbers = number.len() >= 2
            && number.bytes().all(|b| b.is_ascii_digit())
            && total.len() - ending.len() >= 2;
        (numbers && ending.starts_with('.') && !ending.contains('/'))
            .then(|| format!("{stem}{ending}"))
    };
    without_number().map_or(Cow::Borrowed(key), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the names and the number of shares, each name is in one of them.
    #[test]
    fn every_unit_is_in_one_share() {
        let mut random = 0x9E37_79B9_7F4A_7C15u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        for _ in 0..300 {
            let count = 1 + next() % 40;
            let name: String = (0..next() % 30)
                .filter_map(|_| char::from_u32((next() % 0x11_0000) as u32))
                .collect();
            let key = match next() % 3 {
                0 => format!("{name}-{:05}-of-00040.npk", next() % 40),
                1 => format!("sub/{name}.npk"),
                _ => name,
            };
            let holders = (0..count).filter(|&index| Shard { index, count }.holds(&key)).count();
            assert_eq!(holders, 1, "{key:?} of {count}");
        }
    }

    /// As docs/many-machines.md has them.
    #[test]
    fn the_hash_is_pinned() {
        for (key, hash) in [
            ("", 0xe3b0_c442_98fc_1c14),
            ("a.npk", 0x7940_6f1d_54dc_459f),
            ("run-7/embeddings.npk", 0x7fc0_ee7f_0803_9212),
            ("grün.npk", 0xb1dd_8f25_1d2c_d26e),
            ("sub/model.npk", 0x9d88_c523_70e1_b994),
        ] {
            assert_eq!(hash64(key), hash, "{key}");
        }
    }
}
