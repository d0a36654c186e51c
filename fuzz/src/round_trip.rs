//! Arrays of any type, shape and bytes through every writer and back.

use npk::compare::{self, Rules};
use npk::format::{Arrays, ReadOptions, Resources};
use npk::formats::{FORMATS, by_name};
use npk::pipe::{Flow, Settings};
use npk::storage::Location;
use npk::{Data, Dtype, ErrorKind, Options, Store, StoreOptions};

use super::reading::{Folder, MEMORY_BYTES};

/// Takes bytes from the input, and zeros when it is used up.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl Input<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }
    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }
}

/// The types whose values text holds, exactly and by itself.
const IN_TEXT: [Dtype; 4] = [Dtype::I64, Dtype::F64, Dtype::U8, Dtype::I16];

/// A store of a few arrays, written as another format, holds the same as that file; or the format
/// says why it cannot.
pub fn round_trip(bytes: &[u8]) {
    let mut input = Input(bytes);
    let writers: Vec<_> = FORMATS.iter().filter(|f| f.spec().writes.is_some()).collect();
    let format = writers[usize::from(input.byte()) % writers.len()].spec();
    let is_table = format.writes.is_some_and(|w| w.arrays == Arrays::Table);
    let is_text = matches!(format.name, "csv" | "txt");
    let (folder, rows) = (Folder::new(), usize::from(input.byte() % 20) + usize::from(is_text));
    let path = folder.join("input.npk");
    let mut store = Store::create(&path, &StoreOptions::new()).unwrap();
    let count = 1 + input.byte() % 4;
    let mut is_rare = false;
    for i in 0..count {
        let kind = usize::from(input.byte());
        let dtype = match is_text {
            true => IN_TEXT[kind % IN_TEXT.len()],
            false => Dtype::ALL[kind % Dtype::ALL.len()],
        };
        is_rare |= dtype.is_float8() || dtype == Dtype::Bf16;
        let dims = if is_table { 1 } else { input.byte() % 5 };
        let mut shape: Vec<usize> = (0..dims).map(|_| usize::from(input.byte() % 5)).collect();
        if let Some(first) = shape.first_mut() {
            *first = rows;
        }
        let items: usize = shape.iter().product();
        let mut values = input.bytes(items * dtype.item_bytes() as usize);
        if dtype == Dtype::Bool {
            values.iter_mut().for_each(|b| *b &= 1);
        }
        let byte = input.byte();
        // Names that these give where a file has none.
        let name = match byte {
            _ if format.name == "txt" => format!("col{i}"),
            _ if is_table && count == 1 => "data".to_string(),
            _ if format.name == "npy" => "output".to_string(),
            b'/' => format!("group/{i}"),
            b'.' => format!("layer.{i}.weight"),
            b' ' => format!("a \"name\" {i}"),
            _ => format!("array{i}"),
        };
        if let Err(error) = store.write(&name, Data::bytes(dtype, &shape, &values).unwrap()) {
            let told = matches!(error.kind(), ErrorKind::Refused | ErrorKind::Exists);
            return assert!(told, "{error:?}");
        }
    }
    store.commit().unwrap();
    let out = folder.join(&format!("output.{}", format.extensions[0]));
    let options = Options::new().to(format.name).jobs(1).memory_limit(MEMORY_BYTES);
    if let Err(error) = npk::convert(&[&path], &out, &options) {
        let told = matches!(error.kind(), ErrorKind::Refused | ErrorKind::Usage);
        assert!(told, "{}: {error:?}", format.name);
        assert!(!out.exists(), "{} is left behind", out.display());
        return;
    }
    let settings = Settings::new(1, MEMORY_BYTES);
    let read = ReadOptions { resources: Resources::new(1, MEMORY_BYTES), ..ReadOptions::default() };
    let open = |name: &str, path| -> Flow {
        let source = by_name(name).unwrap().open(&Location::local(path), &read).unwrap();
        compare::logical(source, &settings).unwrap()
    };
    // What a format lacks of types becomes the next larger one.
    let rules = Rules { equal_nan: true, ignore_dtype: is_table || is_rare, ..Rules::default() };
    let labels = ("the store", format.name);
    let (one, other) = (open("npk", &path), open(format.name, &out));
    let compared = compare::compare(one, other, labels, rules, &settings).unwrap();
    assert!(compare::all_equal(&compared), "{}: {compared:?}", format.name);
}

