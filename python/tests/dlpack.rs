//! Tensors of DLPack in and out of the library, without Python between: here both sides are seen, the
//! addresses, and how often a deleter is called.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlpark::ffi::{
    DLDataType, DLDataTypeCode, DLDevice, DLDeviceType, DLManagedTensor, DLManagedTensorVersioned,
    DLPackVersion, DLTensor,
};
use dlpark::{DlpackFlags, Managed, ManagedTensorBase};
use npk::{Array, Data, Dtype, ErrorKind, OpenOptions, Options, Store, StoreOptions};

const F32: DLDataType = DLDataType { code: DLDataTypeCode::FLOAT, bits: 32, lanes: 1 };
const BF16: DLDataType = DLDataType { code: DLDataTypeCode::BFLOAT, bits: 16, lanes: 1 };

/// What another library's tensor is made of, and how often it was deleted.
struct Owner {
    values: Vec<u64>,
    shape: Vec<i64>,
    strides: Option<Vec<i64>>,
    deleted: Arc<AtomicUsize>,
}

/// A tensor as another library would make it.
#[derive(Clone)]
struct Foreign {
    values: Vec<u8>,
    shape: Vec<i64>,
    strides: Option<Vec<i64>>,
    byte_offset: u64,
    dtype: DLDataType,
    device: DLDeviceType,
    deleted: Arc<AtomicUsize>,
}

impl Foreign {
    fn new(values: &[f32], shape: &[i64], strides: &[i64]) -> Foreign {
        Foreign {
            values: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            shape: shape.to_vec(),
            strides: Some(strides.to_vec()),
            byte_offset: 0,
            dtype: F32,
            device: DLDeviceType::CPU,
            deleted: Arc::default(),
        }
    }
    fn deleted(&self) -> usize {
        self.deleted.load(Ordering::SeqCst)
    }
    /// The descriptor, and what owns all that it points to.
    fn parts(&self) -> (DLTensor, *mut c_void) {
        let mut values = vec![0u64; self.values.len().div_ceil(8)];
        for (i, byte) in self.values.iter().enumerate() {
            values[i / 8] |= u64::from(*byte) << (8 * (i % 8));
        }
        let (shape, strides) = (self.shape.clone(), self.strides.clone());
        let owner = Owner { values, shape, strides, deleted: self.deleted.clone() };
        let mut owner = Box::new(owner);
        let tensor = DLTensor {
            data: match owner.values.is_empty() {
                true => std::ptr::null_mut(),
                false => owner.values.as_mut_ptr().cast(),
            },
            device: DLDevice { device_type: self.device, device_id: 0 },
            ndim: owner.shape.len() as i32,
            dtype: self.dtype,
            shape: owner.shape.as_mut_ptr(),
            strides: owner.strides.as_mut().map_or(std::ptr::null_mut(), Vec::as_mut_ptr),
            byte_offset: self.byte_offset,
        };
        (tensor, Box::into_raw(owner).cast())
    }
    fn legacy(&self) -> Managed<DLManagedTensor> {
        unsafe extern "C" fn delete(tensor: *mut DLManagedTensor) {
            // SAFETY: made below, and called once, which the tests count.
            unsafe { gone(Box::from_raw(tensor).manager_ctx) }
        }
        let (dl_tensor, manager_ctx) = self.parts();
        let tensor = DLManagedTensor { dl_tensor, manager_ctx, deleter: Some(delete) };
        // SAFETY: it owns what it points to, and its deleter frees it.
        unsafe { Managed::from_raw(Box::into_raw(Box::new(tensor))) }.unwrap()
    }
    fn versioned(&self, major: u32) -> Result<Managed<DLManagedTensorVersioned>, String> {
        unsafe extern "C" fn delete(tensor: *mut DLManagedTensorVersioned) {
            // SAFETY: as above.
            unsafe { gone(Box::from_raw(tensor).manager_ctx) }
        }
        let (dl_tensor, manager_ctx) = self.parts();
        let tensor = DLManagedTensorVersioned {
            version: DLPackVersion { major, minor: 0 },
            manager_ctx,
            deleter: Some(delete),
            flags: DlpackFlags::READ_ONLY,
            dl_tensor,
        };
        // SAFETY: as above.
        unsafe { Managed::from_raw(Box::into_raw(Box::new(tensor))) }.map_err(|e| e.to_string())
    }
}

/// # Safety
/// The context of a tensor made here, which nobody uses any more.
unsafe fn gone(context: *mut c_void) {
    // SAFETY: as this function.
    let owner = unsafe { Box::from_raw(context.cast::<Owner>()) };
    owner.deleted.fetch_add(1, Ordering::SeqCst);
}

