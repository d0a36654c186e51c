//! One hierarchy by many processes: each writes the objects of a share of the rows, the last one
//! the metadata.
//!
//! Every process makes the same documents of the same source; their hash is the ID of what is being
//! made. A share that is done leaves a note of which objects it wrote, and how many bytes they have
//! together. Every chunk is stored, one of fill values alone, too: so what is not there was not
//! written. Without a document nothing of the hierarchy is readable: they are written when all
//! shares are done, the root's last.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::consolidate::documents;
use super::layout::Layout;
use super::target::Target;
use super::write::{Writer, add_late_marks, layouts};
use crate::error::{Error, Result, locked};
use crate::format::{Existing, Share, Sink, Summary, Together, WriteOptions};
use crate::model::{ArrayMeta, Logical, Plan};
use crate::storage::Location;
use crate::storage::parts::{PLAN, Parts};

/// A hierarchy that many processes write.
pub struct ZarrTogether {
    at: Location,
    parts: Arc<Parts>,
    id: String,
    source: String,
    layouts: Vec<Layout>,
    plan: Plan,
    options: WriteOptions,
}

/// What a share has left.
struct Note {
    objects: u64,
    bytes: u64,
    /// Of each array the objects along the first dimension.
    pieces: Vec<Range<u64>>,
}

/// Objects along the first dimension, and those in a row of them.
fn grid(layout: &Layout) -> (u64, u64) {
    let mut counts = layout.shape.iter().zip(layout.object()).map(|(s, o)| s.div_ceil(*o));
    let first = counts.next().unwrap_or(1);
    (if layout.shape.contains(&0) { 0 } else { first }, counts.product())
}

impl ZarrTogether {
    /// Decides what is made, and looks at nothing.
    ///
    /// # Errors
    /// As [`layouts`]; refused where rows are not known.
    pub fn new(
        at: &Location,
        plan: &Plan,
        options: &WriteOptions,
        source: &str,
    ) -> Result<ZarrTogether> {
        if let Some(meta) = plan.arrays.iter().find(|a| a.rows.is_none()) {
            return Err(Error::refused(
                "how many rows it has is only known when all of it is read: it has no shares",
            )
            .array(&meta.name)
            .hint("leave it out with -x, or convert it into Parquet or .npk first"));
        }
        let grows = |meta: &&ArrayMeta| match &meta.logical {
            Logical::Dictionary { categories, .. } => !categories.is_whole(),
            _ => false,
        };
        let encoded = plan.encoded.iter().map(|e| &e.meta);
        if let Some(meta) = plan.arrays.iter().chain(encoded).find(grows) {
            return Err(Error::refused(
                "its categories are only known when all of it is read: it has no shares",
            )
            .array(&meta.name)
            .hint("leave it out with -x, or convert it into Parquet or .npk first"));
        }
        let (mut layouts, errors) = layouts(plan, options);
        Error::all(errors)?;
        add_late_marks(&mut layouts, plan);
        let mut hash = Sha256::new();
        let mut take = |key: &str, bytes: &[u8]| -> Result<()> {
            for part in [key.as_bytes(), bytes] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
            Ok(())
        };
        let (last, _) = documents(&layouts, plan, options, &mut take)?;
        last.iter().try_for_each(|(key, bytes)| take(key, bytes))?;
        take("source", source.as_bytes())?;
        take("name", at.file_name().as_bytes())?;
        take("npk", env!("CARGO_PKG_VERSION").as_bytes())?;
        let id: String = hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
        let parts = Arc::new(Parts::new(at, &id)?);
        Ok(ZarrTogether {
            at: at.clone(),
            parts,
            id,
            source: source.to_string(),
            layouts,
            plan: plan.clone(),
            options: options.clone(),
        })
    }

    fn fail(&self, what: String) -> Error {
        Error::failed(what).file(self.at.display())
    }

    /// Refuses an output that is there, and one that others make of something else in the same
    /// place.
    fn check_place(&self) -> Result<()> {
        let replaces = self.options.existing == Existing::Replace;
        if (!replaces || self.parts.shares_keys()) && self.parts.is_whole()? {
            let error = Error::exists("the output exists").file(self.at.display());
            return Err(error.hint(match replaces {
                true => "many processes cannot replace what is on object storage: remove it first, or give another name",
                false => "use --force to replace it, or --if-exists skip",
            }));
        }
        if !self.parts.shares_keys() {
            return Ok(());
        }
        for other in self.parts.others()? {
            if !replaces {
                return Err(self.other_source());
            }
            self.parts.forget(&other)?;
        }
        Ok(())
    }

