//! The report of a run, `--report`: a line of JSON for each unit, and a final one for each share.
//!
//! | file | what |
//! |---|---|
//! | `share-3-of-16.jsonl` | the share's units in the order of [`hash64`], then its final line; it appears whole, when the share is done |
//! | `share-3-of-16.ID.part` | lines as the units end, of a worker that is at work or was stopped; on object storage there is one after another, with some lines each |
//! | `report.jsonl` | all shares in one, as a reconciliation writes it |
//!
//! A line says nothing about the run: where the same units are done, the lines are the same.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::merkle::Tree;
use super::shares::{Shard, hash64};
use crate::error::{Context, Error, Result};
use crate::storage::{EntryKind, Existing, Location, cleanup, platform, temporary};

/// Lines of a worker that may get lost on object storage, which cannot be appended to.
const LINES_A_PART: u64 = 1000;
/// And for how long they wait.
const PART_TIME: Duration = Duration::from_secs(60);

/// The report of one share, while it is being written.
pub(crate) struct Report {
    at: Location,
    shard: Shard,
    /// The lines so far, as they came.
    lines: File,
    end: u64,
    /// Of each line: the hash of its unit, its offset and its length.
    index: Vec<(u64, u64, u32)>,
    /// Files that the final one makes superfluous.
    parts: Vec<String>,
    remote: Option<Unsent>,
}

/// Lines that are not on the object storage yet.
struct Unsent {
    id: String,
    from: u64,
    lines: u64,
    since: Instant,
}

/// What an earlier worker of the same share has done: the line of each unit.
pub(crate) struct Known {
    lines: File,
    index: HashMap<u64, (u64, u32)>,
}

/// A name in a report's directory.
#[derive(Debug, PartialEq)]
pub(crate) enum ReportFile {
    /// A share that is done.
    Share(Shard),
    /// A share that a worker works at, or did.
    Part(Shard),
}

impl ReportFile {
    pub(crate) fn parse(name: &str) -> Option<ReportFile> {
        let shard = |text: &str| {
            let (index, count) = text.strip_prefix("share-")?.split_once("-of-")?;
            Shard::parse(&format!("{index}/{count}")).ok()
        };
        match name.strip_suffix(".jsonl") {
            Some(share) => shard(share).map(ReportFile::Share),
            None => {
                let (share, _) = name.strip_suffix(".part")?.split_once('.')?;
                shard(share).map(ReportFile::Part)
            }
        }
    }
}

/// The name of a share's file.
pub(crate) fn share_name(shard: Shard) -> String {
    format!("share-{}-of-{}.jsonl", shard.index, shard.count)
}

/// The files of a report, with their shares; none where the directory is missing.
///
/// # Errors
/// Usage: a file. What cannot be listed.
pub(crate) fn files(at: &Location) -> Result<Vec<(String, ReportFile)>> {
    match at.kind()? {
        EntryKind::Missing => return Ok(Vec::new()),
        EntryKind::File { .. } if at.local_path().is_some() => {
            return Err(Error::usage("a report is a directory, this is a file")
                .file(at.display())
                .hint("give the directory that --report named, or is to make"));
        }
        _ => {}
    }
    let known = |name: String| ReportFile::parse(&name).map(|file| (name, file));
    Ok(at.list()?.into_iter().filter(|e| !e.is_dir).filter_map(|e| known(e.name)).collect())
}

impl Report {
    /// Begins the report of a share, with what is known from before.
    ///
    /// # Errors
    /// Usage: a report of other shares. What cannot be read or written.
    pub(crate) fn begin(at: Location, shard: Shard) -> Result<(Report, Known)> {
        let shown = at.display();
        let (mut parts, mut done) = (Vec::new(), None);
        for (name, file) in files(&at)? {
            let (ReportFile::Share(of) | ReportFile::Part(of)) = file;
            if of.count != shard.count {
                return Err(Error::usage(format!(
                    "this report is of {} shares, not of {}",
                    of.count, shard.count
                ))
                .file(shown)
                .hint("give each division of a batch a directory of its own"));
            }
            match file {
                ReportFile::Part(of) if of == shard => parts.push(name),
                ReportFile::Share(of) if of == shard => done = Some(name),
                _ => {}
            }
        }
        let known = Known::read(&at, done.iter().chain(&parts))?;
        let id = random_id()?;
        let (lines, remote) = match at.local_path() {
            Some(folder) => {
                cleanup::make_folder(folder).map_err(|e| Error::from(e).file(&shown))?;
                let name = format!("share-{}-of-{}.{id}.part", shard.index, shard.count);
                let mut options = File::options();
                let lines = options.read(true).append(true).create_new(true);
                let lines = lines.open(folder.join(&name)).map_err(Error::from).at_file(&shown)?;
                parts.push(name);
                (lines, None)
            }
            None => {
                let unsent = Unsent { id, from: 0, lines: 0, since: Instant::now() };
                (temporary::file()?, Some(unsent))
            }
        };
        Ok((Report { at, shard, lines, end: 0, index: Vec::new(), parts, remote }, known))
    }

    /// Adds the line of a unit.
    ///
    /// # Errors
    /// Disk full; what cannot be uploaded.
    pub(crate) fn add(&mut self, unit: &str, line: &str) -> Result<()> {
        // In one write: a worker that is killed leaves whole lines.
        let text = format!("{line}\n");
        let written = self.lines.write_all(text.as_bytes());
        match &self.remote {
            None => written.map_err(Error::from).at_file(&self.at.display())?,
            Some(_) => written.map_err(temporary::error)?,
        }
        self.index.push((hash64(unit), self.end, text.len() as u32));
        self.end += text.len() as u64;
        let Some(unsent) = &mut self.remote else { return Ok(()) };
        unsent.lines += 1;
        let due = unsent.lines >= LINES_A_PART || unsent.since.elapsed() >= PART_TIME;
        if due { self.send() } else { Ok(()) }
    }

