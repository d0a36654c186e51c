//! Flags as options for all formats.

use crate::cli::{self, ReadArgs};
use crate::console;
use crate::detect;
use crate::error::{Error, Result, counted};
use crate::format::{Auto, OnDuplicate, Quote, RawOptions, ReadOptions, Resources, TextOptions};

/// How inputs are read, from the flags.
///
/// # Errors
/// Usage: sizes, separators.
pub fn read_options(args: &ReadArgs) -> Result<ReadOptions> {
    Ok(ReadOptions {
        group: args.group.clone(),
        text: text_options(args)?,
        raw: raw_options(args)?,
        resources: resources(args)?,
        follow_external: args.follow_external,
        on_duplicate: args.on_duplicate,
        ..ReadOptions::default()
    })
}

/// As [`read_options`], for commands that cast nothing: `--dtype` is what a raw file holds.
///
/// # Errors
/// Usage.
pub fn read_options_typed(args: &ReadArgs, raw: &cli::RawTypeArgs) -> Result<ReadOptions> {
    let mut options = read_options(args)?;
    if raw.dtype.is_some() && !is_raw(args) {
        return Err(Error::usage("--dtype says what a raw file holds").hint("add --from raw"));
    }
    options.raw.dtype.clone_from(&raw.dtype);
    Ok(options)
}

/// Whether the input is said to be raw.
pub fn is_raw(args: &ReadArgs) -> bool {
    args.from.as_deref().is_some_and(|from| from.eq_ignore_ascii_case("raw"))
}

/// `--shape`, `--offset`, `--order`.
fn raw_options(args: &ReadArgs) -> Result<RawOptions> {
    let given = [
        ("--shape", args.shape.is_some()),
        ("--offset", args.offset.is_some()),
        ("--order", args.order.is_some()),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, given)| *given && !is_raw(args)) {
        return Err(Error::usage(format!("{flag} says what a raw file holds"))
            .hint("add --from raw and --dtype"));
    }
    let shape = args.shape.as_deref().map(raw_shape).transpose()?;
    let fortran = args.order == Some(cli::ElementOrder::F);
    Ok(RawOptions { dtype: None, shape, offset: args.offset.unwrap_or(0), fortran })
}

/// `--shape`: sizes, one of which may be -1.
fn raw_shape(text: &str) -> Result<Vec<Option<u64>>> {
    let size = |part: &str| match part.trim() {
        "-1" => Some(None),
        number => number.parse::<u64>().ok().map(Some),
    };
    let shape: Option<Vec<_>> = text.split([',', 'x']).map(size).collect();
    shape.filter(|dims| dims.iter().filter(|d| d.is_none()).count() <= 1).ok_or_else(|| {
        Error::usage(format!("'{text}' is not a shape"))
            .hint("sizes separated by commas, of which one may be -1: -1,28,28")
    })
}

/// `--jobs`, or the cores.
pub fn jobs(args: &ReadArgs) -> usize {
    args.jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
        .clamp(1, 1024)
}

/// `--memory-limit`.
pub(super) fn memory_bytes(args: &ReadArgs) -> Result<u64> {
    const MIN_BYTES: u64 = 1 << 20;
    let bytes = console::parse_bytes(&args.memory_limit)?;
    if bytes < MIN_BYTES {
        let error = Error::usage(format!(
            "--memory-limit {} is {}, the least is 1MiB",
            args.memory_limit,
            counted(bytes, "byte")
        ));
        return Err(error.hint("write it as 256MiB or 4GB"));
    }
    Ok(bytes)
}

/// Threads and memory of the run.
///
/// # Errors
/// Usage: sizes.
pub fn resources(args: &ReadArgs) -> Result<Resources> {
    Ok(Resources::new(jobs(args), memory_bytes(args)?))
}

fn text_options(args: &ReadArgs) -> Result<TextOptions> {
    let byte = |flag: &str, value: &Option<String>| -> Result<Option<u8>> {
        let Some(text) = value else { return Ok(None) };
        let text = match text.as_str() {
            "\\t" | "tab" => "\t",
            "space" => " ",
            other => other,
        };
        match text.as_bytes() {
            [b] if b.is_ascii() => Ok(Some(*b)),
            _ => Err(Error::usage(format!("--{flag} takes one ASCII character, not '{text}'"))
                .hint("'\\t' stands for a tab")),
        }
    };
    Ok(TextOptions {
        header: match args.header {
            cli::Header::Auto => Auto::Auto,
            cli::Header::Yes => Auto::Yes,
            cli::Header::No => Auto::No,
        },
        column_names: column_names(args)?,
        delimiter: byte("delimiter", &args.delimiter)?
            .or_else(|| detect::delimiter_named(args.from.as_deref())),
        skip_rows: args.skip_rows,
        max_rows: args.max_rows,
        comment: byte("comment", &args.comment)?,
        quote: match args.quote.as_deref() {
            Some("none" | "") => Quote::None,
            _ => byte("quote", &args.quote)?.map_or(Quote::Usual, Quote::Byte),
        },
        trim: args.trim,
        null_values: args.null_values.as_ref().map(|n| n.split(',').map(str::to_string).collect()),
        decimal: byte("decimal", &args.decimal)?,
        ..TextOptions::default()
    })
}

/// `--column-names`.
fn column_names(args: &ReadArgs) -> Result<Option<Vec<String>>> {
    let Some(text) = &args.column_names else { return Ok(None) };
    let names: Vec<String> = text.split(',').map(str::to_string).collect();
    let mut seen = std::collections::HashSet::new();
    let repeated = names.iter().find(|name| !seen.insert(name.as_str()));
    match repeated.filter(|_| args.on_duplicate == OnDuplicate::Error) {
        Some(name) => Err(Error::usage(format!("--column-names gives the name '{name}' twice"))
            .hint(crate::format::duplicates::HINT)),
        None => Ok(Some(names)),
    }
}
