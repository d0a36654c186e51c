//! SHA-256 of logical arrays: the same for the same array in every format.
//!
//! Values in C order, little-endian, zero at nulls; then the mask's bytes if the array has nulls.
//! Text, binary and lists: int64 offsets (rows + 1, from 0), then the bytes. Dictionaries count as
//! what they stand for; text of several dimensions as its elements one after the other. Of nested
//! columns the hashes (hexadecimal) of the plain arrays that they are taken apart into, in order.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result, locked};
use crate::model::{ArrayMeta, Chunk, Values};
use crate::pipe::{self, Flow, Settings};
use crate::storage::temporary;

/// Codes whose texts are hashed together.
const CODES: usize = 4096;

/// Hashes every readable array of the source; `None` for those that cannot be read.
///
/// # Errors
/// Reading errors.
pub fn checksums(flow: Flow, settings: &Settings) -> Result<Vec<Option<String>>> {
    let all = flow.plan().arrays.len();
    let readable: Vec<usize> =
        (0..all).filter(|&a| flow.plan().arrays[a].details.error.is_none()).collect();
    let flow = crate::compare::logical(flow.choose(&readable), settings)?;
    let (step, parts) = crate::resolve::nested::all_apart(flow.plan())?;
    let flow = flow.then(step);
    let metas = flow.plan().arrays.clone();
    let hasher = |meta| Hasher::new(meta).map(Mutex::new);
    let hashers: Vec<Mutex<Hasher>> = metas.iter().map(hasher).collect::<Result<_>>()?;
    let take = |chunk: Chunk| {
        let meta = &metas[chunk.array];
        let mut hasher = locked(&hashers[chunk.array]);
        let (Some(_), Values::Fixed(codes)) = (meta.coded_text(), &chunk.values) else {
            return hasher.take(&chunk);
        };
        // Elements as rows: there are no nulls among them.
        codes.chunks(CODES * meta.dtype.item_bytes() as usize).try_for_each(|part| {
            let (offsets, values) = meta.coded_items(part)?;
            let (rows, values) =
                (offsets.len() as u64 - 1, Values::Var { offsets, values: values.into() });
            hasher.take(&Chunk {
                array: chunk.array,
                first_row: Chunk::NEXT,
                rows,
                values,
                valid: None,
            })
        })
    };
    pipe::drain_beside(flow, settings, &take)?;
    let mut out = vec![None; all];
    let mut hashers =
        hashers.into_iter().map(|h| h.into_inner().unwrap_or_else(|e| e.into_inner()));
    for (&a, parts) in readable.iter().zip(parts) {
        let hashes: Vec<String> =
            hashers.by_ref().take(parts.unwrap_or(1)).map(Hasher::finish).collect::<Result<_>>()?;
        out[a] = Some(match parts {
            None => hashes.concat(),
            Some(_) => hexadecimal(Sha256::digest(hashes.concat())),
        });
    }
    Ok(out)
}

fn hexadecimal(hash: impl AsRef<[u8]>) -> String {
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

struct Hasher {
    sha: Sha256,
    item: u64,
    /// Text: the bytes, which follow all offsets.
    tail: Option<temporary::Writer<File>>,
    end: u64,
    started: bool,
    var: bool,
    nulls: bool,
    /// One bit a row.
    mask: Vec<u8>,
    rows: u64,
}

impl Hasher {
    fn new(meta: &ArrayMeta) -> Result<Hasher> {
        let var = meta.logical.is_var() || meta.coded_text().is_some();
        Ok(Hasher {
            sha: Sha256::new(),
            // Codes are hashed as their texts: bytes.
            item: if meta.coded_text().is_some() { 1 } else { meta.dtype.item_bytes() },
            tail: if var { Some(temporary::Writer(temporary::file()?)) } else { None },
            end: 0,
            started: false,
            var,
            nulls: meta.nulls,
            mask: Vec::new(),
            rows: 0,
        })
    }

    fn take(&mut self, chunk: &Chunk) -> Result<()> {
        match &chunk.values {
            Values::Fixed(values) => match &chunk.valid {
                Some(valid) if valid.contains(&0) => {
                    let row = values.len() / (chunk.rows as usize).max(1);
                    let mut zeroed = values.to_vec();
                    for (r, _) in valid.iter().enumerate().filter(|(_, v)| **v == 0) {
                        zeroed[r * row..(r + 1) * row].fill(0);
                    }
                    self.sha.update(&zeroed);
                }
                _ => self.sha.update(values),
            },
            Values::Nested(_) => {
                return Err(Error::internal("a nested column was not taken apart"));
            }
            Values::Var { offsets, values } => {
                if !self.started {
                    self.sha.update(0i64.to_le_bytes());
                }
                let mut ends = Vec::with_capacity(offsets.len() * 8);
                for row in 0..chunk.rows as usize {
                    let (from, to) = (offsets[row], offsets[row + 1]);
                    if chunk.is_valid(row) {
                        self.end += to - from;
                        if let Some(tail) = &mut self.tail {
                            tail.write_all(
                                &values[(from * self.item) as usize..(to * self.item) as usize],
                            )?;
                        }
                    }
                    ends.extend_from_slice(&(self.end as i64).to_le_bytes());
                }
                self.sha.update(&ends);
            }
        }
        self.started = true;
        if self.nulls {
            for row in 0..chunk.rows as usize {
                if self.rows.is_multiple_of(8) {
                    self.mask.push(0);
                }
                if chunk.is_valid(row)
                    && let Some(last) = self.mask.last_mut()
                {
                    *last |= 1 << (self.rows % 8);
                }
                self.rows += 1;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<String> {
        if self.var && !self.started {
            self.sha.update(0i64.to_le_bytes());
        }
        if let Some(temporary::Writer(mut tail)) = self.tail.take() {
            tail.seek(SeekFrom::Start(0))?;
            let mut buffer = vec![0; 1 << 20];
            loop {
                let n = tail.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                self.sha.update(&buffer[..n]);
            }
        }
        if self.nulls {
            let bytes: Vec<u8> =
                (0..self.rows).map(|r| self.mask[(r / 8) as usize] >> (r % 8) & 1).collect();
            self.sha.update(&bytes);
        }
        Ok(hexadecimal(self.sha.finalize()))
    }
}
