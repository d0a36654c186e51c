//! Room on the disk for files that are about to be written.

use std::fs::File;
use std::io;

use rustix::io::Errno;

use super::platform;

/// Below this, asking costs as much as it saves.
const LEAST_BYTES: u64 = 16 << 20;
/// ext2, ext3 and ext4 (linux/magic.h).
const EXT4: u64 = 0xef53;

/// Gives a file its size, `bytes` of which, from `at` on, are about to be written.
///
/// ext4 looks for blocks at each write, page by page, which takes more time than the copying: it
/// gets to know all at once. Other file systems put that off by themselves, or may share the bytes
/// of a copy, for which room would be lost.
///
/// # Errors
/// No room, before anything is written, where the file system tells it.
pub fn set_size(file: &File, at: u64, bytes: u64) -> io::Result<()> {
    file.set_len(at + bytes)?;
    if bytes < LEAST_BYTES || platform::file_system(file) != Some(EXT4) {
        return Ok(());
    }
    match platform::reserve(file, at, bytes) {
        Err(full @ (Errno::NOSPC | Errno::DQUOT)) => Err(full.into()),
        // A kernel that cannot: the writes find their room themselves.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn ext4_has_the_room_before_the_bytes_come() {
        let file = tempfile::tempfile().unwrap();
        set_size(&file, 0, LEAST_BYTES).unwrap();
        let made = file.metadata().unwrap();
        assert_eq!(made.len(), LEAST_BYTES);
        let is_ext4 = platform::file_system(&file) == Some(EXT4);
        assert_eq!(made.blocks() * 512 >= LEAST_BYTES, is_ext4);
    }
}
