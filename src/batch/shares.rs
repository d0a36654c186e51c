//! Shares of a batch: which of several machines converts which unit.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// One of `count` shares, `--shard I/N`. Every unit of a batch belongs to exactly one of them, by
/// its name alone: what other units there are moves it nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 0.
    pub(crate) index: u64,
    /// At least 1.
    pub(crate) count: u64,
}

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
                Err(Error::usage(format!("--shard {text}: there is no share {index} of {count}"))
                    .hint("shares are counted from 0: the last of 16 is 15/16"))
            }
            None => Err(Error::usage(format!("--shard takes I/N, not '{text}'"))
                .hint("the first of 16 shares is 0/16, the last 15/16")),
        }
    }

    /// Whether the unit with this key belongs to the share.
    pub(crate) fn holds(self, key: &str) -> bool {
        hash64(&group(key)) % self.count == self.index
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
