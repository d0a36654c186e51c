//! A place for an input or an output.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use super::{
    Backend, Blob, Entry, EntryKind, Existing, Identity, LocalFile, Output, OutputDir, StreamState,
    local, local_file, stream,
};
use crate::error::{Context, Error, ErrorKind, Result};

/// A place for an input or an output. Cheap to clone.
#[derive(Clone)]
pub struct Location {
    place: LocationKind,
    /// What a directory holds, once somebody asked: [`Location::remembering`].
    listed: Option<Arc<OnceLock<Vec<Entry>>>>,
    /// Its bytes, opened by somebody: [`Location::sharing`].
    shared: Option<Weak<dyn Blob>>,
}

#[derive(Clone)]
enum LocationKind {
    Local { spot: local::Spot, display: String },
    Stream(Arc<StreamState>),
    Remote { backend: Arc<dyn Backend>, key: String },
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Location({})", self.display())
    }
}

impl From<LocationKind> for Location {
    fn from(place: LocationKind) -> Location {
        Location { place, listed: None, shared: None }
    }
}

impl Location {
    /// A local path.
    pub fn local(path: impl Into<PathBuf>) -> Location {
        Location::at(local::Spot::new(path.into()))
    }
    fn at(spot: local::Spot) -> Location {
        let display = spot.path.display().to_string();
        LocationKind::Local { spot, display }.into()
    }
    /// stdin for inputs, stdout for outputs.
    pub fn stdio() -> Location {
        LocationKind::Stream(Arc::new(StreamState::stdin())).into()
    }
    /// Something that a backend serves.
    pub fn remote(backend: Arc<dyn Backend>, key: impl Into<String>) -> Location {
        LocationKind::Remote { backend, key: key.into() }.into()
    }
    /// For an input that may be a FIFO or `/dev/stdin`: a path that cannot be read by range becomes
    /// a stream.
    ///
    /// # Errors
    /// Where the FIFO cannot be opened.
    pub fn input(path: impl Into<PathBuf>) -> Result<Location> {
        let location = Location::local(path);
        match location.kind()? {
            EntryKind::Stream => {
                let state = StreamState::path(location.local_path().unwrap_or(Path::new("-")))?;
                Ok(LocationKind::Stream(Arc::new(state)).into())
            }
            _ => Ok(location),
        }
    }

    /// What `reader` gives, read once from the start: made of what is here (its content unpacked),
    /// and shown as it; `file_name` is the name that goes with the content.
    pub fn derived(&self, file_name: &str, reader: Box<dyn Read + Send>) -> Location {
        let state = StreamState::derived(&self.display(), file_name, reader);
        LocationKind::Stream(Arc::new(state)).into()
    }
    /// Whether this is made of another location's content: [`Location::derived`].
    pub fn is_derived(&self) -> bool {
        matches!(&self.place, LocationKind::Stream(s) if s.is_derived())
    }
    /// Whether it can be read again and by ranges: a stream only once it is spooled.
    pub fn is_rereadable(&self) -> bool {
        !matches!(&self.place, LocationKind::Stream(s) if !s.is_spooled())
    }