/// The tensor through a store, as an array of it.
fn stored<M: ManagedTensorBase>(tensor: &Managed<M>) -> npk::Result<Array> {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::create(folder.path().join("t.npk"), &StoreOptions::new())?;
    store.write("t", Data::dlpack(tensor)?)?;
    store.commit()?;
    store.array("t")
}

#[test]
fn tensors_of_others_are_written_where_they_are() {
    let values: Vec<f32> = (0..24).map(|i| i as f32).collect();
    let plain = Foreign::new(&values, &[4, 6], &[6, 1]);
    let cases: [(&str, Foreign, Vec<f32>); 8] = [
        ("C order", plain.clone(), values.clone()),
        ("no strides", Foreign { strides: None, ..plain.clone() }, values.clone()),
        (
            "transposed",
            Foreign::new(&values, &[6, 4], &[1, 6]),
            (0..24).map(|i| (i % 4 * 6 + i / 4) as f32).collect(),
        ),
        (
            "backwards, from an offset",
            Foreign { byte_offset: 92, ..Foreign::new(&values, &[3], &[-2]) },
            vec![23., 21., 19.],
        ),
        ("repeated", Foreign::new(&values, &[2, 3], &[0, 1]), vec![0., 1., 2., 0., 1., 2.]),
        ("rank 0", Foreign { byte_offset: 8, ..Foreign::new(&values, &[], &[]) }, vec![2.]),
        ("empty", Foreign::new(&[], &[0, 3], &[3, 1]), vec![]),
        // Of a dimension of one element nobody uses the stride.
        ("any stride", Foreign::new(&values, &[1, 2], &[i64::MAX, 1]), vec![0., 1.]),
    ];
    for (name, foreign, due) in cases {
        let foreign = Foreign { deleted: Arc::default(), ..foreign };
        let (legacy, versioned) = (foreign.legacy(), foreign.versioned(1).unwrap());
        for array in [stored(&legacy).unwrap(), stored(&versioned).unwrap()] {
            let shape: Vec<i64> = array.shape().iter().map(|&d| d as i64).collect();
            assert_eq!(shape, foreign.shape, "{name}");
            let view = array.view::<f32>().unwrap();
            assert_eq!(view.iter().copied().collect::<Vec<f32>>(), due, "{name}");
        }
        assert_eq!(foreign.deleted(), 0, "{name}: a tensor that is only read stays its owner's");
        drop(legacy);
        assert_eq!(foreign.deleted(), 1, "{name}");
        std::thread::spawn(move || drop(versioned)).join().unwrap();
        assert_eq!(foreign.deleted(), 2, "{name}");
    }
    let bits = vec![0x00, 0x3f, 0x80, 0x3f, 0xc0, 0xff];
    let half = Foreign { values: bits, dtype: BF16, ..Foreign::new(&[], &[3], &[1]) };
    let array = stored(&half.legacy()).unwrap();
    let view = array.view::<f32>().unwrap();
    assert!(view[[0]] == 0.5 && view[[1]] == 1.0 && view[[2]].is_nan(), "widened, exactly");
    assert_eq!(array.info().type_name(), "bfloat16");
}

#[test]
fn what_is_not_readable_here_is_refused() {
    let plain = Foreign::new(&[1., 2.], &[2], &[1]);
    let other =
        |code, bits, lanes| Foreign { dtype: DLDataType { code, bits, lanes }, ..plain.clone() };
    let refused = [
        Foreign { device: DLDeviceType::CUDA, ..plain.clone() },
        Foreign { device: DLDeviceType::ROCM, ..plain.clone() },
        other(DLDataTypeCode::INT, 4, 1),
        other(DLDataTypeCode::FLOAT, 32, 2),
        other(DLDataTypeCode::OPAQUEHANDLE, 64, 1),
        other(DLDataTypeCode(99), 8, 1),
    ];
    let usage = [
        Foreign { shape: vec![-1], ..plain.clone() },
        Foreign { shape: vec![i64::MAX, i64::MAX], strides: Some(vec![1, 1]), ..plain.clone() },
        Foreign { strides: Some(vec![i64::MAX / 2]), ..plain.clone() },
    ];
    let cases = refused.iter().map(|f| (f, ErrorKind::Refused));
    for (foreign, kind) in cases.chain(usage.iter().map(|f| (f, ErrorKind::Usage))) {
        let before = foreign.deleted();
        let (legacy, versioned) = (foreign.legacy(), foreign.versioned(1).unwrap());
        let errors = [stored(&legacy).unwrap_err(), stored(&versioned).unwrap_err()];
        assert!(errors.iter().all(|e| e.kind() == kind), "{:?}: {errors:?}", foreign.shape);
        drop((legacy, versioned));
        assert_eq!(foreign.deleted(), before + 2);
    }
    let before = plain.deleted();
    assert!(plain.versioned(2).is_err(), "a version whose layout is not known");
    assert_eq!(plain.deleted(), before + 1);
}

