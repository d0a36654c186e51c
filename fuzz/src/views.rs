//! Arrays as programs hold them: maps, rows of them, copies, Arrow arrays and tensors in and out,
//! dropped in any order, while the store that they are of is changed and replaced. (Under the address
//! sanitizer: what is held too short is found when it is looked at.)

use std::path::Path;

use arrow_array::ArrayRef;
use arrow_array::ffi::{from_ffi, to_ffi};
use npk::{Array, Data, Dataset, Dtype, ErrorKind, OpenOptions, Options, Store, StoreOptions};

use super::reading::Folder;
use super::round_trip::Input;

/// Looks at what it holds: it must be as it was.
type Held = Box<dyn Fn()>;

const NAMES: [&str; 4] = ["a", "b", "c", "texts"];

/// A few arrays under these names, one of them with nulls and one of texts.
fn written(input: &mut Input, path: &Path) -> npk::Result<()> {
    let mut store = Store::create(path, &StoreOptions::new().replace())?;
    for name in &NAMES[..2] {
        let dtype = Dtype::ALL[usize::from(input.byte()) % Dtype::ALL.len()];
        let rank = usize::from(input.byte() % 4);
        let shape: Vec<usize> = (0..rank).map(|_| usize::from(input.byte() % 5)).collect();
        let count: usize = shape.iter().product();
        let mut bytes = input.bytes(count * dtype.item_bytes() as usize);
        if dtype == Dtype::Bool {
            bytes.iter_mut().for_each(|b| *b &= 1);
        }
        store.write(name, Data::bytes(dtype, &shape, &bytes)?)?;
    }
    let rows = usize::from(input.byte() % 6);
    let some = |byte: u8| (!byte.is_multiple_of(3)).then_some(byte);
    let numbers: ArrayRef = std::sync::Arc::new(arrow_array::UInt8Array::from(
        (0..rows).map(|_| some(input.byte())).collect::<Vec<_>>(),
    ));
    let texts = (0..rows).map(|_| some(input.byte()).map(|n| "é".repeat(usize::from(n % 4))));
    let texts: ArrayRef = std::sync::Arc::new(arrow_array::StringArray::from_iter(texts));
    store.write(NAMES[2], &numbers)?;
    store.write(NAMES[3], &texts)?;
    store.commit()
}

/// What an array holds, apart from its memory.
#[derive(Debug, PartialEq)]
struct Due {
    shape: Vec<usize>,
    bytes: Option<Vec<u8>>,
    valid: Option<Vec<u8>>,
    texts: Vec<Option<Vec<u8>>>,
}

impl Due {
    fn of(array: &Array) -> Due {
        Due {
            shape: array.shape().to_vec(),
            bytes: array.try_bytes().ok().map(<[u8]>::to_vec),
            valid: array.validity().map(<[u8]>::to_vec),
            texts: array.texts().map(|text| text.map(<[u8]>::to_vec)).collect(),
        }
    }
}

/// In the Arrow form, through the C interface and back, or not.
fn arrow(array: &Array, foreign: bool) -> Option<Held> {
    let due = array.copied().unwrap().to_arrow();
    let lent = array.to_arrow();
    let (Ok(due), Ok(lent)) = (due, lent) else {
        return None; // complex numbers
    };
    let lent = match foreign {
        true => {
            let (out, schema) = to_ffi(&lent.to_data()).unwrap();
            drop(lent);
            // SAFETY: made by the line above.
            arrow_array::make_array(unsafe { from_ffi(out, &schema) }.unwrap())
        }
        false => lent,
    };
    Some(Box::new(move || {
        lent.to_data().validate_full().unwrap();
        assert_eq!(&due, &lent);
    }))
}

/// As a tensor in one of both forms, which is written again when it is looked at.
#[cfg(feature = "dlpack")]
fn tensor(array: &Array, versioned: bool, folder: &std::rc::Rc<Folder>) -> Option<Held> {
    let (due, dtype) = (Due::of(array), array.dtype());
    let again = folder.clone();
    let look = move |data: npk::Result<Data<'_>>| {
        let mut store =
            Store::create(again.join("again.npk"), &StoreOptions::new().replace()).unwrap();
        store.write("t", data.unwrap()).unwrap();
        store.commit().unwrap();
        let back = store.array("t").unwrap();
        if back.dtype() == dtype {
            assert_eq!(Due::of(&back), due);
        }
    };
    let refused = |e: npk::Error| assert_eq!(e.kind(), ErrorKind::Refused, "{e:?}");
    if versioned {
        let lent = array.to_dlpack().map_err(refused).ok()?;
        return Some(Box::new(move || look(Data::dlpack(&lent))));
    }
    let lent = array.to_dlpack_legacy().map_err(refused).ok()?;
    Some(Box::new(move || look(Data::dlpack(&lent))))
}