    /// As the user wrote it (secrets masked), for messages. `-` for standard streams.
    pub fn display(&self) -> String {
        match &self.place {
            LocationKind::Local { display, .. } => display.clone(),
            LocationKind::Stream(s) => s.display().to_string(),
            LocationKind::Remote { backend, key } => backend.display(key),
        }
    }
    /// The last component: the name of a link, not of its target.
    pub fn file_name(&self) -> String {
        match &self.place {
            LocationKind::Local { spot, .. } => {
                spot.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
            }
            LocationKind::Stream(s) => s.file_name().to_string(),
            LocationKind::Remote { key, .. } => {
                key.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_string()
            }
        }
    }
    /// The name that an unnamed array takes: the file name without its ending (`x.csv.gz` → `x`),
    /// `data` for streams.
    pub fn stem(&self) -> String {
        if self.is_stream() && !self.is_derived() {
            return "data".into();
        }
        let name = self.file_name();
        let mut stem = name.as_str();
        for packed in [".gz", ".zst", ".zip"] {
            if let Some(s) = stem.strip_suffix(packed).filter(|s| s.contains('.')) {
                stem = s;
            }
        }
        let stem = match stem.rfind('.') {
            Some(dot) if dot > 0 => &stem[..dot],
            _ => stem,
        };
        if stem.is_empty() { "data".into() } else { stem.to_string() }
    }
    /// stdin, stdout or a FIFO.
    pub fn is_stream(&self) -> bool {
        matches!(self.place, LocationKind::Stream(_))
    }
    /// Object storage or HTTP.
    pub fn is_remote(&self) -> bool {
        matches!(self.place, LocationKind::Remote { .. })
    }
    /// The local path.
    pub fn local_path(&self) -> Option<&Path> {
        match &self.place {
            LocationKind::Local { spot, .. } => Some(&spot.path),
            _ => None,
        }
    }
    /// The backend and key of a remote location.
    pub fn as_remote(&self) -> Option<(&Arc<dyn Backend>, &str)> {
        match &self.place {
            LocationKind::Remote { backend, key } => Some((backend, key)),
            _ => None,
        }
    }
    /// The location `relative` below this directory. `relative` comes from our own code or was
    /// checked: no `..`.
    pub fn join(&self, relative: &str) -> Location {
        match &self.place {
            LocationKind::Local { spot, .. } => Location::at(spot.join(relative)),
            LocationKind::Remote { backend, key } => {
                let key = match key.trim_end_matches('/') {
                    "" => relative.to_string(),
                    k => format!("{k}/{relative}"),
                };
                LocationKind::Remote { backend: backend.clone(), key }.into()
            }
            LocationKind::Stream(_) => self.clone(),
        }
    }
    /// The directory that holds this location.
    pub fn parent(&self) -> Location {
        match &self.place {
            LocationKind::Local { spot, .. } => match spot.path.parent() {
                Some(p) if !p.as_os_str().is_empty() => Location::local(p),
                _ => Location::local("."),
            },
            LocationKind::Remote { backend, key } => {
                let key = key
                    .trim_end_matches('/')
                    .rsplit_once('/')
                    .map(|(p, _)| p)
                    .unwrap_or_default()
                    .to_string();
                LocationKind::Remote { backend: backend.clone(), key }.into()
            }
            LocationKind::Stream(_) => self.clone(),
        }
    }

