//! What `--verify` tells of outputs that somebody changes before they are read again.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use clap::Parser;

use super::convert::convert;
use super::output::Task;
use super::settings::{Hooks, prepare};
use super::verification::verify;
use crate::batch::conversions;
use crate::cli::{Cli, Command};
use crate::console::Console;
use crate::detect;
use crate::error::{ErrorKind, Result};
use crate::open::output_location;

/// Converts, changes the output, and compares: what is told of it.
fn changed(source: &Path, name: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>) -> Result<()> {
    let output = source.with_file_name(name);
    let text = |path: &Path| path.display().to_string();
    let cli = Cli::parse_from(["npk", "convert", "-f", &text(source), &text(&output)]);
    let Command::Convert(args) = cli.command else { panic!("a conversion was asked for") };
    let job = prepare(&args, Console::SILENT, Hooks::default())?;
    let unit = conversions(&job)?.next()?.unwrap();
    convert(&job, &unit)?;
    std::fs::write(&output, change(std::fs::read(&output).unwrap())).unwrap();
    let dst = output_location(&unit.dst, &args.read)?;
    let format = detect::output(&dst, None)?;
    verify(&Task::new(&job, &unit, &dst, format)?)
}

fn last_byte(mut bytes: Vec<u8>) -> Vec<u8> {
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

fn text(old: &'static str, new: &'static str) -> impl Fn(Vec<u8>) -> Vec<u8> {
    move |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(old), "{text}");
        text.replace(old, new).into_bytes()
    }
}

#[test]
fn a_changed_output_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("t.csv");
    std::fs::write(&table, "i,f,s\n1,0.5,007\n2,,\"\"\n3,2.5,true\n").unwrap();
    let numbers = folder.path().join("u.csv");
    std::fs::write(&numbers, "i,f\n1,0.5\n2,\n3,2.5\n").unwrap();
    let header = "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (2,), }";
    let mut times = b"\x93NUMPY\x01\0\x76\0".to_vec();
    times.extend(format!("{header:117}\n").bytes());
    times.extend([0i64, i64::MIN].iter().flat_map(|t| t.to_le_bytes()));
    let npy = folder.path().join("t.npy");
    std::fs::write(&npy, times).unwrap();
    for (source, name) in [
        (&table, "o.csv"),
        (&table, "o.tsv"),
        (&table, "o.npz"),
        (&table, "o.feather"),
        (&table, "o.npkg"),
        (&numbers, "o.safetensors"),
        (&numbers, "o.pt"),
        (&npy, "n.csv"),
        (&npy, "n.txt"),
        (&npy, "n.npy"),
        (&npy, "n.parquet"),
    ] {
        changed(source, name, &|bytes| bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let differs = |source: &Path, name: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let error = changed(source, name, change).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
    };
    differs(&table, "o.csv", &text("2.5", "2.25"));
    differs(&table, "o.csv", &text("007", "7"));
    differs(&table, "o.csv", &text("2,,\"\"\n", "2,,\n"));
    differs(&table, "o.csv", &text("3,2.5,true\n", ""));
    differs(&table, "o.csv", &text("i,f,s\n", "i,f,q\n"));
    differs(&numbers, "o.safetensors", &last_byte);
    differs(&npy, "n.npy", &last_byte);
    differs(&npy, "n.csv", &text("1970-01-01T00:00:00", "1970-01-01T00:00:01"));
    differs(&npy, "n.txt", &text("NaT", "1970-01-01T00:00:00"));
}
