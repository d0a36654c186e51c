//! Checkpoints made by hand, opcode by opcode.

use std::path::{Path, PathBuf};

use crate::support::*;

/// Opcodes one behind the other.
pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub fn text(text: &str) -> Vec<u8> {
    join(&[b"X", &(text.len() as u32).to_le_bytes(), text.as_bytes()])
}

pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub fn int(n: u64) -> Vec<u8> {
    match u8::try_from(n) {
        Ok(n) => vec![b'K', n],
        Err(_) => join(&[b"\x8a\x08", &n.to_le_bytes()]),
    }
}

pub fn tuple(parts: &[&[u8]]) -> Vec<u8> {
    join(&[b"(", &parts.concat(), b"t"])
}

pub fn list(parts: &[&[u8]]) -> Vec<u8> {
    join(&[b"(", &parts.concat(), b"l"])
}

pub fn dict(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let flat: Vec<u8> = pairs.iter().flat_map(|(k, v)| [*k, *v].concat()).collect();
    join(&[b"}(", &flat, b"u"])
}

/// A call: REDUCE.
pub fn call(module: &str, name: &str, args: &[&[u8]]) -> Vec<u8> {
    join(&[&global(module, name), &tuple(args), b"R"])
}

/// An object of a class with a state: NEWOBJ and BUILD.
pub fn object(module: &str, name: &str, state: &[u8]) -> Vec<u8> {
    join(&[&global(module, name), b")\x81", state, b"b"])
}

pub fn storage(key: &str, class: &str, elements: u64) -> Vec<u8> {
    let parts = [text("storage"), global("torch", class), text(key), text("cpu"), int(elements)];
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    join(&[&tuple(&parts), b"Q"])
}

/// `_rebuild_tensor_v2` over a storage of its own; `more` goes behind its six arguments.
pub fn tensor_of(key: &str, class: &str, shape: &[u64], hooks: &[u8], more: &[u8]) -> Vec<u8> {
    let numbers =
        |of: &[u64]| join(&[b"(", &of.iter().flat_map(|&n| int(n)).collect::<Vec<u8>>(), b"t"]);
    let mut strides = vec![1u64; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(shape[i].max(1)).min(1 << 40);
    }
    let elements = if shape.contains(&0) { 0 } else { shape.iter().product() };
    let args = join(&[
        &storage(key, class, elements),
        &int(0),
        &numbers(shape),
        &numbers(&strides),
        b"\x89",
        hooks,
        more,
    ]);
    call("torch._utils", "_rebuild_tensor_v2", &[&args])
}

/// Two floats under the key "0".
pub fn tensor() -> Vec<u8> {
    tensor_of("0", "FloatStorage", &[2], &call("collections", "OrderedDict", &[]), b"")
}

/// Protocol 2, ended.
pub fn pickle(body: &[u8]) -> Vec<u8> {
    join(&[b"\x80\x02", body, b"."])
}

/// An archive of stored records without checksums.
pub fn zip(records: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in records {
        let (len, name_len, at) = (
            (bytes.len() as u32).to_le_bytes(),
            (name.len() as u16).to_le_bytes(),
            (out.len() as u32).to_le_bytes(),
        );
        out.extend(join(&[
            b"PK\x03\x04\0\0\0\x08\0\0\0\0\0\0\0\0\0\0",
            &len,
            &len,
            &name_len,
            b"\0\0",
            name.as_bytes(),
            bytes,
        ]));
        directory.extend(join(&[
            b"PK\x01\x02\0\0\0\0\0\x08\0\0\0\0\0\0\0\0\0\0",
            &len,
            &len,
            &name_len,
            &[0; 12],
            &at,
            name.as_bytes(),
        ]));
    }
    let (count, size, at) = (
        (records.len() as u16).to_le_bytes(),
        (directory.len() as u32).to_le_bytes(),
        (out.len() as u32).to_le_bytes(),
    );
    join(&[&out, &directory, b"PK\x05\x06\0\0\0\0", &count, &count, &size, &at, b"\0\0"])
}

/// The two floats of [`tensor`].
pub const FLOATS: [u8; 8] = [0, 0, 128, 63, 0, 0, 0, 64];

/// Writes a checkpoint of this value with the storage "0" of [`FLOATS`].
pub fn checkpoint(scratch: &Scratch, name: &str, body: &[u8]) -> PathBuf {
    write(&scratch.join(name), body, &[("archive/data/0", &FLOATS)])
}

/// Writes a checkpoint of this value with these records.
pub fn write(path: &Path, body: &[u8], records: &[(&str, &[u8])]) -> PathBuf {
    let pickle = pickle(body);
    let mut all: Vec<(&str, &[u8])> =
        vec![("archive/data.pkl", &pickle), ("archive/version", b"3\n")];
    all.extend_from_slice(records);
    std::fs::write(path, zip(&all)).unwrap();
    path.to_path_buf()
}

/// The legacy form: pickles, then the storages.
pub fn legacy(path: &Path, body: &[u8], storages: &[(&str, u64, &[u8])]) -> PathBuf {
    let keys: Vec<Vec<u8>> = storages.iter().map(|(key, ..)| text(key)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut out = join(&[
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
        &pickle(b"M\xe9\x03"),
        &pickle(&dict(&[(&text("little_endian"), b"\x88")])),
        &pickle(body),
        &pickle(&list(&keys)),
    ]);
    for (_, count, bytes) in storages {
        out.extend(count.to_le_bytes());
        out.extend_from_slice(bytes);
    }
    std::fs::write(path, out).unwrap();
    path.to_path_buf()
}

/// Runs `npk` with at most this much of a resource (`-v` kilobytes of memory, `-n` open files).
pub fn npk_within(limit: &str, args: &[&std::ffi::OsStr]) -> std::process::Output {
    let mut command = npk_command();
    let mut limited = std::process::Command::new("sh");
    limited
        .arg("-c")
        .arg(format!("ulimit {limit}; exec \"$0\" \"$@\""))
        .arg(command.get_program())
        .args(args);
    limited.stdin(std::process::Stdio::null());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(key, value),
            None => limited.env_remove(key),
        };
    }
    command = limited;
    command.output().unwrap()
}

/// An ndarray with this state, as NumPy pickles it.
pub fn ndarray(state: &[u8]) -> Vec<u8> {
    let args: [&[u8]; 3] = [&global("numpy", "ndarray"), &tuple(&[&int(0)]), b"C\x01b"];
    join(&[&call("numpy.core.multiarray", "_reconstruct", &args), state, b"b"])
}
