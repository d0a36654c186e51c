//! Formats that npk does not read, by their first and last bytes: a table, looked through row by
//! row. What they have in common is that a signature shows them safely; the refusal names the
//! format and says what to do.

use crate::error::Error;
use crate::storage::Blob;

/// Where bytes of a signature are.
#[derive(Clone, Copy, Debug)]
pub enum At {
    /// So many bytes from the start.
    Start(usize),
    /// So many bytes before the end.
    End(u64),
}
use At::{End, Start};

/// A format that is known by its bytes.
#[derive(Debug)]
pub struct Signature {
    /// What it is, with its article.
    pub what: &'static str,
    /// Where which bytes must be: all of them.
    pub bytes: &'static [(At, &'static [u8])],
    /// What to do with such a file.
    pub hint: &'static str,
}

const fn row(
    what: &'static str,
    bytes: &'static [(At, &'static [u8])],
    hint: &'static str,
) -> Signature {
    Signature { what, bytes, hint }
}

const UNPACK: &str = "unpack it first, then convert what was in it";
const IMAGE: &str = "in Python: numpy.save('OUT.npy', numpy.asarray(PIL.Image.open(FILE)))";
const STATISTICS: &str =
    "in Python: pandas.read_stata, read_sas or read_spss (FILE).to_parquet('OUT.parquet')";
const R_OBJECT: &str =
    "in R: arrow::write_parquet(readRDS(FILE), 'OUT.parquet'), after load(FILE) for .RData";
const ASTROPY: &str = "in Python: astropy.io.fits.getdata(FILE), then numpy.save";

