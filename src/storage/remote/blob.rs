//! Reading: ranges of one version of an object, several in flight, each tried again on its own.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio::task::JoinHandle;

use super::connection::RemoteBackend;
use super::errors::{Failure, FailureKind};
use super::memory::{PartBuffer, Reserved};
use super::object::ObjectVersion;
use super::retry::Tries;
use super::runtime::runtime;
use crate::error::{Error, Result, locked};
use crate::storage::Blob;

/// A large read is cut into parts of this size. Where a connection is slow (its bandwidth is
/// capped, or the server is far), into [`FLIGHT`] smaller ones of at least [`LEAST_PART`]; where it
/// is fast, every further request would only cost.
const PART: u64 = 8 << 20;
const LEAST_PART: u64 = 2 << 20;
const FLIGHT: u64 = 4;
const FAST_BYTES_PER_S: u64 = 64 << 20;
/// The most parts of one call in flight.
const MAX_FLIGHT: usize = 8;
/// Reads up to here go through the windows.
const SMALL: u64 = 64 << 10;
/// What is fetched around a small read; grows where reads follow each other.
const WINDOW: u64 = 32 << 10;
const MAX_WINDOW: u64 = 1 << 20;
/// Ranges with gaps up to here are fetched together.
const GAP: u64 = 64 << 10;

/// An object of one version.
pub(super) struct RemoteBlob {
    backend: Arc<RemoteBackend>,
    key: Arc<str>,
    pin: ObjectVersion,
    len: u64,
    recent: Mutex<Recent>,
}

/// Where the last small reads were.
#[derive(Default)]
struct Recent {
    fetched: Range<u64>,
    ahead: u64,
}

impl RemoteBlob {
    pub fn new(
        backend: Arc<RemoteBackend>,
        key: Arc<str>,
        pin: ObjectVersion,
        len: u64,
    ) -> RemoteBlob {
        let recent = Mutex::new(Recent { fetched: 0..0, ahead: WINDOW });
        RemoteBlob { backend, key, pin, len, recent }
    }

