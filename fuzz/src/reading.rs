//! Reading a file of any format with little memory, as every command does it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use npk::error::{Error, ErrorKind, Result, guard};
use npk::format::{Order, ReadOptions, Reader, Resources};
use npk::formats::by_name;
use npk::pipe::{self, Settings};
use npk::storage::Location;

/// The memory limit under which files are read.
pub const MEMORY_BYTES: u64 = 16 << 20;

/// A folder in memory, where the system has one, that goes when this goes.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one, which nobody else has.
    pub fn new() -> Folder {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let shared = Path::new("/dev/shm");
        let root = if shared.is_dir() { shared.to_path_buf() } else { std::env::temp_dir() };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("npk-fuzz-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }
    /// The path of this name in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Default for Folder {
    fn default() -> Folder {
        Folder::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens and reads what can be read, as every command does it: arrays that cannot are left out, of
/// vast ones the first rows are read. The first error ends it, or the state of the first array that
/// has one.
pub fn read_some(format: &str, path: &Path, jobs: usize) -> Result<()> {
    let resources = Resources::new(jobs, MEMORY_BYTES);
    let options = ReadOptions { resources, ..ReadOptions::default() };
    read_some_with(format, path, &options)
}

/// As [`read_some`], with these options.
pub fn read_some_with(format: &str, path: &Path, options: &ReadOptions) -> Result<()> {
    /// Damaged shapes may be huge and all fill value.
    const SOME_BYTES: u64 = 1 << 20;
    guard(|| {
        let source = by_name(format).unwrap().open(&Location::local(path), options)?;
        let arrays = source.plan().arrays.clone();
        let good: Vec<usize> =
            (0..arrays.len()).filter(|&a| arrays[a].details.error.is_none()).collect();
        let mut errors: Vec<Error> =
            arrays.iter().filter_map(|a| a.details.error.as_deref().cloned()).collect();
        let Reader::Random(reader) = source.select(&good, Order::Any)? else {
            let drained = pipe::drain(
                pipe::Flow::from(source).choose(&good),
                Order::Any,
                &mut |_| Ok(()),
                &Settings::of(&options.resources),
            );
            errors.extend(drained.err());
            return Error::all(errors);
        };
        for &a in &good {
            let Some(total) = arrays[a].rows else { continue };
            let rows = total.min((SOME_BYTES / arrays[a].row_bytes()?.max(1)).clamp(1, 1 << 12));
            let mut row = 0;
            while row < rows {
                let end = reader.next_boundary(a, row).min(rows);
                assert!(end > row, "{}: a cut at row {row} is at {end}", arrays[a].name);
                let (_, _) = (reader.cost(a, row..end), reader.piece(a, row, SOME_BYTES));
                if let Err(e) = guard(|| reader.read(a, row..end, &mut |_| Ok(()))) {
                    errors.push(e);
                    break;
                }
                row = end;
            }
            let _ = reader.extents(a);
        }
        reader.close()?;
        Error::all(errors)
    })
}

/// What wrong bytes may end in: they are damaged, refused, or something is missing. Anything else is
/// a fault of npk.
pub fn check_kind(error: &Error) {
    let all = std::iter::once(error).chain(error.others());
    for error in all {
        let is_of_data =
            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Refused | ErrorKind::Missing);
        assert!(is_of_data, "{error:?}");
    }
}

/// Reads the file at `path` in both ways that there are: row by row, and by the library's own calls,
/// which map what they can: both must agree on what can be read.
pub fn read(format: &str, path: &Path) {
    if let Err(error) = read_some(format, path, 1) {
        return check_kind(&error);
    }
    /// Arrays above this are left out: their first rows were read.
    const MOST: u64 = 256 << 10;
    let options = npk::OpenOptions::new().format(format).memory_limit(MEMORY_BYTES).jobs(1);
    let arrays = |options: &npk::OpenOptions| -> Result<Vec<npk::Array>> {
        let file = npk::open(path, options)?;
        let small = |name: &&str| {
            file.info(name).and_then(|info| info.bytes()).is_some_and(|bytes| bytes <= MOST)
        };
        let names: Vec<&str> = file.names().filter(small).take(8).collect();
        names.into_iter().map(|name| file.array(name)).collect()
    };
    match (arrays(&options), arrays(&options.clone().copies())) {
        (Ok(mapped), Ok(copied)) => {
            assert_eq!(mapped.len(), copied.len());
            for (one, other) in mapped.iter().zip(&copied) {
                assert_eq!(one.try_bytes().ok(), other.try_bytes().ok(), "{}", one.name());
                if let Err(error) = one.to_arrow() {
                    check_kind(&error);
                }
            }
        }
        (Err(one), Err(other)) if one.kind() == other.kind() => check_kind(&one),
        (one, other) => panic!("mapped {:?}, copied {:?}", one.err(), other.err()),
    }
}
