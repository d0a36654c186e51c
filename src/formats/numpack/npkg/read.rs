//! The members of a package as files of a store.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use crate::error::{Error, ForeignReader, Result, locked};
use crate::formats::numpack::store::cursor::Cursor;
use crate::formats::numpack::store::{Files, check_path};
use crate::storage::{Blob, BlobSlice, MemoryBlob, temporary};

/// What every file begins with.
pub(super) const MAGIC: &[u8; 4] = b"NPKG";

/// Members up to this size are unpacked in memory.
const MEMORY_BYTES: u64 = 1 << 20;
const MAX_PATH_BYTES: u32 = 1 << 16;
const WINDOW_BYTES: u64 = 64 << 10;

struct Member {
    path: String,
    /// Where its (compressed) bytes begin in the package.
    offset: u64,
    bytes: u64,
    /// 0: stored as it is.
    compressed: u64,
    unpacked: Mutex<Option<Weak<dyn Blob>>>,
    crc: OnceLock<u32>,
}

impl Member {
    fn stored_bytes(&self) -> u64 {
        if self.compressed == 0 { self.bytes } else { self.compressed }
    }
}

/// An opened package.
pub(super) struct Package {
    blob: Arc<dyn Blob>,
    version: u32,
    members: Vec<Member>,
    index: HashMap<String, usize>,
    checksum: u32,
}

impl Package {
    pub(super) fn open(blob: Arc<dyn Blob>) -> Result<Package> {
        let mut c = Cursor::new(blob.as_ref(), "the package", WINDOW_BYTES);
        if c.take(4)? != MAGIC {
            return Err(Error::corrupt("the file does not begin with NPKG"));
        }
        let version = c.number(4)? as u32;
        if version != 1 && version != 2 {
            return Err(Error::refused(format!(
                "the package has version {version}; only 1 and 2 are supported"
            )));
        }
        let compression = c.number(1)?;
        if compression > 1 {
            return Err(Error::refused(format!(
                "compression {compression} is not supported; 0 and 1 are"
            )));
        }
        let count = c.number(4)?;
        let (mut members, mut index) = (Vec::new(), HashMap::new());
        for i in 0..count {
            let n = c.number(4)? as u32;
            if n > MAX_PATH_BYTES {
                return Err(Error::corrupt(format!("the path of file {i} has {n} bytes")));
            }
            let path = c.text(n.into(), &format!("the path of file {i}"))?;
            check_path(&path)?;
            let (bytes, compressed) = (c.number(8)?, c.number(8)?);
            let offset = c.at();
            let stored = if compressed == 0 { bytes } else { compressed };
            offset.checked_add(stored).and_then(|end| c.seek(end)).ok_or_else(|| {
                Error::corrupt(format!("{path}: {stored} bytes at byte {offset} reach past the end of the package ({} bytes)", blob.len()))
            })?;
            if index.insert(path.clone(), members.len()).is_some() {
                return Err(Error::corrupt(format!("the package holds {path} twice")));
            }
            members.push(Member {
                path,
                offset,
                bytes,
                compressed,
                unpacked: Mutex::new(None),
                crc: OnceLock::new(),
            });
        }
        let checksum = c.number(4)? as u32;
        if c.at() != blob.len() {
            return Err(Error::corrupt(format!(
                "{} extra bytes follow the package",
                blob.len() - c.at()
            )));
        }
        Ok(Package { blob, version, members, index, checksum })
    }

