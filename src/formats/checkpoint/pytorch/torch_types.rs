//! torch's names of storages and element types.

use crate::codec::pickle::shown;
use crate::error::{Error, Result};
use crate::model::Dtype;

/// The refusal of a name that the pickle asks for.
pub(super) fn unknown_global(name: &str) -> Error {
    Error::refused(format!("the pickle asks for {}, which is not among the constructors that are known; nothing was run", shown(name)))
        .hint("--skip-unsupported leaves it out")
}

pub(super) fn class_name(class: &str) -> &str {
    let name = class.strip_prefix("torch.").unwrap_or(class);
    name.strip_prefix("cuda.").or_else(|| name.strip_prefix("storage.")).unwrap_or(name)
}

/// Bytes of an element of a storage class, of those too whose values are not read.
pub(super) fn item_bytes(class: &str) -> Option<u64> {
    match class_name(class) {
        "QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" => Some(1),
        "QInt32Storage" => Some(4),
        _ => storage_dtype(class).ok().map(|dtype| dtype.map_or(1, Dtype::item_bytes)),
    }
}

/// The element type of a storage class; `None` for an untyped one, which is counted in bytes.
pub(super) fn storage_dtype(class: &str) -> Result<Option<Dtype>> {
    match class_name(class) {
        "UntypedStorage" | "_UntypedStorage" => Ok(None),
        "QInt8Storage" | "QUInt8Storage" | "QInt32Storage" | "QUInt4x2Storage"
        | "QUInt2x4Storage" => {
            let shown = shown(class);
            Err(Error::refused(format!("it lies in a quantized storage ({shown})"))
                .hint("--skip-unsupported leaves it out"))
        }
        name => Dtype::of_torch_storage(name).map(Some).ok_or_else(|| unknown_global(class)),
    }
}

/// torch's name of an element type, without `torch.`.
pub(super) fn torch_dtype(name: &str) -> Option<Dtype> {
    Dtype::of_name(name).or(match name {
        "half" => Some(Dtype::F16),
        "float" => Some(Dtype::F32),
        "double" => Some(Dtype::F64),
        "short" => Some(Dtype::I16),
        "int" => Some(Dtype::I32),
        "long" => Some(Dtype::I64),
        "chalf" => Some(Dtype::C32),
        "cfloat" => Some(Dtype::C64),
        "cdouble" => Some(Dtype::C128),
        _ => None,
    })
}

/// Element types that may be values in a checkpoint.
pub(super) fn is_torch_dtype(name: &str) -> bool {
    torch_dtype(name).is_some()
        || matches!(
            name,
            "qint8" | "quint8" | "qint32" | "quint4x2" | "quint2x4" | "float4_e2m1fn_x2"
        )
}