    /// A local directory, held open: what is found below it from now on is of this directory,
    /// whatever is put in its place meanwhile. Anything else is as it was.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn hold(&self) -> Result<Location> {
        match &self.place {
            LocationKind::Local { spot, .. } => {
                Ok(Location::at(spot.hold().at_file(&self.display())?))
            }
            _ => Ok(self.clone()),
        }
    }
    /// Whether the directory that is held has been replaced by another one.
    pub fn is_replaced(&self) -> bool {
        matches!(&self.place, LocationKind::Local { spot, .. } if spot.is_replaced())
    }
    /// Opens something of this directory, which is held. Where another one was put in its place
    /// meanwhile, that one is opened.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn held<T>(&self, open: impl Fn(&Location) -> Result<T>) -> Result<T> {
        const TRIES: usize = 20;
        for _ in 1..TRIES {
            let at = self.hold()?;
            let opened = open(&at);
            if !at.is_replaced() {
                return opened;
            }
        }
        open(&self.hold()?)
    }
    /// What local file or directory this is, links followed; `None` where there is nothing, or
    /// nothing local.
    pub fn identity(&self) -> Option<Identity> {
        match &self.place {
            LocationKind::Local { spot, .. } => spot.identity(),
            _ => None,
        }
    }
    /// As [`Location::blob`]; `None` where nothing has this name.
    ///
    /// # Errors
    /// A link that leads nowhere, a file in the place of the directory; what cannot be read.
    pub fn blob_if_any(&self) -> Result<Option<Arc<dyn Blob>>> {
        self.if_any(self.blob())
    }
    /// As [`Location::stream`]; `None` where nothing has this name.
    ///
    /// # Errors
    /// As [`Location::blob_if_any`].
    pub fn stream_if_any(&self) -> Result<Option<Box<dyn Read + Send>>> {
        self.if_any(self.stream())
    }
    fn if_any<T>(&self, got: Result<T>) -> Result<Option<T>> {
        match got {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.kind() == ErrorKind::Missing => match &self.place {
                LocationKind::Local { spot, .. } if spot.is_there() => Err(e),
                _ => Ok(None),
            },
            Err(e) => Err(e),
        }
    }
    /// This local directory, opened: to lock it, or to rename in it.
    ///
    /// # Errors
    /// Missing; no local directory.
    pub fn directory(&self) -> Result<std::fs::File> {
        match &self.place {
            LocationKind::Local { spot, .. } => spot.directory().at_file(&self.display()),
            _ => Err(Error::refused("a local directory is needed").file(self.display())),
        }
    }
    /// A file of this local directory, for writing; made, with the folders on the way, where
    /// `fresh`. No link below the directory is followed.
    ///
    /// # Errors
    /// What cannot be opened or made.
    pub fn open_own(&self, relative: &str, fresh: bool) -> Result<std::fs::File> {
        match &self.place {
            LocationKind::Local { spot, .. } => {
                spot.open_own(relative, fresh).at_file(&self.join(relative).display())
            }
            _ => Err(Error::refused("a local directory is needed").file(self.display())),
        }
    }

    /// What is there. Symbolic links are followed.
    ///
    /// # Errors
    /// Permission and remote errors; a missing file is [`EntryKind::Missing`].
    pub fn kind(&self) -> Result<EntryKind> {
        match &self.place {
            LocationKind::Local { spot, .. } => spot.kind().at_file(&self.display()),
            LocationKind::Stream(_) => Ok(EntryKind::Stream),
            LocationKind::Remote { backend, key } => backend.kind(key).at_file(&self.display()),
        }
    }
    /// Whether an output here would replace something. Of a remote place nothing is read: who may
    /// only write can ask.
    ///
    /// # Errors
    /// As [`Location::kind`].
    pub fn exists(&self) -> Result<bool> {
        match &self.place {
            LocationKind::Remote { backend, key } => backend.exists(key).at_file(&self.display()),
            _ => Ok(!matches!(self.kind()?, EntryKind::Missing | EntryKind::Stream)),
        }
    }
    /// Whether ranges of it are read from a temporary copy, since its server has no ranges.
    pub fn is_copied(&self) -> bool {
        self.as_remote().is_some_and(|(backend, key)| backend.is_copied(key))
    }
    /// Entries of a directory, sorted by name.
    ///
    /// # Errors
    /// Missing; no directory.
    pub fn list(&self) -> Result<Vec<Entry>> {
        if let Some(listed) = self.listed.as_ref().and_then(|listed| listed.get()) {
            return Ok(listed.clone());
        }
        let mut entries = match &self.place {
            LocationKind::Local { spot, .. } => spot.list(),
            LocationKind::Stream(_) => Ok(Vec::new()),
            LocationKind::Remote { backend, key } => backend.list(key),
        }
        .at_file(&self.display())?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(listed) = &self.listed {
            let _ = listed.set(entries.clone());
        }
        Ok(entries)
    }
    /// The same place, which is asked once for what it holds: for those who look at a directory in
    /// many ways within a moment.
    pub fn remembering(&self) -> Location {
        Location { listed: Some(Arc::default()), ..self.clone() }
    }
    /// The same file, which need not be opened again as long as somebody holds `blob`.
    pub fn sharing(&self, blob: &Arc<dyn Blob>) -> Location {
        Location { shared: Some(Arc::downgrade(blob)), ..self.clone() }
    }
    /// As [`Location::list`], and the names that are not UTF-8, as they can be shown: their files
    /// cannot be opened.
    ///
    /// # Errors
    /// Missing; no directory.
    pub fn list_all(&self) -> Result<(Vec<Entry>, Vec<String>)> {
        match &self.place {
            LocationKind::Local { spot, .. } => spot.list_all().at_file(&self.display()),
            _ => Ok((self.list()?, Vec::new())),
        }
    }
    /// Ranged reads. A stream is spooled to an unnamed temporary file first.
    ///
    /// # Errors
    /// Missing, unreadable.
    pub fn blob(&self) -> Result<Arc<dyn Blob>> {
        if let Some(blob) = self.shared.as_ref().and_then(Weak::upgrade) {
            return Ok(blob);
        }
        match &self.place {
            LocationKind::Local { spot, .. } => spot.blob(),
            LocationKind::Stream(s) => s.spooled(),
            LocationKind::Remote { backend, key } => backend.blob(key),
        }
        .at_file(&self.display())
    }
    /// The bytes from the start; of a stream only once (its first 4 KiB may have been looked at
    /// before).
    ///
    /// # Errors
    /// Missing, unreadable.
    pub fn stream(&self) -> Result<Box<dyn Read + Send>> {
        match &self.place {
            LocationKind::Local { spot, .. } => spot.stream(),
            LocationKind::Stream(s) => s.reader(),
            LocationKind::Remote { backend, key } => backend.stream(key),
        }
        .at_file(&self.display())
    }
    /// The first bytes, at most `max`; of a stream they stay readable.
    ///
    /// # Errors
    /// Missing, unreadable.
    pub fn head(&self, max: usize) -> Result<Vec<u8>> {
        match &self.place {
            LocationKind::Stream(s) => s.head(max).at_file(&self.display()),
            _ => {
                let blob = self.blob()?;
                blob.read_vec(0, blob.len().min(max as u64)).at_file(&self.display())
            }
        }
    }
    /// A local path to these bytes: itself, or a temporary copy that lives as long as the guard.
    ///
    /// # Errors
    /// Missing, unreadable, disk full.
    pub fn to_local_file(&self) -> Result<LocalFile> {
        match &self.place {
            LocationKind::Local { spot, .. } => {
                Ok(LocalFile { path: spot.path.clone(), copy: None, of: None })
            }
            LocationKind::Stream(s) => match local_file::named(&s.spooled()?) {
                Some(named) => Ok(named),
                None => local_file::copy_to_temp(self.stream()?).at_file(&self.display()),
            },
            LocationKind::Remote { backend, key } => {
                let copy = local_file::copy_to_temp(self.stream()?).at_file(&self.display())?;
                // The same version: what was opened stays pinned.
                let of = if backend.is_copied(key) { None } else { self.blob()?.origin() };
                Ok(LocalFile { of, ..copy })
            }
        }
    }

    /// Begins a file here. stdout for a stream.
    ///
    /// # Errors
    /// Exists (exit 5), parent missing (exit 3), a directory in the way.
    pub fn create_file(&self, existing: Existing, sync: bool) -> Result<Box<dyn Output>> {
        match &self.place {
            LocationKind::Local { spot, .. } => local::create_file(&spot.path, existing, sync),
            LocationKind::Stream(_) => stream::stdout(),
            LocationKind::Remote { backend, key } => backend.create_file(key, existing),
        }
        .at_file(&self.display())
    }
    /// Begins a directory here. One that exists is only ever replaced where it holds one of the
    /// `markers` (`metadata.npkm`, `zarr.json`, …) or nothing: a user's folder is never swept away.
    ///
    /// # Errors
    /// As [`Location::create_file`].
    pub fn create_dir(
        &self,
        existing: Existing,
        sync: bool,
        markers: &[&str],
    ) -> Result<Box<dyn OutputDir>> {
        match &self.place {
            LocationKind::Local { spot, .. } => {
                local::create_dir(&spot.path, existing, sync, markers)
            }
            LocationKind::Stream(_) => Err(Error::usage("a directory cannot be written to stdout")
                .hint("use --to npkg, or another format that is one file")),
            LocationKind::Remote { backend, key } => backend.create_dir(key, existing, markers),
        }
        .at_file(&self.display())
    }
}