    fn other_source(&self) -> Error {
        Error::exists("shares of it were written from another source, with other options, or by another version of npk")
            .file(self.at.display())
            .hint("give all shares the same source and options; --force begins anew")
    }

    fn note_name(share: Share) -> String {
        format!("share-{}-of-{}.json", share.index, share.count)
    }

    fn note(&self, share: Share) -> Result<Option<Note>> {
        let Some(bytes) = self.parts.note(&Self::note_name(share))? else { return Ok(None) };
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let number = |v: &Value| v.as_u64();
        let range = |v: &Value| Some(number(&v[0])?..number(&v[1])?);
        let pieces = value["pieces"].as_array().and_then(|all| all.iter().map(range).collect());
        let note = || {
            let pieces: Vec<Range<u64>> = pieces?;
            let fits = |(p, l): (&Range<u64>, &Layout)| p.start <= p.end && p.end <= grid(l).0;
            let good =
                pieces.len() == self.layouts.len() && pieces.iter().zip(&self.layouts).all(fits);
            let (objects, bytes) = (number(&value["objects"])?, number(&value["bytes"])?);
            good.then_some(Note { objects, bytes, pieces })
        };
        match note() {
            Some(note) => Ok(Some(note)),
            None => {
                let what = format!("the note of share {}/{} is damaged", share.index, share.count);
                let error = Error::corrupt(what).file(self.at.display());
                Err(error.hint("run that share again with --force"))
            }
        }
    }

    /// The notes of all shares.
    fn notes(&self) -> Result<Vec<(Share, Note)>> {
        let mut of: BTreeMap<u64, HashSet<u64>> = BTreeMap::new();
        for name in self.parts.notes()? {
            let share = name.strip_prefix("share-").and_then(|n| n.strip_suffix(".json"));
            let numbers = share.and_then(|s| s.split_once("-of-"));
            let numbers = numbers.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
            if let Some((index, count)) = numbers.filter(|(i, n)| i < n) {
                of.entry(count).or_default().insert(index);
            }
        }
        let missing = |count: u64, done: &HashSet<u64>| count - done.len() as u64;
        let Some((&count, done)) = of.iter().min_by_key(|(n, done)| missing(**n, done)) else {
            return Err(match self.parts.others()?.is_empty() {
                true => Error::missing("no share of it is done")
                    .file(self.at.display())
                    .hint("--shard 0/N to N-1/N write the shares of it"),
                false => self.other_source(),
            });
        };
        if missing(count, done) > 0 {
            let first = (0..count).filter(|i| !done.contains(i)).take(20);
            let first: Vec<String> = first.map(|i| i.to_string()).collect();
            let more = if missing(count, done) > 20 { ", …" } else { "" };
            let n = missing(count, done);
            let error = self
                .fail(format!("{n} of {count} shares are not done: {}{more}", first.join(", ")));
            return Err(error.hint(format!("run --shard {}/{count} and so on", first[0])));
        }
        let note = |index| {
            let share = Share { index, count };
            let lost = || self.fail(format!("the note of share {index}/{count} is gone"));
            Ok((share, self.note(share)?.ok_or_else(lost)?))
        };
        (0..count).map(note).collect()
    }

    /// The array and the object's place along its first dimension, if the key is one that this
    /// hierarchy has.
    fn find(&self, arrays: &HashMap<&str, usize>, key: &str) -> Option<(usize, u64)> {
        let mut place: Vec<u64> = Vec::new();
        let number = |text: &str| text.parse::<u64>().ok().filter(|n| n.to_string() == text);
        let path = match self.options.zarr_format.unwrap_or(3) {
            2 => {
                let (path, name) = key.rsplit_once('/')?;
                place = name.split('.').map(number).collect::<Option<_>>()?;
                path
            }
            _ => {
                let mut rest = key;
                loop {
                    let (before, last) = rest.rsplit_once('/')?;
                    rest = before;
                    match last {
                        "c" => break rest,
                        _ => place.insert(0, number(last)?),
                    }
                }
            }
        };
        let &array = arrays.get(path)?;
        let layout = &self.layouts[array];
        let shape = &layout.shape;
        if shape.is_empty() {
            return (layout.key(&[]) == key).then_some((array, 0));
        }
        let inside = |((p, s), o): ((&u64, &u64), &u64)| *p < s.div_ceil(*o);
        let fits = place.len() == shape.len()
            && !shape.contains(&0)
            && place.iter().zip(shape).zip(layout.object()).all(inside);
        fits.then(|| (array, place[0]))
    }

