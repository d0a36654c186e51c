//! The files of a checkpoint, and what is at a place of one: a chunk or a value, as `torch.save` or
//! safetensors wrote it.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use indexmap::IndexSet;

use super::huggingface;
use super::metadata::{ItemForm, ItemLocation};
use crate::array::boxes::{OpenedPart, Parts};
use crate::array::reader::MapReader;
use crate::array::recent::SharedRecent;
use crate::array::{ArrayMap, Element};
use crate::codec::decompress::Compression;
use crate::codec::pickle::shown;
use crate::error::{Context, Error, Result};
use crate::format::{Order, ReadOptions, Reader, Source};
use crate::formats::checkpoint::{pytorch, safetensors};
use crate::model::Dtype;
use crate::storage::{Blob, BlobReader, BlobSlice, Location, file_blob, temporary};

/// What is kept open: so much of temporary copies, and a little for every chunk beside.
const KEPT_BYTES: u64 = 1 << 30;
const CHUNK_BYTES: u64 = 256 << 10;
/// What `torch.save` puts around the elements of one tensor, at the most.
const AROUND_BYTES: u64 = 1 << 20;
/// Bytes that are decompressed at a time.
const STEP_BYTES: usize = 256 << 10;

/// A chunk of a tensor.
pub(super) struct Stored {
    /// The tensor's name.
    pub name: String,
    pub place: ItemLocation,
    pub dtype: Dtype,
    /// Its first element.
    pub origin: Vec<u64>,
    pub shape: Vec<u64>,
}

/// The tensors of a safetensors file within a file: type, shape, first element in the whole, and
/// where the bytes are.
type Embedded = HashMap<String, (Dtype, Vec<u64>, Option<Vec<u64>>, BlobSlice)>;

/// The files of a checkpoint by number, each opened when it is needed.
pub(super) struct Files {
    at: Location,
    names: IndexSet<String>,
    /// What is there, where that can be listed.
    sizes: Option<HashMap<String, u64>>,
    blobs: Vec<OnceLock<Arc<dyn Blob>>>,
}

impl Files {
    pub fn new(
        at: &Location,
        names: IndexSet<String>,
        sizes: Option<HashMap<String, u64>>,
    ) -> Files {
        let blobs = names.iter().map(|_| OnceLock::new()).collect();
        Files { at: at.clone(), names, sizes, blobs }
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn name(&self, file: usize) -> &str {
        self.names.get_index(file).map_or("", String::as_str)
    }

    /// The files that are not there.
    pub fn missing(&self) -> Vec<&str> {
        let Some(sizes) = &self.sizes else { return Vec::new() };
        // What lies in a folder below is not in the list.
        let is_listed = |name: &&str| !name.contains('/');
        let names = self.names.iter().map(String::as_str);
        names.filter(is_listed).filter(|name| !sizes.contains_key(*name)).collect()
    }

    /// Whether a place is there.
    ///
    /// # Errors
    /// Missing; corrupt where the file ends before it.
    pub fn check(&self, place: &ItemLocation) -> Result<()> {
        let name = self.name(place.file);
        let Some(sizes) = self.sizes.as_ref().filter(|_| !name.contains('/')) else {
            return Ok(());
        };
        let Some(&size) = sizes.get(name) else {
            return Err(Error::missing(format!("its file {} is missing", shown(name)))
                .hint("fetch the missing files, or leave out what is in them with -x"));
        };
        self.check_end(place, size)
    }

    fn check_end(&self, place: &ItemLocation, size: u64) -> Result<()> {
        if place.offset.checked_add(place.len).is_some_and(|end| end <= size) {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "its {} bytes at {} are not within {}, which has {size}",
            place.len,
            place.offset,
            shown(self.name(place.file)),
        ))
        .hint("the file was cut short: fetch it again"))
    }

    /// A file.
    ///
    /// # Errors
    /// Missing; reading errors.
    pub fn blob(&self, file: usize) -> Result<&Arc<dyn Blob>> {
        let Some(slot) = self.blobs.get(file) else {
            return Err(Error::internal("a file without a number"));
        };
        match slot.get() {
            Some(blob) => Ok(blob),
            None => {
                let at = self.at.join(self.name(file));
                let blob = at.blob().at_file(&at.display())?;
                Ok(slot.get_or_init(|| blob))
            }
        }
    }

    /// Adds the file of a place to an error.
    pub fn named(&self, place: &ItemLocation, error: Error) -> Error {
        error.file(self.at.join(self.name(place.file)).display())
    }

    /// The bytes of a place.
    ///
    /// # Errors
    /// As [`Files::check`].
    pub fn slice(&self, place: &ItemLocation) -> Result<BlobSlice> {
        let blob = self.blob(place.file)?.clone();
        self.check_end(place, blob.len())?;
        Ok(BlobSlice { blob, start: place.offset, len: place.len })
    }

    /// What `torch.save` wrote at a place; at most `most` bytes come out of compressed ones.
    ///
    /// # Errors
    /// As [`Files::slice`]; corrupt.
    pub fn saved(&self, place: &ItemLocation, most: u64) -> Result<Arc<dyn Blob>> {
        let slice = self.slice(place)?;
        match place.form {
            ItemForm::Saved | ItemForm::Raw => Ok(Arc::new(slice)),
            ItemForm::Zstd => decompressed(slice, most),
        }
    }
}