    /// Puts the lines that only this machine has on the object storage.
    fn send(&mut self) -> Result<()> {
        let Some(unsent) = &mut self.remote else { return Ok(()) };
        let name = format!(
            "share-{}-of-{}.{}-{}.part",
            self.shard.index, self.shard.count, unsent.id, unsent.from
        );
        let at = self.at.join(&name);
        let mut bytes = vec![0; (self.end - unsent.from) as usize];
        self.lines.read_exact_at(&mut bytes, unsent.from).map_err(temporary::error)?;
        let mut out = at.create_file(Existing::Replace, false)?;
        out.write_all(&bytes).map_err(Error::from).at_file(&at.display())?;
        out.commit().at_file(&at.display())?;
        self.parts.push(name);
        *unsent = Unsent { from: self.end, lines: 0, since: Instant::now(), id: unsent.id.clone() };
        Ok(())
    }

    /// Writes the share's file: all lines in order, then the final one, which is given the root of
    /// what is certified. The parts go.
    ///
    /// # Errors
    /// What cannot be written.
    pub(crate) fn finish(mut self, mut last: Value) -> Result<()> {
        let at = self.at.join(&share_name(self.shard));
        let mut index = std::mem::take(&mut self.index);
        index.sort_unstable();
        self.sort_equal(&mut index)?;
        let out = at.create_file(Existing::Replace, true)?;
        let mut out = BufWriter::with_capacity(1 << 16, out);
        let mut tree = Tree::default();
        for &(_, offset, len) in &index {
            let line = self.line(offset, len)?;
            tree.push_line(&line);
            out.write_all(&line).map_err(Error::from).at_file(&at.display())?;
        }
        if let Some(root) = tree.root() {
            last["root"] = json!(root);
        }
        writeln!(out, "{last}").map_err(Error::from).at_file(&at.display())?;
        let out = out.into_inner().map_err(|e| Error::from(e.into_error()).file(at.display()))?;
        out.commit().at_file(&at.display())?;
        self.remove_parts();
        Ok(())
    }

    /// Lines of units whose hashes are the same, as those of the files of one source, by their
    /// bytes.
    fn sort_equal(&self, index: &mut [(u64, u64, u32)]) -> Result<()> {
        let mut from = 0;
        while from < index.len() {
            let same = index[from..].iter().take_while(|e| e.0 == index[from].0).count();
            if same > 1 {
                let mut lines = Vec::with_capacity(same);
                for &entry in &index[from..from + same] {
                    lines.push((self.line(entry.1, entry.2)?, entry));
                }
                lines.sort();
                for (slot, (_, entry)) in index[from..from + same].iter_mut().zip(lines) {
                    *slot = entry;
                }
            }
            from += same;
        }
        Ok(())
    }

    fn line(&self, offset: u64, len: u32) -> Result<Vec<u8>> {
        let mut line = vec![0; len as usize];
        self.lines.read_exact_at(&mut line, offset).map_err(Error::reading)?;
        Ok(line)
    }

    /// What cannot be removed does no harm: the share's file holds all of it.
    fn remove_parts(&self) {
        for name in &self.parts {
            let part = self.at.join(name);
            let _ = match (part.local_path(), part.as_remote()) {
                (Some(path), _) => std::fs::remove_file(path).map_err(Error::from),
                (None, Some((backend, key))) => backend.remove(key),
                (None, None) => Ok(()),
            };
        }
    }
}

impl Known {
    /// Nothing.
    fn read<'a>(at: &Location, names: impl Iterator<Item = &'a String>) -> Result<Known> {
        let mut known = Known { lines: temporary::file()?, index: HashMap::new() };
        let mut end = 0;
        for name in names {
            let part = at.join(name);
            // Another worker of this share may have just finished, and removed it.
            let Some(stream) = part.stream_if_any()? else { continue };
            let (mut lines, mut line) = (BufReader::with_capacity(1 << 16, stream), Vec::new());
            loop {
                line.clear();
                let read = lines.read_until(b'\n', &mut line).map_err(Error::reading);
                read.at_file(&part.display())?;
                // A line without an end is being written, or was when its worker was killed.
                if line.last() != Some(&b'\n') {
                    break;
                }
                let Ok(value) = serde_json::from_slice::<Value>(&line) else { continue };
                let Some(unit) = value["unit"].as_str().filter(|_| value["status"] == "done")
                else {
                    continue;
                };
                if value.get("outputs").is_some() {
                    continue;
                }
                known.lines.write_all(&line).map_err(temporary::error)?;
                known.index.insert(hash64(unit), (end, line.len() as u32));
                end += line.len() as u64;
            }
        }
        Ok(known)
    }

    /// The line of a unit that was done before.
    pub(crate) fn line(&self, unit: &str) -> Result<Option<Value>> {
        let Some(&(offset, len)) = self.index.get(&hash64(unit)) else { return Ok(None) };
        let mut line = vec![0; len as usize];
        self.lines.read_exact_at(&mut line, offset).map_err(temporary::error)?;
        let value: Value = serde_json::from_slice(&line)
            .map_err(|e| Error::internal(format!("a line of the report: {e}")))?;
        Ok(Some(value).filter(|v| v["unit"] == unit))
    }
}

/// A name that no other worker takes.
fn random_id() -> Result<String> {
    let mut bytes = [0u8; 8];
    platform::random(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