    /// Compares what is there with what the shares have noted. Returns what is of no share.
    fn compare(&self, notes: &[(Share, Note)]) -> Result<Vec<String>> {
        // Per array, in order: where a share's objects begin, and whose they are.
        let mut owners: Vec<Vec<(u64, usize)>> = vec![Vec::new(); self.layouts.len()];
        for (array, layout) in self.layouts.iter().enumerate() {
            let of = |i: usize| &notes[i].1.pieces[array];
            let mut shares: Vec<usize> = (0..notes.len()).filter(|&i| !of(i).is_empty()).collect();
            shares.sort_by_key(|&i| of(i).start);
            let mut end = 0;
            for i in shares {
                if of(i).start != end {
                    break;
                }
                owners[array].push((end, i));
                end = of(i).end;
            }
            if end != grid(layout).0 {
                let what = "the notes of the shares do not come to the whole array";
                return Err(Error::corrupt(what).array(&layout.path).file(self.at.display()));
            }
        }
        let arrays: HashMap<&str, usize> =
            self.layouts.iter().enumerate().map(|(i, l)| (l.path.as_str(), i)).collect();
        let (mut found, mut foreign) = (vec![(0u64, 0u64); notes.len()], Vec::new());
        let documents = self.document_keys()?;
        self.parts.each(&mut |key, bytes| {
            match self.find(&arrays, key) {
                Some((array, place)) => {
                    let next = owners[array].partition_point(|(start, _)| *start <= place);
                    let (objects, sum) = &mut found[owners[array][next - 1].1];
                    (*objects, *sum) = (*objects + 1, *sum + bytes);
                }
                None if documents.contains(key) => {}
                None => foreign.push(key.to_string()),
            }
            Ok(())
        })?;
        let mut errors = Vec::new();
        for ((share, note), (objects, bytes)) in notes.iter().zip(found) {
            let Share { index, count } = share;
            let what = match (objects == note.objects, bytes == note.bytes) {
                (false, _) => format!("{objects} of its {} chunks are there", note.objects),
                (_, false) => format!("its chunks have {bytes} bytes, it wrote {}", note.bytes),
                _ => continue,
            };
            let error = self.fail(format!("share {index}/{count} is not whole: {what}"));
            errors.push(error.hint(format!("run --shard {index}/{count} again, with --force")));
        }
        Error::all(errors)?;
        Ok(foreign)
    }

    fn document_keys(&self) -> Result<HashSet<String>> {
        let mut keys = HashSet::new();
        let mut take = |key: &str, _: &[u8]| {
            keys.insert(key.to_string());
            Ok(())
        };
        let (last, _) = documents(&self.layouts, &self.plan, &self.options, &mut take)?;
        keys.extend(last.iter().map(|(key, _)| key.to_string()));
        Ok(keys)
    }

    /// What is there beside this hierarchy: chunks of another one that --force lets go, or what
    /// nobody may remove.
    fn strange(&self, keys: &[String]) -> Result<()> {
        let is_chunk = |key: &String| {
            let mut parts = key.rsplit('/').peekable();
            let is_number = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
            let numbers = std::iter::from_fn(|| parts.next_if(is_number)).count();
            numbers > 0 && parts.next() == Some("c")
        };
        let replaces = self.options.existing == Existing::Replace;
        let Some(first) = keys.iter().find(|key| !replaces || !is_chunk(key)) else {
            return Ok(());
        };
        let n = keys.len();
        let error = Error::exists(format!("{n} objects of something else are there: {first}"));
        Err(error.file(self.at.display()).hint(match is_chunk(first) {
            true => "--force removes them",
            false => "move them elsewhere, or give another name",
        }))
    }

    /// Whether the output is as this one would be, but for what is left to clean up.
    fn is_committed(&self) -> Result<bool> {
        if !self.parts.shares_keys() {
            return self.parts.is_committed();
        }
        if !self.parts.is_whole()? || self.parts.note(PLAN)?.is_none() {
            return Ok(false);
        }
        let (last, _) = documents(&self.layouts, &self.plan, &self.options, &mut |_, _| Ok(()))?;
        let Some((name, bytes)) = last.last() else { return Ok(false) };
        let at = self.at.join(name);
        if let Some((backend, key)) = at.as_remote() {
            backend.forget(key);
        }
        let Some(mut stream) = at.stream_if_any()? else { return Ok(false) };
        let mut found = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut found).map_err(Error::reading)?;
        Ok(found == *bytes)
    }
}

impl Together for ZarrTogether {
    fn done(&self, share: Share) -> Result<Option<Summary>> {
        if self.options.existing == Existing::Replace && self.parts.is_whole()? {
            // It is written once more.
            return Ok(None);
        }
        let note = self.note(share)?;
        Ok(note.map(|n| Summary { bytes: n.bytes, files: n.objects, notes: Vec::new() }))
    }

