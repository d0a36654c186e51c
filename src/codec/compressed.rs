//! Whole files that are compressed with gzip or zstd, as `x.npy.gz`.
//!
//! | coding | first bytes | |
//! |---|---|---|
//! | gzip | `1F 8B` | RFC 1952; several members after one another are one file |
//! | zstd | `28 B5 2F FD` | RFC 8878; several frames after one another are one file, skippable ones count for nothing |

use std::io::{self, BufReader, Read};

use crate::error::{Error, Result};
use crate::storage::Location;

/// How a whole file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// Both.
    pub const ALL: [Coding; 2] = [Coding::Gzip, Coding::Zstd];

    /// The coding that these first bytes announce.
    pub fn of(head: &[u8]) -> Option<Coding> {
        let mut head = head;
        // Skippable frames may come before those of zstd: pzstd writes one before each.
        while let [0x50..=0x5F, 0x2A, 0x4D, 0x18, a, b, c, d, rest @ ..] = head {
            head = rest.get(u32::from_le_bytes([*a, *b, *c, *d]) as usize..)?;
            if head.starts_with(Coding::Zstd.magic()) {
                return Some(Coding::Zstd);
            }
        }
        Coding::ALL.into_iter().find(|c| head.starts_with(c.magic()))
    }
    fn magic(self) -> &'static [u8] {
        match self {
            Coding::Gzip => &[0x1F, 0x8B],
            Coding::Zstd => &[0x28, 0xB5, 0x2F, 0xFD],
        }
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
        }
    }
    /// The ending of such files, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Coding::Gzip => "gz",
            Coding::Zstd => "zst",
        }
    }
    /// A file name without the ending, in whatever case: `x.npy` of `x.npy.GZ`.
    pub fn strip(self, name: &str) -> Option<&str> {
        let (stem, ending) = name.rsplit_once('.')?;
        (!stem.is_empty() && ending.eq_ignore_ascii_case(self.extension())).then_some(stem)
    }
    /// Refuses a file whose name says that it is compressed, and whose bytes end within the first
    /// ones of its coding.
    ///
    /// # Errors
    /// Corrupt.
    pub fn not_cut(head: &[u8], name: &str) -> Result<()> {
        let coding = Coding::ALL.into_iter().find(|c| c.strip(name).is_some());
        match coding.filter(|c| head.len() < c.magic().len() && c.magic().starts_with(head)) {
            Some(coding) => Err(coding.damaged(io::ErrorKind::UnexpectedEof.into())),
            None => Ok(()),
        }
    }
    /// The decoded bytes. Damage comes as an [`Error`] in the reader's errors; an error of `from`
    /// comes as it is.
    ///
    /// # Errors
    /// Where the decoder cannot be made.
    pub fn decoder(self, from: impl Read + Send + 'static) -> Result<Box<dyn Read + Send>> {
        let inner: Box<dyn Read + Send> = match self {
            Coding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(
                BufReader::with_capacity(1 << 18, from),
            )),
            Coding::Zstd => {
                Box::new(zstd::stream::read::Decoder::new(from).map_err(|e| self.damaged(e))?)
            }
        };
        Ok(Box::new(Decoder { inner, coding: self }))
    }
    /// What an error of a decoder means; one that only came through it keeps its own words.
    pub fn damaged(self, error: io::Error) -> Error {
        let error = match error.downcast::<Error>() {
            Ok(ours) => return ours,
            Err(other) => other,
        };
        let name = self.name();
        match error.kind() {
            // The system's own, as the disk's.
            _ if error.raw_os_error().is_some() => Error::reading(error),
            io::ErrorKind::UnexpectedEof => {
                Error::corrupt(format!("the {name} data ends too early"))
            }
            _ => Error::corrupt(format!("the {name} data is damaged")).because(error),
        }
    }
}

struct Decoder {
    inner: Box<dyn Read + Send>,
    coding: Coding,
}

impl Read for Decoder {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf).map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => e,
            _ => io::Error::other(self.coding.damaged(e)),
        })
    }
}

/// What is inside a compressed file, as a stream: its name is the file's without the ending.
///
/// # Errors
/// Where the file cannot be read.
pub fn unpacked(at: &Location, coding: Coding) -> Result<Location> {
    let name = at.file_name();
    let inner = coding.strip(&name).unwrap_or(&name).to_string();
    Ok(at.derived(&inner, coding.decoder(at.stream()?)?))
}
