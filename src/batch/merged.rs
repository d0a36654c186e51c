//! The reports of several shares as one, unit after unit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::io::{BufRead, BufReader, Read};

use serde_json::Value;

use super::report::{ReportFile, files};
use super::shares::{Shard, hash64};
use crate::error::{Context, Error, Result};
use crate::storage::Location;

/// What a directory of reports holds.
pub(crate) struct Shares {
    at: Location,
    /// How many shares there are to be; none where there is no report.
    pub(crate) of: Option<u64>,
    /// Each share that is done, with its final line.
    pub(crate) done: Vec<(u64, Value)>,
    /// Shares that are not, but were begun.
    pub(crate) begun: Vec<u64>,
    names: Vec<String>,
}

/// A final line is shorter than this.
const MAX_FINAL_BYTES: u64 = 64 << 10;

impl Shares {
    /// Looks at the final lines only.
    ///
    /// # Errors
    /// Usage: shares of several divisions. Corrupt: a report without a final line.
    pub(crate) fn open(at: &Location) -> Result<Shares> {
        let mut shares = Shares {
            at: at.clone(),
            of: None,
            done: Vec::new(),
            begun: Vec::new(),
            names: Vec::new(),
        };
        let mut files = files(at)?;
        files.sort_by_key(|(_, file)| match file {
            ReportFile::Share(s) | ReportFile::Part(s) => s.index,
        });
        for (name, file) in files {
            let (ReportFile::Share(shard) | ReportFile::Part(shard)) = file;
            if shares.of.is_some_and(|of| of != shard.count) {
                return Err(Error::usage("there are reports of different numbers of shares")
                    .file(at.display())
                    .hint("give each division of a batch a directory of its own"));
            }
            shares.of = Some(shard.count);
            match file {
                ReportFile::Share(Shard { index, .. }) => {
                    let last = final_line(&at.join(&name))?;
                    shares.done.push((index, last));
                    shares.names.push(name);
                }
                ReportFile::Part(Shard { index, .. }) => shares.begun.push(index),
            }
        }
        let done: Vec<u64> = shares.done.iter().map(|(i, _)| *i).collect();
        shares.begun.dedup();
        shares.begun.retain(|i| !done.contains(i));
        Ok(shares)
    }

    fn indices(&self) -> HashSet<u64> {
        self.done.iter().map(|(i, _)| *i).collect()
    }

    /// How many shares there are of which there is no final line.
    pub(crate) fn missing(&self) -> u64 {
        self.of.unwrap_or(0).saturating_sub(self.indices().len() as u64)
    }

    /// The first of them: there may be more than fit into the memory.
    pub(crate) fn first_missing(&self, most: usize) -> Vec<u64> {
        let done = self.indices();
        (0..self.of.unwrap_or(0)).filter(|i| !done.contains(i)).take(most).collect()
    }

    /// A number of all final lines together.
    pub(crate) fn sum(&self, key: &str) -> u64 {
        self.done.iter().filter_map(|(_, last)| last[key].as_u64()).sum()
    }

    /// Whether every share is done, and nothing failed.
    pub(crate) fn complete(&self) -> bool {
        self.of.is_some() && self.missing() == 0 && self.sum("failed") == 0
    }

    /// The files of the shares that are done.
    pub(crate) fn files(&self) -> Vec<Location> {
        self.names.iter().map(|name| self.at.join(name)).collect()
    }

    /// All lines of the shares that are done, in the order of their units.
    ///
    /// # Errors
    /// What cannot be read.
    pub(crate) fn lines(&self) -> Result<Lines> {
        Lines::open(self.files())
    }
}

/// The last line of a report.
fn final_line(at: &Location) -> Result<Value> {
    let read = || {
        let blob = at.blob()?;
        let len = blob.len().min(MAX_FINAL_BYTES);
        blob.read_vec(blob.len() - len, len)
    };
    let tail = read().at_file(&at.display())?;
    let tail = tail.strip_suffix(b"\n").unwrap_or(&tail);
    let line = tail.rsplit(|&b| b == b'\n').next().unwrap_or_default();
    let value: Option<Value> = serde_json::from_slice(line).ok();
    value
        .filter(|v| v["final"] == true)
        .ok_or_else(|| Error::corrupt("the report has no final line").file(at.display()))
}

/// The lines of reports, merged.
pub(crate) struct Lines {
    files: Vec<(Location, BufReader<Box<dyn Read + Send>>)>,
    /// The next line of each file, the smallest first.
    next: BinaryHeap<Reverse<(u64, Vec<u8>, usize)>>,
    /// The final lines met so far.
    pub(crate) finals: Vec<Value>,
}

impl Lines {
    /// Of these files.
    ///
    /// # Errors
    /// What cannot be read.
    pub(crate) fn open(files: Vec<Location>) -> Result<Lines> {
        let mut lines = Lines { files: Vec::new(), next: BinaryHeap::new(), finals: Vec::new() };
        for at in files {
            let stream = at.stream()?;
            lines.files.push((at, BufReader::with_capacity(1 << 16, stream)));
            lines.advance(lines.files.len() - 1)?;
        }
        Ok(lines)
    }

    fn advance(&mut self, file: usize) -> Result<()> {
        let (at, reader) = &mut self.files[file];
        loop {
            let mut line = Vec::new();
            reader.read_until(b'\n', &mut line).map_err(Error::reading).at_file(&at.display())?;
            if line.is_empty() {
                return Ok(());
            }
            let value: Value = serde_json::from_slice(&line).map_err(|e| {
                Error::corrupt("a line of the report is not JSON").because(e).file(at.display())
            })?;
            if let Some(unit) = value["unit"].as_str() {
                self.next.push(Reverse((hash64(unit), line, file)));
                return Ok(());
            }
            self.finals.push(value);
        }
    }

    /// The next line: its unit's hash, its text, and itself.
    ///
    /// # Errors
    /// Corrupt; what cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Vec<u8>, Value)>> {
        let Some(Reverse((hash, line, file))) = self.next.pop() else { return Ok(None) };
        self.advance(file)?;
        let value = serde_json::from_slice(&line)
            .map_err(|e| Error::corrupt("a line of the report is not JSON").because(e))?;
        Ok(Some((hash, line, value)))
    }
}
