//! A `.npk` store as mapped arrays: views of the files themselves, without a copy.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("model.npk");
//! # use npk::{format::{Format, WriteOptions}, storage::Location, model::{ArrayMeta, Chunk, Dtype, Plan}};
//! # let plan = Plan { arrays: vec![ArrayMeta::new("weight", Dtype::F32, &[2, 3])].into(), ..Plan::default() };
//! # let sink = npk::formats::numpack::npk::Npk.prepare(&Location::local(&path), &plan, &WriteOptions::default())?(&plan)?;
//! # let bytes: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
//! # let npk::format::Writer::Positional(writer) = sink.writer() else { return Err("no writer".into()) };
//! # writer.write(&Chunk::fixed(0, 0, 2, bytes))?;
//! # sink.finish(&plan)?;
//! let store = npk::Store::open(&path)?;
//! let weight = store.array("weight")?;
//! assert_eq!(weight.shape(), [2, 3]);
//! assert!(!weight.is_copy());
//!
//! let view: ndarray::ArrayViewD<f32> = weight.view()?;
//! assert_eq!(view[[1, 2]], 5.0);
//!
//! let buffer: arrow::buffer::Buffer = weight.buffer();
//! assert_eq!(buffer.typed_data::<f32>()[4], 4.0);
//! # Ok(())
//! # }
//! ```

use std::path::Path;
use std::sync::Arc;

use crate::error::{Context, Error, Result};
use crate::format::Source as _;
use crate::formats::numpack::npk;
use crate::formats::numpack::store::{StoreSource, Stored};
use crate::model::{Buf, Dtype, Encoding, Plan, Values};
use crate::storage::{Location, map_file};

/// An opened local store.
pub struct Store {
    source: StoreSource,
    path: std::path::PathBuf,
}

/// One array of a [`Store`]: its bytes, mapped or copied.
pub struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Buf,
    copied: bool,
}

/// Keeps a map alive for as long as a buffer is.
struct Mapped(#[allow(dead_code)] memmap2::Mmap);

/// The numbers that views can have.
pub trait Element: bytemuck::AnyBitPattern {
    /// Their dtype.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($type:ty => $dtype:ident),* $(,)?) => {
        $(impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;
        })*
    };
}

elements! {
    u8 => U8, u16 => U16, u32 => U32, u64 => U64, i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    half::f16 => F16, f32 => F32, f64 => F64,
    // Real and imaginary part.
    [f32; 2] => C64, [f64; 2] => C128,
}

impl Store {
    /// Opens a store; reads its metadata only.
    ///
    /// # Errors
    /// Missing, or not a store.
    ///
    /// # Maps
    /// The arrays are maps of the store's files: while they are used, these files must not be
    /// truncated or overwritten in place (as with every map, reading what was cut off gets the
    /// program killed). Whatever this crate does to a store leaves the old rows where they are: it
    /// appends after them, and replaces whole files by others. Where the store itself was replaced
    /// since it was opened, arrays that were not asked for before may be gone: that is an error,
    /// and never an array of the new store.
    pub fn open(path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref().to_path_buf();
        let at = Location::local(&path);
        let source = npk::open_store(&at, false).at_file(&at.display())?;
        Ok(Store { source, path })
    }

    /// Names, types, shapes and attributes of the arrays.
    pub fn plan(&self) -> &Plan {
        self.source.plan()
    }

    /// An array's values. Mapped without a copy where its rows are in one file; copied where some
    /// are deleted, or where they are in several segments (see [`Array::is_copy`]). Of nullable
    /// arrays these are the values alone.
    ///
    /// # Errors
    /// No such array; text and lists, which have no one shape; damage.
    pub fn array(&self, name: &str) -> Result<Array> {
        self.get(name).at_array(name).at_file(&self.path.display().to_string())
    }

    fn get(&self, name: &str) -> Result<Array> {
        let index = self
            .plan()
            .position(name)
            .ok_or_else(|| Error::missing("the store has no array of this name"))?;
        let (meta, parts) = (&self.plan().arrays[index], &self.source.parts()[index]);
        crate::format::readable(meta)?;
        let stored = &self.source.stored()[parts.values];
        if !matches!(parts.encoding, Encoding::Plain | Encoding::Bits) {
            let parts = format!(
                "its parts are arrays of their own without the side file ({})",
                stored.name
            );
            return Err(Error::refused(format!(
                "{} cannot be viewed as one array; {parts}",
                meta.type_name()
            )));
        }
        let shape = meta.shape().unwrap_or_default();
        let shape = shape.iter().map(|&d| {
            usize::try_from(d)
                .map_err(|_| Error::failed("the array exceeds this machine's address space"))
        });
        let shape = shape.collect::<Result<Vec<usize>>>()?;
        let (bytes, copied) = match self.map(stored)? {
            Some(bytes) => (bytes, false),
            None => (self.copy(index, meta.rows.unwrap_or(0))?, true),
        };
        Ok(Array { dtype: meta.dtype, shape, bytes, copied })
    }