    fn check(&self, offset: u64, len: u64) -> Result<()> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::corrupt(format!(
                "{len} bytes are expected at byte {offset}, the object has {}",
                self.len
            )));
        }
        Ok(())
    }

    /// Fills `buf` from `offset`, going on where a connection broke; progress renews the tries.
    async fn fill(&self, offset: u64, buf: &mut [u8]) -> Result<(), Failure> {
        let (mut done, mut tries) = (0, Tries::default());
        let end = offset + buf.len() as u64;
        while done < buf.len() {
            let before = done;
            match self.fill_once(offset, end, buf, &mut done).await {
                Ok(()) => self.backend.answered.store(true, Ordering::Relaxed),
                Err(failure) => {
                    if done > before {
                        tries = Tries::default();
                    }
                    self.backend.pause(failure, &mut tries).await?;
                }
            }
        }
        Ok(())
    }

    async fn fill_once(
        &self,
        offset: u64,
        end: u64,
        buf: &mut [u8],
        done: &mut usize,
    ) -> Result<(), Failure> {
        let _permit = self.backend.permit().await;
        let (from, began, before) = (offset + *done as u64, Instant::now(), *done);
        let mut got =
            self.backend.service().get(&self.key, Some(from..end), Some(&self.pin)).await?;
        match &got.range {
            Some(range) if range.start == from && range.end <= end => {}
            Some(range) => {
                return Err(Failure::new(
                    FailureKind::Other,
                    format!("the server answers with bytes {range:?} to {from}..{end}"),
                ));
            }
            None if from == 0 && end == self.len => {}
            None => {
                return Err(Failure::new(
                    FailureKind::Other,
                    "the server does not answer to ranges any more",
                ));
            }
        }
        while let Some(bytes) = got.body.next().await {
            let bytes = bytes?;
            let room = buf.len() - *done;
            if bytes.len() > room {
                return Err(Failure::new(
                    FailureKind::Broken,
                    "the server sends more than was asked for",
                ));
            }
            buf[*done..*done + bytes.len()].copy_from_slice(&bytes);
            *done += bytes.len();
        }
        if *done < buf.len() {
            return Err(Failure::new(FailureKind::Broken, "the body is short"));
        }
        self.measure((*done - before) as u64, began);
        Ok(())
    }

    fn fast(&self) -> bool {
        self.backend.rate.load(Ordering::Relaxed) >= FAST_BYTES_PER_S
    }

    /// What a connection brings, as a running mean.
    fn measure(&self, bytes: u64, began: Instant) {
        if bytes >= LEAST_PART / 2 {
            let rate = (bytes as f64 / began.elapsed().as_secs_f64().max(1e-6)) as u64;
            let mean = match self.backend.rate.load(Ordering::Relaxed) {
                0 => rate,
                old => old - old / 4 + rate / 4,
            };
            self.backend.rate.store(mean, Ordering::Relaxed);
        }
    }

    /// A large read: parts in flight.
    async fn fill_parts(&self, offset: u64, buf: &mut [u8]) -> Result<(), Failure> {
        let part = if self.fast() {
            PART
        } else {
            (buf.len() as u64).div_ceil(FLIGHT).clamp(LEAST_PART, PART)
        } as usize;
        if buf.len() <= part {
            return self.fill(offset, buf).await;
        }
        let parts: Vec<_> = buf
            .chunks_mut(part)
            .enumerate()
            .map(|(i, slice)| self.fill(offset + (i * part) as u64, slice))
            .collect();
        futures_util::stream::iter(parts).buffer_unordered(MAX_FLIGHT).try_collect::<()>().await
    }

    /// The range to fetch for a small read.
    fn window(&self, offset: u64, len: u64) -> Range<u64> {
        let mut recent = locked(&self.recent);
        let follows = offset >= recent.fetched.start
            && offset <= recent.fetched.end.saturating_add(recent.ahead);
        recent.ahead = if follows && !recent.fetched.is_empty() {
            (recent.ahead * 2).min(MAX_WINDOW)
        } else {
            WINDOW
        };
        // Formats with their directory at the end read backwards from there.
        let tail = self.len.saturating_sub(SMALL);
        let range = if offset >= tail {
            tail..self.len
        } else {
            offset..(offset + len.max(recent.ahead)).min(self.len)
        };
        recent.fetched = range.clone();
        range
    }

    /// How much of `buf`, from its start, is in windows already.
    fn take_windows(&self, offset: u64, buf: &mut [u8]) -> usize {
        let windows = self.backend.windows();
        let mut done = 0;
        while done < buf.len()
            && let Some(bytes) = windows.get(&self.key, &self.pin, offset + done as u64)
        {
            let n = bytes.len().min(buf.len() - done);
            buf[done..done + n].copy_from_slice(&bytes[..n]);
            done += n;
        }
        done
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Failure> {
        let done = self.take_windows(offset, buf);
        if done == buf.len() {
            return Ok(());
        }
        let (offset, buf) = (offset + done as u64, &mut buf[done..]);
        if buf.len() as u64 > SMALL {
            return self.fill_parts(offset, buf).await;
        }
        let range = self.window(offset, buf.len() as u64);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.fill(range.start, &mut bytes).await?;
        let at = (offset - range.start) as usize;
        buf.copy_from_slice(&bytes[at..at + buf.len()]);
        self.backend.windows().put(&self.key, &self.pin, range.start, bytes.into());
        Ok(())
    }

    /// Fetches one range, and gives out the wanted pieces of it (`wanted[i]` for each of `pieces`).
    async fn group(
        &self,
        group: &Group,
        wanted: &[Range<u64>],
    ) -> Result<Vec<(usize, Vec<u8>)>, Failure> {
        let mut bytes = vec![0; (group.range.end - group.range.start) as usize];
        let done = self.take_windows(group.range.start, &mut bytes);
        self.fill_parts(group.range.start + done as u64, &mut bytes[done..]).await?;
        if let [only] = group.pieces[..] {
            return Ok(vec![(only, bytes)]);
        }
        let at = |byte: u64| (byte - group.range.start) as usize;
        Ok(group
            .pieces
            .iter()
            .map(|&i| (i, bytes[at(wanted[i].start)..at(wanted[i].end)].to_vec()))
            .collect())
    }

    fn fail(&self, failure: Failure) -> Error {
        failure
            .into_error(&self.backend.bucket)
            .file(crate::storage::Backend::display(&*self.backend, &self.key))
    }
}

/// Ranges that are fetched together.
struct Group {
    range: Range<u64>,
    /// Which ones of those that were asked for.
    pieces: Vec<usize>,
}

