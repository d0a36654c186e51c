//! The bytes of a text table: UTF-8, decompressed, with ranged reads.
//!
//! A plain local file is read where it lies. What is compressed (gzip, zstd), in UTF-16, on a pipe
//! or far away is copied into an unnamed temporary file first, so that blocks of it can be read on
//! all threads, and twice.

use std::io::{self, Read};
use std::sync::Arc;

use crate::codec::compressed::Coding;
use crate::error::{Error, Result};
use crate::storage::temporary::{self, TemporaryBlob};
use crate::storage::{Blob, Location, MemoryBlob};

/// An opened text.
pub struct Input {
    /// Its bytes.
    pub blob: Arc<dyn Blob>,
    /// Where the text begins: after a byte order mark.
    pub start: u64,
    /// How the file is compressed.
    pub compression: Option<&'static str>,
    /// Whether `blob` is only the beginning.
    pub cut: bool,
    /// Things the user should hear.
    pub notes: Vec<String>,
}

/// Opens a text; with `only_bytes` no more than that many bytes of it are read where it must be
/// copied.
///
/// # Errors
/// Missing or unreadable; corrupt compression or UTF-16; refused where the bytes are no text.
pub fn open(at: &Location, only_bytes: Option<u64>) -> Result<Input> {
    let head = at.head(4096)?;
    let coding = Coding::of(&head);
    let compression = coding.map(Coding::name);
    if coding.is_none() {
        Coding::not_cut(&head, &at.file_name())?;
        not_utf32(&head)?;
    }
    if coding.is_none() && !is_utf16(&head) {
        text_like(&head)?;
        let start = bom(&head);
        if at.is_remote() && only_bytes.is_none() {
            let blob = copy(at.stream()?)?;
            return Ok(Input { blob, start, compression, cut: false, notes: Vec::new() });
        }
        return Ok(Input { blob: at.blob()?, start, compression, cut: false, notes: Vec::new() });
    }
    let reader = at.stream()?;
    let mut reader: Box<dyn Read> = match coding {
        Some(coding) => coding.decoder(reader)?,
        None => reader,
    };
    let mut first = Vec::new();
    reader.by_ref().take(4096).read_to_end(&mut first).map_err(Error::reading)?;
    not_utf32(&first)?;
    let utf16 = is_utf16(&first);
    let mut notes = Vec::new();
    let start = if utf16 { 0 } else { bom(&first) };
    let mut reader: Box<dyn Read> = Box::new(io::Cursor::new(first.clone()).chain(reader));
    if utf16 {
        notes.push("the text is UTF-16 and was read as such".to_string());
        reader = Box::new(Utf16::new(reader, first[0] == 0xFF));
    } else {
        text_like(&first)?;
    }
    if let Some(most) = only_bytes {
        let mut bytes = Vec::new();
        reader.take(most + 1).read_to_end(&mut bytes).map_err(Error::reading)?;
        let cut = bytes.len() as u64 > most;
        return Ok(Input { blob: Arc::new(MemoryBlob(bytes)), start, compression, cut, notes });
    }
    Ok(Input { blob: copy(reader)?, start, compression, cut: false, notes })
}

/// Copies into an unnamed temporary file.
fn copy(mut reader: impl Read) -> Result<Arc<dyn Blob>> {
    let mut file = temporary::file()?;
    let len = crate::storage::copy_to_temporary(&mut reader, &mut file)?;
    Ok(Arc::new(TemporaryBlob { file: Arc::new(file), len }))
}

fn is_utf16(head: &[u8]) -> bool {
    matches!(head, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..])
}

fn bom(head: &[u8]) -> u64 {
    if head.starts_with(&[0xEF, 0xBB, 0xBF]) { 3 } else { 0 }
}

/// Refuses what begins like UTF-16 without its mark: every other byte is zero.
fn text_like(head: &[u8]) -> Result<()> {
    let zeros = |from: usize| head.iter().skip(from).step_by(2).filter(|&&b| b == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let encoding = match (even, odd) {
        _ if head.len() < 4 || (even + odd) * 3 <= head.len() => return Ok(()),
        (0 | 1, _) => "utf-16le",
        (_, 0 | 1) => "utf-16be",
        _ => return Ok(()),
    };
    Err(Error::refused("the text seems to be UTF-16 without a byte order mark")
        .hint(format!("convert it first: iconv -f {encoding} -t utf-8")))
}

/// Refuses UTF-32, whose mark begins as that of UTF-16 does.
fn not_utf32(head: &[u8]) -> Result<()> {
    match head {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => {
            Err(Error::refused("the text is UTF-32")
                .hint("convert it first: iconv -f utf-32 -t utf-8"))
        }
        _ => Ok(()),
    }
}

/// Decodes UTF-16 into UTF-8.
struct Utf16<R> {
    inner: R,
    decoder: encoding_rs::Decoder,
    input: Vec<u8>,
    used: usize,
    output: Vec<u8>,
    given: usize,
    ended: bool,
}

impl<R: Read> Utf16<R> {
    fn new(inner: R, little: bool) -> Utf16<R> {
        let encoding = if little { encoding_rs::UTF_16LE } else { encoding_rs::UTF_16BE };
        let decoder = encoding.new_decoder_with_bom_removal();
        Utf16 {
            inner,
            decoder,
            input: Vec::new(),
            used: 0,
            output: Vec::new(),
            given: 0,
            ended: false,
        }
    }
    fn refill(&mut self) -> io::Result<()> {
        if self.used == self.input.len() {
            self.input.resize(1 << 16, 0);
            let n = self.inner.read(&mut self.input)?;
            self.input.truncate(n);
            self.used = 0;
            self.ended = n == 0;
        }
        self.output.resize(3 << 16, 0);
        let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(
            &self.input[self.used..],
            &mut self.output,
            self.ended,
        );
        self.used += read;
        self.output.truncate(written);
        self.given = 0;
        match result {
            encoding_rs::DecoderResult::Malformed(..) => Err(io::Error::other(Error::corrupt(
                "the UTF-16 text is damaged: half of a character is missing",
            ))),
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.given == self.output.len() {
            if self.ended {
                return Ok(0);
            }
            self.refill()?;
        }
        let n = buf.len().min(self.output.len() - self.given);
        buf[..n].copy_from_slice(&self.output[self.given..self.given + n]);
        self.given += n;
        Ok(n)
    }
}