/// A view of any strides, negative and zero ones too, is written as its elements in C order, and read
/// back as a map and as a copy.
pub fn strided(bytes: &[u8]) {
    let mut input = Input(bytes);
    let dtype = Dtype::ALL[usize::from(input.byte()) % Dtype::ALL.len()];
    let item = dtype.item_bytes() as usize;
    let rank = usize::from(input.byte() % 5);
    // Bytes of the buffer, and in it where each dimension goes.
    let (mut shape, mut strides, mut first, mut end) = (Vec::new(), Vec::new(), 0isize, item);
    for _ in 0..rank {
        let (dim, step) = (usize::from(input.byte() % 6), input.byte() as i8);
        // Not only whole elements: fields of records have strides of their own.
        let stride = isize::from(step % 16) * if step % 3 == 0 { 1 } else { item as isize };
        let reach = stride * dim.saturating_sub(1) as isize;
        first -= reach.min(0);
        end += reach.unsigned_abs();
        shape.push(dim);
        strides.push(stride);
    }
    let mut buffer = input.bytes(end);
    if dtype == Dtype::Bool {
        buffer.iter_mut().for_each(|b| *b &= 1);
    }
    let count: usize = shape.iter().product();
    let mut due = Vec::with_capacity(count * item);
    for mut index in 0..count {
        let mut at = first;
        for (dim, stride) in shape.iter().zip(&strides).rev() {
            at += (index % dim) as isize * stride;
            index /= dim;
        }
        due.extend(&buffer[at as usize..at as usize + item]);
    }
    let folder = Folder::new();
    let mut store = Store::create(folder.join("o.npk"), &StoreOptions::new()).unwrap();
    // SAFETY: all indices lead into the buffer, which lives until the array is written.
    let data =
        unsafe { Data::strided(dtype, &shape, &strides, buffer.as_ptr().offset(first)).unwrap() };
    if let Err(error) = store.write("a", data) {
        return assert!(error.kind() == ErrorKind::Refused, "{error:?}");
    }
    store.commit().unwrap();
    for options in [npk::OpenOptions::new(), npk::OpenOptions::new().copies()] {
        let file = npk::open(folder.join("o.npk"), &options.jobs(1)).unwrap();
        let array = file.array("a").unwrap();
        if array.dtype() != dtype {
            return; // widened: what a store lacks
        }
        assert_eq!((array.shape(), array.try_bytes().unwrap()), (&shape[..], &due[..]));
        let rows = shape.first().copied().unwrap_or(0);
        if rows > 1 {
            let half = due.len() / rows * (rows / 2);
            let some = file.rows("a", 0..rows as u64 / 2).unwrap();
            assert_eq!(some.try_bytes().unwrap(), &due[..half]);
            let last = array.slice(rows / 2..rows).unwrap();
            assert_eq!(last.try_bytes().unwrap(), &due[half..]);
        }
        #[cfg(feature = "dlpack")]
        lent(&array, &folder.join("lent.npk"), &due);
    }
}

/// An array as a tensor, in both forms, which outlives it and is written again.
#[cfg(feature = "dlpack")]
fn lent(array: &npk::Array, path: &std::path::Path, due: &[u8]) {
    let own = array.slice(0..array.info().rows() as usize);
    let own = if array.shape().is_empty() { array.copied() } else { own }.unwrap();
    let (tensor, legacy) = (own.to_dlpack().unwrap(), own.to_dlpack_legacy().unwrap());
    drop(own);
    let mut store = Store::create(path, &StoreOptions::new().replace()).unwrap();
    store.write("a", Data::dlpack(&tensor).unwrap()).unwrap();
    store.write("b", Data::dlpack(&legacy).unwrap()).unwrap();
    store.commit().unwrap();
    for name in ["a", "b"] {
        let back = store.array(name).unwrap();
        assert_eq!((back.dtype(), back.shape()), (array.dtype(), array.shape()));
        assert_eq!(back.try_bytes().unwrap(), due);
    }
}