impl Blob for RemoteBlob {
    fn is_remote(&self) -> bool {
        true
    }
    fn origin(&self) -> Option<crate::storage::Origin> {
        let address = self.backend.address(&self.key);
        // What is masked (a signature, a password) is not for others.
        (!address.contains("***")).then_some(crate::storage::Origin {
            address,
            offset: 0,
            len: self.len,
        })
    }
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check(offset, buf.len() as u64)?;
        if buf.is_empty() {
            return Ok(());
        }
        runtime()?.block_on(self.read(offset, buf)).map_err(|f| self.fail(f))
    }
    fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Vec<u8>>> {
        for r in ranges {
            self.check(r.start, r.end.saturating_sub(r.start))?;
        }
        let mut order: Vec<usize> =
            (0..ranges.len()).filter(|&i| ranges[i].end > ranges[i].start).collect();
        order.sort_by_key(|&i| ranges[i].start);
        let mut groups: Vec<Group> = Vec::new();
        for i in order {
            let r = &ranges[i];
            match groups.last_mut() {
                // Overlapping ranges go together whatever their size.
                Some(g)
                    if r.start < g.range.end
                        || r.start <= g.range.end.saturating_add(GAP)
                            && r.end - g.range.start <= self.backend.memory.group =>
                {
                    g.range.end = g.range.end.max(r.end);
                    g.pieces.push(i);
                }
                _ => groups.push(Group { range: r.clone(), pieces: vec![i] }),
            }
        }
        let fetched: Vec<Vec<(usize, Vec<u8>)>> = runtime()?
            .block_on(async {
                let work: Vec<_> = groups.iter().map(|g| self.group(g, ranges)).collect();
                futures_util::stream::iter(work).buffer_unordered(MAX_FLIGHT).try_collect().await
            })
            .map_err(|f| self.fail(f))?;
        let mut all = vec![Vec::new(); ranges.len()];
        for (i, bytes) in fetched.into_iter().flatten() {
            all[i] = bytes;
        }
        Ok(all)
    }
}

/// An object from its start to its end, with the next parts on their way.
pub(super) struct RemoteStream {
    blob: Arc<RemoteBlob>,
    coming: VecDeque<JoinHandle<Result<ArrivedPart, Failure>>>,
    asked: u64,
    part: u64,
    now: ArrivedPart,
}

/// A part that has come; its room is given back when it has been read.
#[derive(Default)]
struct ArrivedPart {
    bytes: Bytes,
    _reserved: Option<Reserved>,
}

/// The first part of a stream; the following ones double up to [`STREAM_PART`], or [`PART`] on fast
/// connections.
const FIRST_PART: u64 = 512 << 10;
const STREAM_PART: u64 = 4 << 20;
const STREAM_FLIGHT: usize = 4;

impl RemoteStream {
    pub fn new(blob: Arc<RemoteBlob>) -> RemoteStream {
        let bytes = blob.backend.windows().get(&blob.key, &blob.pin, 0).unwrap_or_default();
        RemoteStream {
            asked: bytes.len() as u64,
            blob,
            coming: VecDeque::new(),
            part: FIRST_PART,
            now: ArrivedPart { bytes, _reserved: None },
        }
    }
    fn ask(&mut self) -> Result<()> {
        let (most, flight) =
            if self.blob.fast() { (PART, STREAM_FLIGHT - 1) } else { (STREAM_PART, STREAM_FLIGHT) };
        while self.coming.len() < flight && self.asked < self.blob.len {
            let mut range = self.asked..(self.asked + self.part).min(self.blob.len);
            let reserved = self.blob.backend.memory.reserve(range.end - range.start);
            if reserved.is_none() {
                // One small part always comes.
                if !self.coming.is_empty() {
                    break;
                }
                range.end = range.end.min(range.start + FIRST_PART);
                self.part = FIRST_PART;
            }
            self.asked = range.end;
            self.part = (self.part * 2).min(most);
            let blob = self.blob.clone();
            self.coming.push_back(runtime()?.spawn(async move {
                let mut bytes = PartBuffer::zeroed((range.end - range.start) as usize);
                blob.fill(range.start, bytes.as_mut()).await?;
                Ok(ArrivedPart { bytes: bytes.into_bytes(), _reserved: reserved })
            }));
        }
        Ok(())
    }
}

impl Read for RemoteStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.now.bytes.is_empty() && !buf.is_empty() {
            self.now = ArrivedPart::default();
            self.ask().map_err(io::Error::other)?;
            let Some(front) = self.coming.pop_front() else { return Ok(0) };
            let part =
                runtime().map_err(io::Error::other)?.block_on(front).map_err(io::Error::other)?;
            self.now = part.map_err(|f| io::Error::other(self.blob.fail(f)))?;
            self.ask().map_err(io::Error::other)?;
        }
        let n = buf.len().min(self.now.bytes.len());
        buf[..n].copy_from_slice(&self.now.bytes.split_to(n));
        Ok(n)
    }
}

impl Drop for RemoteStream {
    fn drop(&mut self) {
        for task in &self.coming {
            task.abort();
        }
    }
}
