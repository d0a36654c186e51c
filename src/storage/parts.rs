//! A directory that several processes fill, on several machines: objects, each of which appears
//! whole, and notes about who has done what. It becomes the output when one of them commits it.
//!
//! | | objects | notes |
//! |---|---|---|
//! | local | `.NAME.npk-parts-ID/tree/`, which is renamed in the end | `.NAME.npk-parts-ID/` |
//! | object storage | in their place, since nothing is renamed there | `NAME/.npk-parts/ID/` |
//!
//! The ID tells what is being made: what is made of something else has another one. Nothing of this
//! goes when a process is stopped: the others, or the next one, go on from it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock::{try_lock, unlock};
use super::{Backend, EntryKind, Existing, Location, Output, STORE_MARKERS, local, platform};
use crate::error::{Context, Error, ErrorKind, Result};

/// Notes below the key of a remote output.
const NOTES: &str = ".npk-parts";
/// Which directory replaces the output: it may be there already.
const REPLACING: &str = "replacing";
const TREE: &str = "tree";

/// See the module.
pub struct Parts {
    at: Location,
    id: String,
    place: Target,
}

enum Target {
    Local { folder: PathBuf, target: PathBuf },
    Remote { backend: Arc<dyn Backend>, key: String },
}

/// What another process has finished is not written any more.
fn gone(display: &str) -> Error {
    Error::exists("it was finished by another process meanwhile").file(display)
}

impl Parts {
    /// What makes `at`, under this ID. Nothing is looked at yet.
    ///
    /// # Errors
    /// Missing: the directory that it is to be in. A stream.
    pub fn new(at: &Location, id: &str) -> Result<Parts> {
        let place = match (at.local_path(), at.as_remote()) {
            (Some(target), _) => {
                let (parent, name) = local::split(target).at_file(&at.display())?;
                let folder = parent.join(local::marked_name(&name, &format!("{PARTS}{id}")));
                Target::Local { folder, target: target.to_path_buf() }
            }
            (None, Some((backend, key))) => {
                let key = key.trim_end_matches('/').to_string();
                Target::Remote { backend: backend.clone(), key }
            }
            (None, None) => {
                return Err(Error::usage("a stream cannot be written by several processes"));
            }
        };
        Ok(Parts { at: at.clone(), id: id.to_string(), place })
    }

