//! Formats that npk does not read, by their names: where bytes alone say too little.

use super::signatures::refused;
use crate::error::Error;

/// What a name stands for.
struct Named {
    /// Endings or parts of the name, in lower case.
    fits: fn(&str) -> bool,
    what: &'static str,
    hint: &'static str,
}

/// Where the rest of a distributed checkpoint is.
const DCP_HINT: &str = "name its folder, in which .metadata says what is in its files";
/// How to bring a checkpoint of TensorFlow into an archive of arrays.
pub(super) const TENSORFLOW_HINT: &str = "in Python: r = tf.train.load_checkpoint(PREFIX), then \
     numpy.savez('OUT.npz', **{n: r.get_tensor(n) for n in r.get_variable_to_shape_map()})";

/// Asked before any format: their bytes are those of a format that they are not.
#[rustfmt::skip]
static FIRST: &[Named] = &[
    Named { fits: |n| n.ends_with(".distcp"), what: "one file of a distributed checkpoint of PyTorch", hint: DCP_HINT },
];

/// Asked when no format was recognised.
#[rustfmt::skip]
static LAST: &[Named] = &[
    Named { fits: |n| n.ends_with(".ckpt.index") || n.contains(".ckpt.data-") || n.contains(".data-00000-of-"), what: "a TensorFlow checkpoint", hint: TENSORFLOW_HINT },
    Named { fits: |n| n == "saved_model.pb", what: "a TensorFlow SavedModel", hint: "name the file variables/variables.index in it in Python: tf.train.load_checkpoint('FOLDER/variables/variables')" },
    Named { fits: |n| n.ends_with(".onnx"), what: "an ONNX model", hint: "in Python: onnx.numpy_helper.to_array(t) for t in onnx.load(FILE).graph.initializer, then numpy.savez" },
    Named { fits: |n| n.ends_with(".pkl") || n.ends_with(".pickle") || n.ends_with(".joblib"), what: "a Python pickle", hint: "save arrays with numpy.savez, tables with to_parquet" },
];

fn find(table: &[Named], file_name: &str) -> Option<Error> {
    let name = file_name.to_ascii_lowercase();
    table.iter().find(|n| (n.fits)(&name)).map(|n| refused(n.what, n.hint))
}

/// The refusal of a name that is asked before any format.
pub(super) fn first(file_name: &str) -> Option<Error> {
    find(FIRST, file_name)
}

/// The refusal of a name that no format has.
pub(super) fn last(file_name: &str) -> Option<Error> {
    find(LAST, file_name)
}