/// What a tensor of ours says of itself: address, type, shape, strides.
fn described<M: ManagedTensorBase>(tensor: &Managed<M>) -> (usize, DLDataType, Vec<i64>, Vec<i64>) {
    tensor.validate_export().unwrap();
    // SAFETY: it was validated.
    let raw = unsafe { tensor.tensor() };
    assert_eq!((raw.device.device_type, raw.byte_offset), (DLDeviceType::CPU, 0));
    // SAFETY: as above.
    let (shape, strides) = unsafe { (raw.shape().unwrap(), raw.strides_or_compact().unwrap()) };
    (raw.data as usize, raw.dtype, shape.to_vec(), strides.into_owned())
}

#[test]
fn tensors_of_ours_share_the_map_and_keep_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let values: Vec<u8> = (0..24u8).collect();
    let mut store = Store::create(at("o.npk"), &StoreOptions::new()).unwrap();
    for (name, dtype, shape) in [
        ("f32", Dtype::F32, &[2usize, 3][..]),
        ("u8", Dtype::U8, &[2, 3, 4]),
        ("c64", Dtype::C64, &[3]),
        ("rank0", Dtype::F64, &[]),
        ("empty", Dtype::I16, &[0, 3]),
        ("bf16", Dtype::Bf16, &[4, 3]),
    ] {
        let bytes = shape.iter().product::<usize>() * dtype.item_bytes() as usize;
        store.write(name, Data::bytes(dtype, shape, &values[..bytes]).unwrap()).unwrap();
    }
    store.commit().unwrap();
    npk::convert(&[at("o.npk")], at("o.safetensors"), &Options::new()).unwrap();
    let of = |code, bits| DLDataType { code, bits, lanes: 1 };
    for (name, dtype, shape, strides) in [
        ("f32", F32, vec![2, 3], vec![3, 1]),
        ("u8", of(DLDataTypeCode::UINT, 8), vec![2, 3, 4], vec![12, 4, 1]),
        ("c64", of(DLDataTypeCode::COMPLEX, 64), vec![3], vec![1]),
        ("rank0", of(DLDataTypeCode::FLOAT, 64), vec![], vec![]),
        ("empty", of(DLDataTypeCode::INT, 16), vec![0, 3], vec![3, 1]),
        ("bf16", BF16, vec![4, 3], vec![3, 1]),
    ] {
        let file = npk::open(at("o.safetensors"), &OpenOptions::new()).unwrap();
        let array = file.array(name).unwrap();
        let (tensor, legacy) = (array.to_dlpack().unwrap(), array.to_dlpack_legacy().unwrap());
        assert!(tensor.flags().contains(DlpackFlags::READ_ONLY));
        let address = match array.buffer().is_empty() {
            true => 0,
            false => array.buffer().as_ptr() as usize,
        };
        assert_eq!(described(&tensor), (address, dtype, shape.clone(), strides.clone()), "{name}");
        assert_eq!(described(&legacy), (address, dtype, shape, strides), "{name}");
        let due = array.try_bytes().unwrap().to_vec();
        drop((array, file, legacy));
        // SAFETY: validated above; its memory is the map's, which it keeps.
        let bytes = unsafe { tensor.tensor().cpu_bytes().unwrap_or_default().to_vec() };
        assert_eq!(bytes, due, "{name}: the tensor keeps the map");
    }
    let texts: Arc<dyn arrow_array::Array> =
        Arc::new(arrow_array::StringArray::from(vec![Some("a"), None]));
    let nulls: Arc<dyn arrow_array::Array> =
        Arc::new(arrow_array::Int32Array::from(vec![Some(1), None]));
    let mut store = Store::create(at("r.npk"), &StoreOptions::new()).unwrap();
    store.write("texts", &texts).unwrap();
    store.write("nulls", &nulls).unwrap();
    store.commit().unwrap();
    for name in ["texts", "nulls"] {
        let error = store.array(name).unwrap().to_dlpack().err().unwrap();
        assert_eq!((error.kind(), error.array_name()), (ErrorKind::Refused, Some(name)));
    }
}