/// The table.
#[rustfmt::skip]
pub static SIGNATURES: &[Signature] = &[
    // Models.
    row("a GGML model", &[(Start(0), b"tjgg")], "use the safetensors files that it was made from"),
    row("a TensorFlow Lite model", &[(Start(4), b"TFL3")], "convert the model that it was made from"),
    // Tables and databases.
    row("an ORC table", &[(Start(0), b"ORC"), (End(4), b"ORC")], "in Python: pyarrow.parquet.write_table(pyarrow.orc.read_table(FILE), 'OUT.parquet')"),
    row("an Avro file", &[(Start(0), b"Obj\x01")], "in Python: polars.read_avro(FILE).write_parquet('OUT.parquet')"),
    row("a SQLite database", &[(Start(0), b"SQLite format 3\0")], "export a table: sqlite3 -header -csv FILE 'SELECT * FROM t' > OUT.csv"),
    row("a DuckDB database", &[(Start(8), b"DUCK")], "export a table: duckdb FILE \"COPY t TO 'OUT.parquet'\""),
    row("a Lance data file", &[(End(4), b"LANC")], "in Python: pyarrow.parquet.write_table(lance.dataset(FOLDER).to_table(), 'OUT.parquet')"),
    row("an old Excel workbook (.xls) or another OLE2 document", &[(Start(0), b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1")], "save it as CSV"),
    row("a Stata file", &[(Start(0), b"<stata_dta>")], STATISTICS),
    row("a SAS file", &[(Start(0), b"\0\0\0\0\0\0\0\0\0\0\0\0\xC2\xEA\x81\x60\xB3\x14\x11\xCF\xBD\x92\x08\x00\x09\xC7\x31\x8C\x18\x1F\x10\x11")], STATISTICS),
    row("an SPSS file", &[(Start(0), b"$FL2@(#)")], STATISTICS),
    row("an SPSS file", &[(Start(0), b"$FL3@(#)")], STATISTICS),
    row("an R data file", &[(Start(0), b"RDX2\n")], R_OBJECT),
    row("an R data file", &[(Start(0), b"RDX3\n")], R_OBJECT),
    row("an R object (.rds)", &[(Start(0), b"X\n\0\0\0\x02\0")], R_OBJECT),
    row("an R object (.rds)", &[(Start(0), b"X\n\0\0\0\x03\0")], R_OBJECT),
    row("an Arrow file of a version that is not known", &[(Start(0), b"ARROW2")], "write it again with pyarrow.feather.write_feather"),
    // Arrays of other sciences.
    row("an HDF4 file", &[(Start(0), b"\x0E\x03\x13\x01")], "convert it to HDF5: h4toh5convert FILE OUT.h5"),
    row("a GRIB file", &[(Start(0), b"GRIB"), (Start(7), b"\x01")], "convert it to netCDF-4: grib_to_netcdf -k 3 -o OUT.nc FILE"),
    row("a GRIB file", &[(Start(0), b"GRIB"), (Start(7), b"\x02")], "convert it to netCDF-4: grib_to_netcdf -k 3 -o OUT.nc FILE"),
    row("a FITS file", &[(Start(0), b"SIMPLE  =                    T")], ASTROPY),
    row("a ROOT file", &[(Start(0), b"root\0")], "in Python: uproot.open(FILE)['TREE'].arrays(library='np'), then numpy.savez"),
    row("a NIfTI image", &[(Start(0), b"\x5C\x01\0\0"), (Start(344), b"n+1\0")], "in Python: numpy.save('OUT.npy', nibabel.load(FILE).get_fdata())"),
    row("a NIfTI image", &[(Start(0), b"\0\0\x01\x5C"), (Start(344), b"n+1\0")], "in Python: numpy.save('OUT.npy', nibabel.load(FILE).get_fdata())"),
    row("a NIfTI image", &[(Start(4), b"n+2\0\r\n\x1A\n")], "in Python: numpy.save('OUT.npy', nibabel.load(FILE).get_fdata())"),
    row("a DICOM image", &[(Start(128), b"DICM")], "in Python: numpy.save('OUT.npy', pydicom.dcmread(FILE).pixel_array)"),
    row("a Blosc2 frame (.b2nd)", &[(Start(2), b"b2frame\0")], "in Python: numpy.save('OUT.npy', blosc2.open(FILE)[:])"),
    row("an LMDB database", &[(Start(16), b"\xDE\xC0\xEF\xBE")], "read its records in Python with the lmdb package"),
    // Pictures, sound, documents.
    row("a PNG image", &[(Start(0), b"\x89PNG\r\n\x1A\n")], IMAGE),
    row("a JPEG image", &[(Start(0), b"\xFF\xD8\xFF")], IMAGE),
    row("a TIFF image", &[(Start(0), b"II*\0")], IMAGE),
    row("a TIFF image", &[(Start(0), b"MM\0*")], IMAGE),
    row("a GIF image", &[(Start(0), b"GIF8")], IMAGE),
    row("a WAV file", &[(Start(0), b"RIFF"), (Start(8), b"WAVE")], "in Python: numpy.save('OUT.npy', scipy.io.wavfile.read(FILE)[1])"),
    row("a PDF document", &[(Start(0), b"%PDF-")], "export its tables as CSV"),
    // Archives and compressions; gzip and zstd are looked into.
    row("a bzip2 archive", &[(Start(0), b"BZh"), (Start(4), b"1AY&SY")], "unpack it first: bunzip2 -k FILE"),
    row("a bzip2 archive", &[(Start(0), b"BZh"), (Start(4), b"\x17\x72\x45\x38\x50\x90")], "unpack it first: bunzip2 -k FILE"),
    row("an xz archive", &[(Start(0), b"\xFD7zXZ\0")], "unpack it first: unxz -k FILE"),
    row("a 7-Zip archive", &[(Start(0), b"7z\xBC\xAF\x27\x1C")], UNPACK),
    row("a RAR archive", &[(Start(0), b"Rar!\x1A\x07")], UNPACK),
    row("an LZ4 frame", &[(Start(0), b"\x04\x22\x4D\x18")], "unpack it first: lz4 -d FILE"),
    row("an lzip archive", &[(Start(0), b"LZIP\x01")], UNPACK),
    row("a Snappy stream", &[(Start(0), b"\xFF\x06\0\0sNaPpY")], UNPACK),
    row("a compress archive (.Z)", &[(Start(0), b"\x1F\x9D\x90")], "unpack it first: uncompress FILE"),
    row("a tar archive", &[(Start(257), b"ustar")], "unpack it first: tar -xf FILE"),
];

/// A signature of so many bytes is no chance.
const LONG: usize = 16;

impl Signature {
    /// Whether the file has these bytes. What is asked for at the end is not there where only the
    /// head is known.
    fn fits(&self, head: &[u8], blob: Option<&dyn Blob>) -> bool {
        self.bytes.iter().all(|(at, want)| match at {
            Start(offset) => head.get(*offset..*offset + want.len()) == Some(*want),
            End(before) => blob.is_some_and(|b| {
                let start = b.len().checked_sub(*before);
                start.is_some_and(|start| {
                    b.read_vec(start, want.len() as u64).is_ok_and(|bytes| bytes == *want)
                })
            }),
        })
    }
    /// Whether no text begins so by chance: `DUCK` may be a cell of a table.
    fn is_long(&self) -> bool {
        self.bytes.iter().any(|(at, bytes)| matches!(at, Start(0)) && bytes.len() >= LONG)
    }
    fn error(&self) -> Error {
        refused(self.what, self.hint)
    }
}

/// The refusal of something that is known.
pub(super) fn refused(what: &str, hint: &str) -> Error {
    Error::refused(format!("this is {what}, which npk does not read")).hint(hint)
}

/// The refusal of a file that the table knows.
pub(super) fn find(head: &[u8], is_text: bool, blob: Option<&dyn Blob>) -> Option<Error> {
    SIGNATURES
        .iter()
        .find(|s| (!is_text || s.is_long()) && s.fits(head, blob))
        .map(Signature::error)
        .or_else(|| pickle(head))
}

const PICKLE: &str = "of pickles npk reads those of torch.save and of NumPy arrays: save arrays with numpy.savez, tables with to_parquet";

/// Pickles of Python, which have no signature of their own, and those of joblib among them.
fn pickle(head: &[u8]) -> Option<Error> {
    let joblib = |bytes: &[u8]| memchr::memmem::find(bytes, b"joblib").is_some();
    let what = |bytes: &[u8]| if joblib(bytes) { "a joblib file" } else { "a Python pickle" };
    if is_pickle(head) {
        return Some(refused(what(head), PICKLE));
    }
    // joblib's own compression is zlib: 78 and a second byte, together a multiple of 31.
    let zlib = matches!(head, [0x78, second, ..] if (0x7800 + u16::from(*second)) % 31 == 0);
    let inside = if zlib { crate::codec::zip::inflate_some(&head[2..], 4096) } else { Vec::new() };
    is_pickle(&inside).then(|| refused("a compressed joblib file or Python pickle", PICKLE))
}

/// PROTO with a protocol of 2 to 5, then FRAME (from 4 on) or an instruction that begins an object.
fn is_pickle(head: &[u8]) -> bool {
    match head {
        [0x80, 4 | 5, 0x95, frame @ ..] => frame.len() < 8 || frame[7] == 0,
        [0x80, 2..=5, first, ..] => b"}](cXKJMNGIU)\x8C\x8A\x88\x89\x8F".contains(first),
        _ => false,
    }
}