    fn begin(self: Box<Self>, share: Share) -> Result<Box<dyn Sink>> {
        self.check_place()?;
        self.parts.begin()?;
        if self.parts.note(PLAN)?.is_none() {
            let objects: u64 = self.layouts.iter().map(grid).map(|(k, n)| k * n).sum();
            let plan = json!({
                "schema": 1, "npk": env!("CARGO_PKG_VERSION"), "arrays": self.layouts.len(),
                "objects": objects, "source": self.source,
            });
            self.parts.put_note(PLAN, plan.to_string().as_bytes())?;
        }
        let writer = Writer::new(
            Target::parts(self.parts.clone()),
            self.layouts.clone(),
            self.options.resources.memory_bytes(),
        );
        let pieces = std::sync::Mutex::new(vec![0..0; self.layouts.len()]);
        Ok(Box::new(ShareSink { writer: Arc::new(writer), share, pieces, all: *self }))
    }

    fn check(&self) -> Result<u64> {
        let notes = self.notes()?;
        let foreign = self.compare(&notes)?;
        self.strange(&foreign)?;
        Ok(notes.len() as u64)
    }

    fn finish(self: Box<Self>) -> Result<Summary> {
        if self.is_committed()? {
            self.parts.remove_notes()?;
            return Ok(Summary::default());
        }
        self.check_place()?;
        let notes = self.notes()?;
        let holder = self.parts.hold()?;
        let foreign = self.compare(&notes)?;
        self.strange(&foreign)?;
        foreign.iter().try_for_each(|key| self.parts.remove(key))?;
        let mut files = notes.iter().map(|(_, n)| n.objects).sum();
        let mut bytes = notes.iter().map(|(_, n)| n.bytes).sum();
        let mut put = |key: &str, document: &[u8]| {
            (files, bytes) = (files + 1, bytes + document.len() as u64);
            self.parts.put(key, document)
        };
        let (last, mut notes) = documents(&self.layouts, &self.plan, &self.options, &mut put)?;
        let others = self.parts.others()?.len();
        if others > 0 {
            notes.push(format!(
                "shares that were made from something else are left in {others} folders beside it: {}",
                self.parts.pattern()
            ));
        }
        files += last.len() as u64;
        bytes += last.iter().map(|(_, document)| document.len() as u64).sum::<u64>();
        self.parts.commit(&last, self.options.existing, self.options.sync, &holder)?;
        Ok(Summary { bytes, files, notes })
    }
}

/// A share being written.
struct ShareSink {
    writer: Arc<Writer>,
    share: Share,
    /// What the share has of each array.
    pieces: std::sync::Mutex<Vec<Range<u64>>>,
    all: ZarrTogether,
}

impl Sink for ShareSink {
    fn writer(&self) -> crate::format::Writer {
        crate::format::Writer::Positional(self.writer.clone())
    }

    fn region(&self, array: usize, can_cut: bool) -> Range<u64> {
        let layout = &self.all.layouts[array];
        let (all, height) = (grid(layout).0, layout.object().first().copied().unwrap_or(1));
        let pieces = match can_cut {
            true => self.share.pieces(array, all),
            false if self.share.pieces(array, 1).is_empty() => 0..0,
            false => 0..all,
        };
        let rows = pieces.start * height..pieces.end.saturating_mul(height);
        locked(&self.pieces)[array] = pieces;
        rows
    }

    fn finish(self: Box<Self>, _end: &Plan) -> Result<Summary> {
        let ShareSink { writer, share, pieces, all } = *self;
        let (target, layouts) = Writer::into_whole(writer)?;
        let pieces = pieces.into_inner().unwrap_or_else(|e| e.into_inner());
        let summary = target.commit(&[], Vec::new())?;
        let objects: u64 =
            layouts.iter().zip(&pieces).map(|(l, p)| (p.end - p.start) * grid(l).1).sum();
        if objects != summary.files {
            let what = format!("{} of {objects} chunks were written", summary.files);
            return Err(Error::internal(what));
        }
        if all.options.sync {
            all.parts.sync()?;
        }
        if all.parts.note(PLAN)?.is_none() {
            let error = Error::exists("it was finished by another process meanwhile");
            return Err(error.file(all.at.display()));
        }
        let pieces: Vec<[u64; 2]> = pieces.iter().map(|p| [p.start, p.end]).collect();
        let note = json!({
            "schema": 1, "share": share.index, "of": share.count, "plan": all.id,
            "objects": objects, "bytes": summary.bytes, "pieces": pieces,
        });
        all.parts.put_note(&ZarrTogether::note_name(share), note.to_string().as_bytes())?;
        Ok(summary)
    }
}