/// A copy in a temporary file.
fn decompressed(slice: BlobSlice, most: u64) -> Result<Arc<dyn Blob>> {
    let from = Box::new(BlobReader::new(Arc::new(slice)));
    let stream = Compression::Zstd.stream(from)?;
    let mut stream = stream.ok_or_else(|| Error::internal("a codec without a stream"))?;
    let file = temporary::file()?;
    let (mut buffer, mut done) = (vec![0; STEP_BYTES], 0u64);
    loop {
        let n = stream.read(&mut buffer).map_err(|e| match e.downcast::<Error>() {
            Ok(ours) => ours,
            Err(e) => Error::corrupt("its Zstandard frame is damaged").because(e),
        })?;
        if n == 0 {
            return file_blob(file);
        }
        if done + n as u64 > most {
            return Err(Error::corrupt(format!("it decompresses to more than {most} bytes")));
        }
        file.write_all_at(&buffer[..n], done).map_err(temporary::error)?;
        done += n as u64;
    }
}

/// The chunks of all tensors by number, and behind them the arrays of other values.
pub(super) struct Items {
    files: Arc<Files>,
    chunks: Vec<Stored>,
    inside: Vec<OpenedPart>,
    opened: SharedRecent<usize, OpenedPart>,
    /// By the number of the file and the place in it.
    embedded: SharedRecent<(usize, u64), Arc<Embedded>>,
    options: ReadOptions,
}

impl Items {
    pub fn new(
        files: Arc<Files>,
        chunks: Vec<Stored>,
        inside: Vec<OpenedPart>,
        options: &ReadOptions,
    ) -> Items {
        let opened = SharedRecent::new(KEPT_BYTES);
        let embedded = SharedRecent::new(options.resources.memory_bytes() / 4);
        Items { files, chunks, inside, opened, embedded, options: options.clone() }
    }

    /// The tensors of the safetensors file that begins at this place, where it is one. So writes
    /// torch 2.8 and later that was told to: the place is that of the file, behind what is no
    /// tensor, and all its tensors have the same.
    fn safetensors(&self, place: &ItemLocation) -> Result<Option<Arc<Embedded>>> {
        let blob = self.files.blob(place.file)?;
        let rest = blob.len().saturating_sub(place.offset);
        let head = blob.read_vec(place.offset, rest.min(9))?;
        // The header's length, and its first character; archives begin with a `P`.
        if head.len() < 9 || head[8] != b'{' || head.starts_with(b"PK") {
            return Ok(None);
        }
        let len = u64::from_le_bytes(head[..8].try_into().unwrap_or_default());
        let key = (place.file, place.offset);
        let found = self.embedded.get_or(key, len.saturating_mul(2), || {
            let file = BlobSlice { blob: blob.clone(), start: place.offset, len: rest };
            let shard = safetensors::places(&file, self.options.resources.memory_bytes())?;
            let origins = huggingface::origins(&shard.attributes)?;
            let mut all = Embedded::new();
            for (meta, at) in shard.tensors {
                let shape = meta.shape().unwrap_or_default();
                let origin = origins.get(&meta.name);
                let origin = origin.and_then(|o| huggingface::offsets(o, shape.len()));
                let bytes = meta.bytes()?.unwrap_or(0);
                let at = BlobSlice { blob: blob.clone(), start: place.offset + at, len: bytes };
                all.insert(meta.name.clone(), (meta.dtype, shape, origin, at));
            }
            Ok(Arc::new(all))
        })?;
        Ok(Some(found))
    }