    /// Streams a member's bytes to `out`; exactly as many as its header says.
    fn unpack(&self, member: &Member, out: &mut dyn Write) -> Result<()> {
        let raw =
            BlobSlice { blob: self.blob.clone(), start: member.offset, len: member.stored_bytes() };
        let mut from: Box<dyn Read> = Box::new(io::BufReader::with_capacity(
            256 << 10,
            crate::storage::BlobReader::new(Arc::new(raw)),
        ));
        if member.compressed != 0 {
            let mut head = vec![0; member.compressed.min(4) as usize];
            self.blob.read_at(member.offset, &mut head)?;
            let bad = |e: io::Error| {
                Error::corrupt(format!("{} cannot be unpacked", member.path)).because(e)
            };
            from = if head == [0x28, 0xB5, 0x2F, 0xFD] {
                Box::new(zstd::stream::read::Decoder::new(from).map_err(bad)?)
            } else if head.first().is_some_and(|b| b & 0x0F == 8) {
                Box::new(ForeignReader::new("flate2", flate2::read::ZlibDecoder::new(from)))
            } else {
                return Err(Error::corrupt(format!(
                    "{} is compressed with neither zstd nor zlib",
                    member.path
                )));
            };
        }
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; member.bytes.clamp(1, 256 << 10) as usize];
        let mut left = member.bytes;
        loop {
            // One byte more than announced is asked for, to find what is too long.
            let n = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    return Err(
                        Error::corrupt(format!("{} cannot be unpacked", member.path)).because(e)
                    );
                }
            };
            left = left.checked_sub(n as u64).ok_or_else(|| {
                Error::corrupt(format!(
                    "{} unpacks to more than {} bytes",
                    member.path, member.bytes
                ))
            })?;
            hasher.update(&buffer[..n]);
            out.write_all(&buffer[..n])?;
        }
        if left > 0 {
            return Err(Error::corrupt(format!(
                "{} unpacks to {} bytes, expected {}",
                member.path,
                member.bytes - left,
                member.bytes
            )));
        }
        let _ = member.crc.set(hasher.finalize());
        Ok(())
    }

    /// Compares the checksum; unpacks what was not unpacked yet.
    pub(super) fn check(&self) -> Result<()> {
        let mut over = crc32fast::Hasher::new();
        for member in &self.members {
            if member.crc.get().is_none() {
                self.unpack(member, &mut io::sink())?;
            }
            let crc = member.crc.get().copied().unwrap_or(0);
            if self.version == 1 {
                over.combine(&crc32fast::Hasher::new_with_initial_len(crc, member.bytes));
            } else {
                over.update(&crc.to_le_bytes());
            }
        }
        let found = over.finalize();
        if found == self.checksum {
            Ok(())
        } else {
            Err(Error::corrupt(format!(
                "the checksum of the package is {found:08x}, expected {:08x}: the data is damaged",
                self.checksum
            )))
        }
    }

    fn member(&self, path: &str) -> Option<&Member> {
        self.index.get(path).map(|&i| &self.members[i])
    }
}

impl Files for Package {
    fn len(&self, path: &str) -> Result<Option<u64>> {
        Ok(self.member(path).map(|m| m.bytes))
    }
    fn blob(&self, path: &str) -> Result<Arc<dyn Blob>> {
        let member = self
            .member(path)
            .ok_or_else(|| Error::missing(format!("the package has no {path}")))?;
        if member.compressed == 0 {
            return Ok(Arc::new(BlobSlice {
                blob: self.blob.clone(),
                start: member.offset,
                len: member.bytes,
            }));
        }
        let mut unpacked = locked(&member.unpacked);
        if let Some(blob) = unpacked.as_ref().and_then(Weak::upgrade) {
            return Ok(blob);
        }
        let blob: Arc<dyn Blob> = if member.bytes <= MEMORY_BYTES {
            let mut bytes = Vec::with_capacity(member.bytes as usize);
            self.unpack(member, &mut bytes)?;
            Arc::new(MemoryBlob(bytes))
        } else {
            let mut file = temporary::Writer(temporary::file()?);
            self.unpack(member, &mut file)?;
            let temporary::Writer(file) = file;
            Arc::new(Unpacked { file, len: member.bytes })
        };
        *unpacked = Some(Arc::downgrade(&blob));
        Ok(blob)
    }
    fn slice(&self, path: &str) -> Result<BlobSlice> {
        match self.member(path).filter(|m| m.compressed == 0) {
            Some(member) => {
                Ok(BlobSlice { blob: self.blob.clone(), start: member.offset, len: member.bytes })
            }
            None => self.blob(path).map(BlobSlice::whole),
        }
    }
    fn is_packed(&self, path: &str) -> bool {
        self.member(path).is_some_and(|m| m.compressed > 0)
    }
    fn keep_open(&self) -> u64 {
        4
    }
    fn close(&self, all: bool) -> Result<()> {
        if all { self.check() } else { Ok(()) }
    }
}

/// A member unpacked to an unnamed temporary file.
struct Unpacked {
    file: File,
    len: u64,
}

impl Blob for Unpacked {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset).map_err(Error::reading)
    }
}