#[cfg(not(feature = "dlpack"))]
fn tensor(_array: &Array, _versioned: bool, _folder: &std::rc::Rc<Folder>) -> Option<Held> {
    None
}

/// A file that is open, beside the same without maps.
fn opened(path: &Path) -> (Dataset, Dataset) {
    let open = |options: OpenOptions| npk::open(path, &options.jobs(1)).unwrap();
    (open(OpenOptions::new()), open(OpenOptions::new().copies()))
}

/// An array made of another by what a byte says; none where it cannot be.
fn derived(array: &Array, input: &mut Input) -> Option<Array> {
    Some(match input.byte() % 3 {
        0 => {
            let rows = array.info().rows() as usize;
            let start = usize::from(input.byte()) % (rows + 1);
            let end = start + usize::from(input.byte()) % (rows - start + 1);
            let part = array.slice(start..end).ok()?;
            if let (Ok(all), Ok(some)) = (array.try_bytes(), part.try_bytes())
                && rows > 0
            {
                let row = all.len() / rows;
                assert_eq!(some, &all[start * row..end * row]);
            }
            part
        }
        1 => array.raw().ok()?,
        _ => {
            let copy = array.copied().unwrap();
            assert_eq!(Due::of(&copy), Due::of(array));
            copy
        }
    })
}

/// Changes the store in one of the ways that leave its old rows where they are.
fn changed(path: &Path, input: &mut Input) {
    let mut store = Store::open(path).unwrap();
    let name = NAMES[usize::from(input.byte()) % NAMES.len()];
    let Some(array) = store.dataset().unwrap().info(name).map(|_| store.array(name).unwrap())
    else {
        return;
    };
    let told = match input.byte() % 4 {
        0 => store.append([(name, Data::from(&array))]),
        1 => store.compact().map(|_| ()),
        2 => store.replace(name, &array).and_then(|()| store.commit()),
        _ => store.remove(name).and_then(|()| store.commit()),
    };
    if let Err(error) = told {
        // Rank 0 has no rows to append to.
        let kinds = [ErrorKind::Refused, ErrorKind::Usage, ErrorKind::Exists];
        assert!(kinds.contains(&error.kind()), "{error:?}");
    }
}

/// A program of a few steps, each of which a byte chooses.
pub fn views(bytes: &[u8]) {
    let mut input = Input(bytes);
    let folder = std::rc::Rc::new(Folder::new());
    let mut path = folder.join("s.npk");
    if let Err(error) = written(&mut input, &path) {
        return assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
    }
    let mut file = opened(&path);
    let (mut arrays, mut held): (Vec<(Array, Due)>, Vec<Held>) = Default::default();
    for _ in 0..input.byte() % 24 {
        let (what, which) = (input.byte() % 10, usize::from(input.byte()));
        let array = arrays.get(which % arrays.len().max(1)).map(|(array, _)| array.clone());
        match (what, array) {
            (0 | 1, _) => {
                let name = NAMES[which % NAMES.len()];
                if file.0.info(name).is_none() {
                    continue;
                }
                let array = file.0.array(name).unwrap();
                let due = Due::of(&file.1.array(name).unwrap());
                assert_eq!(Due::of(&array), due);
                arrays.push((array, due));
            }
            (2, Some(array)) => {
                if let Some(array) = derived(&array, &mut input) {
                    let due = Due::of(&array);
                    arrays.push((array, due));
                }
            }
            (3 | 4, Some(array)) => held.extend(arrow(&array, what == 4)),
            (5 | 6, Some(array)) => held.extend(tensor(&array, what == 6, &folder)),
            (7, Some(_)) => {
                let (array, due) = arrays.swap_remove(which % arrays.len());
                assert_eq!(Due::of(&array), due);
            }
            (8, _) if !held.is_empty() => {
                let look = held.swap_remove(which % held.len());
                look();
            }
            (9, _) => {
                if path.extension().is_some_and(|e| e == "npk") {
                    changed(&path, &mut input);
                }
                if input.byte().is_multiple_of(8) {
                    // Maps that are not at the start of their file.
                    let to = folder.join("s.safetensors");
                    let options = Options::new().jobs(1).replace();
                    if npk::convert(&[folder.join("s.npk")], &to, &options).is_ok() {
                        path = to;
                    }
                }
                file = opened(&path);
            }
            _ => {}
        }
    }
    drop(file);
    drop(folder);
    arrays.iter().for_each(|(array, due)| assert_eq!(&Due::of(array), due));
    drop(arrays);
    held.iter().for_each(|look| look());
}
