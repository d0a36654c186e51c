//! Pieces that do not fit into memory: each is decoded once, as a stream, to a temporary file, from
//! which any rows of it are read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::recent::SharedRecent;
use super::{ArrayMap, PieceLocation, Pieces};
use crate::codec::shuffle::unshuffle;
use crate::error::{Error, Result};
use crate::storage::{BlobReader, BlobSlice, file_blob, temporary};

/// Bytes that are read, decoded and written at a time.
const STEP_BYTES: usize = 256 << 10;

/// The decoded pieces of an array.
pub struct Spooled {
    map: ArrayMap,
    /// Those of two rows of pieces: where one ends and the next begins, both are wanted.
    kept: SharedRecent<u64, Option<PieceLocation>>,
}

impl Spooled {
    /// Of an array whose codecs can be streamed.
    pub fn new(map: ArrayMap) -> Spooled {
        let across = map.columns().iter().fold(1u64, |n, &c| n.saturating_mul(c));
        Spooled { map, kept: SharedRecent::new(across.saturating_mul(2)) }
    }

    fn decode(&self, piece: &PieceLocation) -> Result<PieceLocation> {
        let whole = self.map.decoded_bytes(self.map.rows())?;
        let stored = BlobReader::new(Arc::new(piece.slice.clone()));
        let streamed = self.map.codecs.stream(piece.skipped, stored, piece.slice.len)?;
        let Some((mut stream, shuffled)) = streamed else {
            return Err(Error::internal("a codec without a stream"));
        };
        let mut file = temporary::file()?;
        let (mut buffer, mut done) = (vec![0; STEP_BYTES], 0);
        loop {
            let n = stream.read(&mut buffer).map_err(|e| match e.downcast::<Error>() {
                Ok(ours) => ours,
                Err(e) => Error::corrupt("a piece is damaged").because(e),
            })?;
            if n == 0 {
                break;
            }
            if n > whole - done {
                return Err(Error::corrupt(format!(
                    "a piece holds more than the {whole} bytes of its shape"
                )));
            }
            file.write_all_at(&buffer[..n], done as u64).map_err(temporary::error)?;
            done += n;
        }
        if done < whole {
            return Err(Error::corrupt(format!(
                "a piece holds {done} bytes, its shape needs {whole}"
            )));
        }
        if shuffled > 1 {
            file = unshuffled(&file, whole, shuffled)?;
        }
        Ok(PieceLocation { slice: BlobSlice::whole(file_blob(file)?), skipped: 0 })
    }
}

impl Pieces for Spooled {
    fn locate(&self, at: &[u64]) -> Result<Option<PieceLocation>> {
        self.kept.get_or(self.map.number(at), 1, || {
            let piece = self.map.pieces.locate(at)?;
            piece.map(|piece| self.decode(&piece)).transpose()
        })
    }

    fn about(&self, error: Error, at: &[u64]) -> Error {
        self.map.pieces.about(error, at)
    }
}

/// Puts the bytes of elements together that a byte shuffle took apart: all first bytes, then all
/// second ones, and so on.
fn unshuffled(from: &File, bytes: usize, size: usize) -> Result<File> {
    let to = temporary::file()?;
    let (elements, step) = (bytes / size, (STEP_BYTES / size).max(1));
    let (mut planes, mut out) = (Vec::new(), Vec::new());
    for first in (0..elements).step_by(step) {
        let count = step.min(elements - first);
        planes.resize(count * size, 0);
        out.resize(count * size, 0);
        for (n, plane) in planes.chunks_exact_mut(count).enumerate() {
            from.read_exact_at(plane, (n * elements + first) as u64).map_err(temporary::error)?;
        }
        unshuffle(&planes, size, &mut out);
        to.write_all_at(&out, (first * size) as u64).map_err(temporary::error)?;
    }
    let mut tail = vec![0; bytes - elements * size];
    from.read_exact_at(&mut tail, (elements * size) as u64).map_err(temporary::error)?;
    to.write_all_at(&tail, (elements * size) as u64).map_err(temporary::error)?;
    Ok(to)
}
