//! Headers of files of a hub, kept on this machine: the heads and tails of files whose ETag is the
//! SHA-256 of their content. So an entry can never be out of date, whichever repository it came
//! from; and it is used only after the hub has named that ETag to this token. Web servers and
//! object storage have no such ETags, and nothing of them is kept.
//!
//! One file an entry, written aside and renamed: several processes may use the folder at once. What
//! cannot be read, or is not what it should be, counts as not there.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::error::locked;
/// `off` or `0`: nothing is kept. Anything else is the folder to keep it in.
const SWITCH: &str = "NPK_HEADER_CACHE";
/// What all entries may have together; the oldest go first.
const MAX_BYTES: u64 = 64 << 20;
/// The largest entry.
const MAX_ENTRY_BYTES: u64 = 8 << 20;
/// Reads from here on are not of a header, unless they are of the tail.
const HEAD: u64 = 64 << 10;
const TAIL: u64 = 64 << 10;

const MAGIC: &[u8; 8] = b"npkhead1";
/// The magic number, ETag, offset, object's length, bytes' length, their CRC-32C.
const FIXED: usize = 8 + 64 + 8 + 8 + 8 + 4;

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    folder: Option<PathBuf>,
    /// What the folder holds, as far as this process knows.
    held: Arc<Mutex<Option<u64>>>,
}

/// Some bytes of a file.
#[derive(Clone, Debug)]
pub(super) struct CachedRange {
    /// Without quotes.
    pub etag: String,
    pub offset: u64,
    pub len: u64,
    /// The length of the whole file.
    pub of: u64,
}

impl CachedRange {
    /// Whether these bytes are worth keeping, and their ETag is a checksum.
    pub fn is_header(&self) -> bool {
        let sha256 = self.etag.len() == 64 && self.etag.bytes().all(|b| b.is_ascii_hexdigit());
        let end = self.offset.saturating_add(self.len);
        let at_end = end == self.of && self.len <= TAIL;
        sha256 && (1..=MAX_ENTRY_BYTES).contains(&self.len) && (self.offset <= HEAD || at_end)
    }
    fn name(&self) -> String {
        let sum = Sha256::digest(format!("{} {}", self.etag, self.offset));
        sum.iter().take(20).map(|b| format!("{b:02x}")).collect()
    }
    fn fixed(&self, bytes: &[u8]) -> Vec<u8> {
        let mut fixed = Vec::with_capacity(FIXED + bytes.len());
        fixed.extend_from_slice(MAGIC);
        fixed.extend_from_slice(self.etag.as_bytes());
        for number in [self.offset, self.of, bytes.len() as u64] {
            fixed.extend_from_slice(&number.to_le_bytes());
        }
        fixed.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
        fixed
    }
}

impl Cache {
    /// As the environment wants it.
    pub fn new() -> Cache {
        let folder = match std::env::var(SWITCH).as_deref() {
            Ok("off" | "0") => None,
            Ok(folder) if !folder.is_empty() => Some(PathBuf::from(folder)),
            _ => super::token::caches().map(|caches| caches.join("npk/headers")),
        };
        Cache { folder, held: Arc::default() }
    }

    /// The bytes, if they are kept.
    pub fn get(&self, place: &CachedRange) -> Option<Bytes> {
        let path = self.folder.as_ref().filter(|_| place.is_header())?.join(place.name());
        let file = File::open(&path).ok()?;
        let most = FIXED as u64 + MAX_ENTRY_BYTES;
        if file.metadata().ok()?.len() > most {
            return None;
        }
        let mut all = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(&file, most), &mut all).ok()?;
        let bytes = all.get(FIXED..)?;
        if all[..FIXED] != place.fixed(bytes) || (bytes.len() as u64) < place.len {
            return None;
        }
        // Those that were of use last are kept longest.
        let _ = file.set_modified(SystemTime::now());
        Some(Bytes::from(all).slice(FIXED..FIXED + place.len as usize))
    }

    /// Keeps bytes; what does not work is let be.
    pub fn put(&self, place: &CachedRange, bytes: &[u8]) {
        if let Some(folder) = self.folder.as_ref().filter(|_| place.is_header()) {
            let _ = self.write(folder, place, bytes);
        }
    }

    fn write(&self, folder: &Path, place: &CachedRange, bytes: &[u8]) -> std::io::Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        // Repositories may be private.
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
        let mut entry = place.fixed(bytes);
        entry.extend_from_slice(bytes);
        let mut held = locked(&self.held);
        let now = *held.get_or_insert_with(|| shrink(folder, MAX_BYTES)) + entry.len() as u64;
        *held = Some(if now > MAX_BYTES { shrink(folder, MAX_BYTES / 2) } else { now });
        drop(held);
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&entry)?;
        file.persist(folder.join(place.name()))?;
        Ok(())
    }
}

/// Removes the oldest entries until the others have no more than `most` bytes; tells how many they
/// have.
fn shrink(folder: &Path, most: u64) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let mut all: Vec<(SystemTime, u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let about = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((about.modified().ok()?, about.len(), entry.path()))
        })
        .collect();
    all.sort();
    let mut held: u64 = all.iter().map(|(_, len, _)| len).sum();
    for (_, len, path) in all {
        if held <= most {
            break;
        }
        if std::fs::remove_file(path).is_ok() {
            held -= len;
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64, len: u64) -> CachedRange {
        CachedRange { etag: "a1".repeat(32), offset, len, of: 1 << 20 }
    }
    fn cache(folder: &Path) -> Cache {
        Cache { folder: Some(folder.to_path_buf()), held: Arc::default() }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let one = cache(&folder.path().join("deep/er"));
        let bytes: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        assert!(one.get(&place(0, 1000)).is_none());
        one.put(&place(0, 1000), &bytes);
        assert_eq!(one.get(&place(0, 1000)).unwrap(), bytes);
        assert_eq!(one.get(&place(0, 10)).unwrap(), bytes[..10]);
        assert!(one.get(&place(0, 1001)).is_none());
        assert!(one.get(&place(8, 10)).is_none());
        // Neither the middle of a file nor what no checksum names.
        one.put(&place(100_000, 1000), &bytes);
        assert!(one.get(&place(100_000, 1000)).is_none());
        let named = CachedRange { etag: "v1".into(), ..place(0, 1000) };
        one.put(&named, &bytes);
        assert!(one.get(&named).is_none());
    }

    #[test]
    fn damaged_entries_are_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let one = cache(folder.path());
        let bytes = vec![7u8; 500];
        one.put(&place(0, 500), &bytes);
        let path = folder.path().join(place(0, 500).name());
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert!(one.get(&place(0, 500)).is_none(), "{at}");
        }
        for len in [0, 8, FIXED, FIXED + 499] {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(one.get(&place(0, 500)).is_none(), "{len}");
        }
        one.put(&place(0, 500), &bytes);
        assert_eq!(one.get(&place(0, 500)).unwrap(), bytes);
    }

    #[test]
    fn the_oldest_entries_go() {
        let folder = tempfile::tempdir().unwrap();
        for k in 0..4u64 {
            let path = folder.path().join(format!("{k}"));
            std::fs::write(&path, vec![0; 100]).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 * (4 - k));
            File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        }
        assert_eq!(shrink(folder.path(), 250), 200);
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["0", "1"]);
    }
}