    fn chunk(&self, chunk: &Stored) -> Result<OpenedPart> {
        let Stored { name, place, dtype, origin, shape } = chunk;
        let bytes = shape.iter().fold(dtype.item_bytes(), |n, &d| n.saturating_mul(d));
        let raw = |slice: BlobSlice| {
            let map = ArrayMap::raw(shape, Element::plain(*dtype), slice);
            let reader = MapReader::new(vec![Some(map)], self.options.resources.memory_bytes());
            Ok(OpenedPart { reader: Arc::new(reader), array: 0, first: 0 })
        };
        if place.form == ItemForm::Raw {
            return raw(self.files.slice(place)?);
        }
        if let ItemForm::Saved = place.form
            && let Some(tensors) = self.safetensors(place)?
        {
            return match tensors.get(name) {
                Some((type_, own, Some(at), slice))
                    if (type_, own, at) == (dtype, shape, origin) =>
                {
                    raw(slice.clone())
                }
                _ => Err(Error::corrupt(format!(
                    "the safetensors file at byte {} has no chunk of it of {dtype} {shape:?} at {origin:?}",
                    place.offset
                ))),
            };
        }
        let blob = self.files.saved(place, bytes.saturating_add(AROUND_BYTES))?;
        let value = pytorch::open_value(&blob, name, &self.options)?;
        let [meta] = value.source.plan().arrays.as_slice() else {
            return Err(Error::corrupt(format!(
                "{} arrays are where a chunk of it should be",
                value.source.plan().arrays.len()
            )));
        };
        let found = meta.shape().unwrap_or_default();
        if meta.details.error.is_none() && (meta.dtype != *dtype || found != *shape) {
            return Err(Error::corrupt(format!(
                "a chunk of it is {} {found:?}, the metadata says {dtype} {shape:?}",
                meta.type_name()
            )));
        }
        // Small ones are checked as those of other checkpoints are.
        if let Reader::Random(reader) = value.source.select(&[0], Order::Any)? {
            reader.close()?;
        }
        Ok(OpenedPart { reader: value.source.reader().clone(), array: 0, first: 0 })
    }
}

impl Parts for Items {
    fn open(&self, number: usize) -> Result<OpenedPart> {
        let Some(chunk) = self.chunks.get(number) else {
            let inside = self.inside.get(number - self.chunks.len());
            return inside.cloned().ok_or_else(|| Error::internal("a chunk without a number"));
        };
        let size = match chunk.place.form {
            ItemForm::Zstd => chunk.shape.iter().fold(8u64, |n, &d| n.saturating_mul(d)),
            _ => CHUNK_BYTES,
        };
        self.opened.get_or(number, size, || {
            self.chunk(chunk).map_err(|e| self.files.named(&chunk.place, e.array(&chunk.name)))
        })
    }
}

/// Compares the checksums of everything that is stored.
///
/// # Errors
/// Missing files; corrupt.
pub(super) fn verify<'a>(
    files: &Files,
    places: impl Iterator<Item = (&'a str, &'a ItemLocation)>,
    options: &ReadOptions,
) -> Result<Vec<String>> {
    let mut without = 0;
    for (name, place) in places {
        let checked = (|| {
            files.check(place)?;
            if place.form == ItemForm::Raw {
                return files.slice(place).map(|_| 0);
            }
            // What comes out of a compressed one is bounded by what Zstandard can pack.
            let most = options.resources.memory_bytes().max(place.len.saturating_mul(1 << 15));
            pytorch::verify(&files.saved(place, most)?)
        })();
        without += checked.map_err(|e| files.named(place, e.array(name)))?;
    }
    Ok(pytorch::unchecked(without))
}