    /// The array's file, where all of it is the array's rows in order.
    fn map(&self, stored: &Stored) -> Result<Option<Buf>> {
        let [piece] = stored.pieces.as_slice() else { return Ok(None) };
        if stored.alive.is_some() {
            return Ok(None);
        }
        let bytes = usize::try_from(piece.rows * stored.row_bytes)
            .map_err(|_| Error::failed("the array exceeds this machine's address space"))?;
        if bytes == 0 {
            return Ok(Some(Buf::from_vec(Vec::<u128>::new())));
        }
        let blob = self.source.blob(&piece.path)?;
        let file = blob.file().ok_or_else(|| Error::internal("a store without files"))?;
        // SAFETY: `open` tells its caller that the files must stay as they are.
        let map = unsafe { map_file(file)? };
        if map.len() < bytes {
            return Err(Error::corrupt(format!(
                "{} has {} bytes, expected {bytes}",
                piece.path,
                map.len()
            )));
        }
        let start = std::ptr::NonNull::new(map.as_ptr().cast_mut())
            .ok_or_else(|| Error::failed("the file could not be mapped"))?;
        // SAFETY: the map is at least `bytes` long, and lives in the buffer's owner.
        Ok(Some(unsafe { Buf::from_custom_allocation(start, bytes, Arc::new(Mapped(map))) }))
    }

    fn copy(&self, index: usize, rows: u64) -> Result<Buf> {
        let reader =
            self.source.random().ok_or_else(|| Error::internal("a store without random access"))?;
        let mut chunks = Vec::new();
        reader.read(index, 0..rows, &mut |chunk| {
            if let Values::Fixed(bytes) = chunk.values {
                chunks.push(bytes);
            }
            Ok(())
        })?;
        // Aligned for every type.
        let bytes = chunks.iter().map(|c| c.len()).sum();
        let mut all = arrow::buffer::MutableBuffer::with_capacity(bytes);
        chunks.iter().for_each(|c| all.extend_from_slice(c));
        Ok(all.into())
    }
}

impl Array {
    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }
    /// `[rows, d1, d2]`; empty for rank 0.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// Whether these are copied rows, not the file's own bytes.
    pub fn is_copy(&self) -> bool {
        self.copied
    }
    /// The bytes, as an Arrow buffer that keeps the map alive.
    pub fn buffer(&self) -> Buf {
        self.bytes.clone()
    }
    /// A view of the elements. Bools are bytes: view them as `u8` with [`Array::bytes_view`]. In a
    /// map they are the file's own bytes, of which any but 0 is true.
    ///
    /// # Errors
    /// Where `T` is not the array's type.
    pub fn view<T: Element>(&self) -> Result<ndarray::ArrayViewD<'_, T>> {
        if T::DTYPE != self.dtype {
            return Err(Error::refused(format!("the array is {}, not {}", self.dtype, T::DTYPE)));
        }
        self.typed()
    }
    /// A view of the bytes, with one more dimension at the end for elements of several bytes.
    ///
    /// # Errors
    /// None for arrays of a store.
    pub fn bytes_view(&self) -> Result<ndarray::ArrayViewD<'_, u8>> {
        let mut shape = self.shape.clone();
        if self.dtype.item_bytes() > 1 {
            shape.push(self.dtype.item_bytes() as usize);
        }
        ndarray::ArrayViewD::from_shape(shape, &self.bytes)
            .map_err(|e| Error::corrupt("the shape does not fit the bytes").because(e))
    }

    fn typed<T: Element>(&self) -> Result<ndarray::ArrayViewD<'_, T>> {
        let values: &[T] = bytemuck::try_cast_slice(&self.bytes)
            .map_err(|e| Error::failed("the bytes are not aligned").because(e.to_string()))?;
        ndarray::ArrayViewD::from_shape(self.shape.as_slice(), values)
            .map_err(|e| Error::corrupt("the shape does not fit the bytes").because(e))
    }
}