    /// Whether the output is there as a whole.
    ///
    /// # Errors
    /// What cannot be looked at.
    pub fn is_whole(&self) -> Result<bool> {
        match &self.place {
            Target::Local { .. } => self.at.exists(),
            Target::Remote { backend, key } => {
                for marker in STORE_MARKERS {
                    if backend.kind(&format!("{key}/{marker}"))? != EntryKind::Missing {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// IDs of others that make the same output.
    ///
    /// # Errors
    /// What cannot be listed.
    pub fn others(&self) -> Result<Vec<String>> {
        let mut ids: Vec<String> = match &self.place {
            Target::Local { folder, target } => {
                let name = target.file_name().unwrap_or_default();
                let prefix = local::marked_name(name, PARTS).to_string_lossy().into_owned();
                let entries = Location::local(folder.parent().unwrap_or(Path::new("."))).list()?;
                let id = |name: &str| name.strip_prefix(&prefix).map(str::to_string);
                entries.iter().filter_map(|e| id(&e.name)).collect()
            }
            Target::Remote { backend, key } => {
                let entries = backend.list(&format!("{key}/{NOTES}"))?;
                entries.into_iter().map(|e| e.name).collect()
            }
        };
        ids.retain(|id| *id != self.id);
        Ok(ids)
    }

    /// What the folders of all IDs are called, locally.
    pub fn pattern(&self) -> String {
        format!(".{}{PARTS}*", self.at.file_name())
    }

    /// Whether a remote output may hold objects of another one, which share its keys.
    pub fn shares_keys(&self) -> bool {
        matches!(self.place, Target::Remote { .. })
    }

    /// Takes away the notes of another ID, so that it is not gone on with.
    ///
    /// # Errors
    /// What cannot be removed.
    pub fn forget(&self, id: &str) -> Result<()> {
        Parts::new(&self.at, id)?.remove_notes()
    }

    /// Makes room for objects and notes; several may.
    ///
    /// # Errors
    /// No permission and the like.
    pub fn begin(&self) -> Result<()> {
        let Target::Local { folder, .. } = &self.place else { return Ok(()) };
        fs::create_dir_all(folder.join(TREE))
            .map_err(|e| Error::from(e).file(self.at.display()))?;
        // What processes that are no more have begun to write, and nobody goes on with.
        for entry in Location::local(folder).list()?.iter().filter(|e| e.name.starts_with(PUT)) {
            let path = folder.join(&entry.name);
            if File::open(&path).is_ok_and(|file| try_lock(&file).unwrap_or(false)) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    /// Stores an object: it appears whole, in the place of what is there.
    ///
    /// # Errors
    /// Disk full and the like; exists, where the output was finished meanwhile.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        match &self.place {
            Target::Local { folder, .. } => self.put_file(&folder.join(TREE).join(key), bytes),
            Target::Remote { backend, key: root } => put(backend, &format!("{root}/{key}"), bytes),
        }
    }

    /// Writes a note.
    ///
    /// # Errors
    /// As [`Parts::put`].
    pub fn put_note(&self, name: &str, bytes: &[u8]) -> Result<()> {
        match &self.place {
            Target::Local { folder, .. } => self.put_file(&folder.join(name), bytes),
            Target::Remote { backend, .. } => put(backend, &self.note_key(name), bytes),
        }
    }

    fn note_key(&self, name: &str) -> String {
        match &self.place {
            Target::Local { .. } => name.to_string(),
            Target::Remote { key, .. } => format!("{key}/{NOTES}/{}/{name}", self.id),
        }
    }

    /// By way of a file beside the tree.
    fn put_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let Target::Local { folder, .. } = &self.place else { return Ok(()) };
        let missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
        let done = || -> Result<()> {
            let (temp, mut file, guard) = loop {
                let temp = folder.join(local::temp_name("put".as_ref(), "-"));
                let make = || File::options().write(true).create_new(true).open(&temp);
                let Some((file, guard)) = local::make_temp(folder, &temp, make)? else { continue };
                // Another process, which begins, may take it for left over before it is locked.
                if try_lock(&file)? && file.metadata()?.nlink() > 0 {
                    break (temp, file, guard);
                }
            };
            file.write_all(bytes)?;
            let renamed = guard.commit(|| match fs::rename(&temp, path) {
                Err(e) if missing(&e) && folder.join(TREE).exists() => {
                    fs::create_dir_all(path.parent().unwrap_or(folder))?;
                    fs::rename(&temp, path)
                }
                other => other,
            });
            unlock(&file);
            Ok(renamed?)
        };
        done().map_err(|e| match folder.join(TREE).exists() {
            true => e,
            false => gone(&self.at.display()),
        })
    }

    /// A note; none where there is none of this name.
    ///
    /// # Errors
    /// Reading errors.
    pub fn note(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let at = match &self.place {
            Target::Local { folder, .. } => Location::local(folder.join(name)),
            Target::Remote { backend, .. } => {
                let key = self.note_key(name);
                backend.forget(&key);
                Location::remote(backend.clone(), key)
            }
        };
        let Some(mut stream) = at.stream_if_any()? else { return Ok(None) };
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut stream, &mut bytes).map_err(Error::reading)?;
        Ok(Some(bytes))
    }

    /// The names of all notes.
    ///
    /// # Errors
    /// What cannot be listed.
    pub fn notes(&self) -> Result<Vec<String>> {
        let listed = match &self.place {
            Target::Local { folder, .. } if !folder.exists() => return Ok(Vec::new()),
            Target::Local { folder, .. } => Location::local(folder).list()?,
            Target::Remote { backend, key } => {
                backend.list(&format!("{key}/{NOTES}/{}", self.id))?
            }
        };
        Ok(listed.into_iter().filter(|e| !e.is_dir).map(|e| e.name).collect())
    }

    /// Hands on every object: its key and its bytes.
    ///
    /// # Errors
    /// What cannot be listed; those of `each`.
    pub fn each(&self, each: &mut dyn FnMut(&str, u64) -> Result<()>) -> Result<()> {
        match &self.place {
            Target::Local { folder, .. } => each_file(&folder.join(TREE), each),
            Target::Remote { backend, key } => {
                backend.each_below(key, &mut |mark| match mark.below.split_once('/') {
                    Some((NOTES, _)) => Ok(()),
                    _ => each(&mark.below, mark.bytes),
                })
            }
        }
    }

    /// Removes an object.
    ///
    /// # Errors
    /// What cannot be removed.
    pub fn remove(&self, key: &str) -> Result<()> {
        match &self.place {
            Target::Local { folder, .. } => Ok(fs::remove_file(folder.join(TREE).join(key))?),
            Target::Remote { backend, key: root } => backend.remove(&format!("{root}/{key}")),
        }
    }

    /// What was written is on the disk.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn sync(&self) -> Result<()> {
        let Target::Local { folder, .. } = &self.place else { return Ok(()) };
        Ok(platform::sync_all(File::open(folder)?)?)
    }

    /// Whether the output was committed, and only notes are left.
    ///
    /// # Errors
    /// What cannot be looked at.
    pub fn is_committed(&self) -> Result<bool> {
        let Target::Local { folder, target } = &self.place else { return Ok(false) };
        let replacing = self.note(REPLACING)?;
        let there = fs::symlink_metadata(target).ok();
        Ok(there.is_some_and(|there| match replacing {
            Some(identity) => identity == identity_of(&there).into_bytes(),
            None => folder.exists() && !folder.join(TREE).exists(),
        }))
    }

    /// The output appears, with these objects last, in the place of what is there if `existing`
    /// says so. The notes go.
    ///
    /// # Errors
    /// Exists; disk full and the like.
    pub fn commit(
        &self,
        last: &[(&str, Vec<u8>)],
        existing: Existing,
        sync: bool,
        holder: &Holder,
    ) -> Result<()> {
        if let Target::Local { folder, target } = &self.place {
            let tree = folder.join(TREE);
            last.iter().try_for_each(|(key, bytes)| self.put(key, bytes))?;
            let made = fs::symlink_metadata(&tree).map_err(|_| gone(&self.at.display()))?;
            if !holder.is(&made) {
                return Err(gone(&self.at.display()));
            }
            let replaces = existing == Existing::Replace && fs::symlink_metadata(target).is_ok();
            if sync || replaces {
                self.sync()?;
            }
            if replaces {
                self.put_note(REPLACING, identity_of(&made).as_bytes())?;
                local::swap(&tree, target)?;
            } else {
                local::rename_fresh(&tree, target)?;
            }
            if sync {
                local::sync_parent(target)?;
            }
        } else {
            last.iter().try_for_each(|(key, bytes)| self.put(key, bytes))?;
        }
        self.remove_notes()
    }

    /// Takes away the notes, and locally all that is beside the output.
    ///
    /// # Errors
    /// What cannot be removed.
    pub fn remove_notes(&self) -> Result<()> {
        // The note that tells what is made goes last: without it there is nothing.
        let mut names = self.notes()?;
        names.sort_by_key(|name| name == PLAN);
        match &self.place {
            Target::Local { folder, .. } => {
                for name in names {
                    let _ = fs::remove_file(folder.join(name));
                }
                local::remove(folder);
                Ok(())
            }
            Target::Remote { backend, .. } => {
                names.iter().try_for_each(|name| backend.remove(&self.note_key(name)))
            }
        }
    }

    /// Holds the parts, so that no other process commits them at the same time.
    ///
    /// # Errors
    /// Exists: another one does.
    pub fn hold(&self) -> Result<Holder> {
        let Target::Local { folder, .. } = &self.place else { return Ok(Holder(None)) };
        let busy = || Error::exists("another process is finishing it").file(self.at.display());
        let missing = |_| gone(&self.at.display());
        let file = File::open(folder).map_err(missing)?;
        if !try_lock(&file)? {
            return Err(busy());
        }
        let tree = fs::symlink_metadata(folder.join(TREE)).ok();
        Ok(Holder(Some((file, tree.map(|t| identity_of(&t)).unwrap_or_default()))))
    }
}

/// The mark of the folder of a local output's parts.
const PARTS: &str = ".npk-parts-";
/// How the name of a file begins that is not whole yet.
const PUT: &str = ".put-";
/// The note that every process writes first.
pub const PLAN: &str = "plan.json";

/// A lock, and which tree is committed under it.
pub struct Holder(Option<(File, String)>);

impl Holder {
    fn is(&self, tree: &fs::Metadata) -> bool {
        self.0.as_ref().is_none_or(|(_, known)| *known == identity_of(tree))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Some((file, _)) = &self.0 {
            unlock(file);
        }
    }
}

fn identity_of(file: &fs::Metadata) -> String {
    format!("{} {}", file.dev(), file.ino())
}

fn put(backend: &Arc<dyn Backend>, key: &str, bytes: &[u8]) -> Result<()> {
    let display = backend.display(key);
    let mut out: Box<dyn Output> = backend.overwrite(key).at_file(&display)?;
    out.write_all(bytes).map_err(Error::from).at_file(&display)?;
    out.commit().at_file(&display)
}

/// The files below a folder, without recursion.
fn each_file(root: &Path, each: &mut dyn FnMut(&str, u64) -> Result<()>) -> Result<()> {
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let at = if folder.is_empty() { root.to_path_buf() } else { root.join(&folder) };
        let entries = match Location::local(at).list() {
            Err(e) if e.kind() == ErrorKind::Missing => continue,
            other => other?,
        };
        for entry in entries {
            let key = match folder.is_empty() {
                true => entry.name,
                false => format!("{folder}/{}", entry.name),
            };
            if entry.is_dir { folders.push(key) } else { each(&key, entry.len)? }
        }
    }
    Ok(())
}

/// Takes away the notes of an output that is whole, which whoever finished it could not.
pub fn tidy(at: &Location) {
    let committed = |parts: &Parts| -> Result<bool> {
        // The plan goes last: where there is none, only the folder may be left, and a file beside it
        // is the first note of a share that begins.
        Ok(parts.is_committed()? && (parts.note(PLAN)?.is_some() || parts.notes()?.is_empty()))
    };
    let tidied = || -> Result<()> {
        for id in Parts::new(at, "")?.others()? {
            let parts = Parts::new(at, &id)?;
            if committed(&parts)? {
                let _held = parts.hold()?;
                parts.remove_notes()?;
            }
        }
        Ok(())
    };
    // They do no harm: nothing depends on it.
    let _ = tidied();
}

/// Whether processes have begun to write this output, and none has finished it.
pub fn is_begun(at: &Location) -> bool {
    let others = || Parts::new(at, "")?.others();
    others().is_ok_and(|ids| !ids.is_empty())
}
