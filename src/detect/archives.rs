//! Zip archives that hold no arrays: workbooks, documents, exported programs, models; told by the
//! names of their members.

use std::sync::Arc;

use super::signatures::refused;
use crate::codec::zip::Archive;
use crate::error::Error;
use crate::storage::Blob;

/// Which member shows what an archive is.
enum Member {
    /// A file of this name, in any folder.
    Named(&'static str),
    /// Something below this folder.
    Below(&'static str),
}
use Member::{Below, Named};

/// Each row: the member, what the archive is, what to do.
#[rustfmt::skip]
static CONTENTS: &[(Member, &str, &str)] = &[
    (Below("xl/"), "an Excel workbook (.xlsx)", "save the sheet as CSV, or in Python: pandas.read_excel(FILE).to_parquet('OUT.parquet')"),
    (Below("word/"), "a Word document (.docx)", "save its table as CSV"),
    (Below("ppt/"), "a PowerPoint document (.pptx)", "save its table as CSV"),
    (Named("content.xml"), "an OpenDocument file (.ods, .odt)", "save the sheet as CSV, or in Python: pandas.read_excel(FILE).to_parquet('OUT.parquet')"),
    (Named("serialized_exported_program.json"), "an exported program of PyTorch (.pt2)", "save its state_dict() with torch.save"),
    (Named("archive_format"), "an exported program of PyTorch (.pt2)", "save its state_dict() with torch.save"),
    (Named("model.weights.h5"), "a Keras model (.keras)", "unpack it and convert the HDF5 file in it: unzip FILE model.weights.h5"),
    (Below("META-INF/"), "a Java archive", "unpack it and convert the files in it: unzip FILE"),
];

/// Members that a format of ours reads.
fn is_ours(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    name.ends_with(".npy")
        || matches!(last, "data.pkl" | "zarr.json" | ".zarray" | ".zgroup" | ".zmetadata")
}

/// The names of the files in a zip archive, none of which a format of ours reads. `None` for
/// damaged archives, whose reader says what is wrong.
fn foreign_names(head: &[u8], blob: &Arc<dyn Blob>) -> Option<Vec<String>> {
    if !head.starts_with(b"PK\x03\x04") && !head.starts_with(b"PK\x05\x06") {
        return None;
    }
    let archive = Archive::open(blob.clone()).ok()?;
    let names: Vec<String> =
        archive.entries.iter().filter(|e| !e.is_dir()).map(|e| e.name.clone()).collect();
    (!names.iter().any(|n| is_ours(n))).then_some(names)
}

/// The refusal of a zip archive that is known, whatever it is called.
pub(super) fn known(head: &[u8], blob: &Arc<dyn Blob>) -> Option<Error> {
    known_by(&foreign_names(head, blob)?)
}

fn known_by(names: &[String]) -> Option<Error> {
    let found = CONTENTS.iter().find(|(member, ..)| {
        names.iter().any(|name| match member {
            Named(wanted) => name.rsplit('/').next() == Some(wanted),
            Below(folder) => name.starts_with(folder),
        })
    });
    found.map(|(_, what, hint)| refused(what, hint))
}

/// The refusal of a zip archive without arrays.
pub(super) fn find(head: &[u8], blob: &Arc<dyn Blob>) -> Option<Error> {
    let names = foreign_names(head, blob)?;
    if let Some(error) = known_by(&names) {
        return Some(error);
    }
    let shown: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
    let what = match names.len() {
        0 => "an empty zip archive".to_string(),
        1 => format!("a zip archive with one file, {}", shown[0]),
        n => format!(
            "a zip archive with {n} files ({}{})",
            shown.join(", "),
            if n > 3 { ", …" } else { "" }
        ),
    };
    Some(
        Error::refused(format!("this is {what}, but no arrays"))
            .hint("unpack it and convert the files in it: unzip FILE"),
    )
}
