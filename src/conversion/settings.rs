//! The flags of `npk convert` as settings: one [`ConvertContext`] for all files of a run.

use crate::batch::context::ConvertContext;
use crate::batch::shares::Shard;
use crate::cli::{self, ConvertArgs, IfExists};
use crate::console::{self, Console};
use crate::detect;
use crate::error::{Error, Result};
use crate::format::{Compression, Dequantize, Existing, ReadOptions, WriteOptions};
use crate::model::{Dtype, Logical};
use crate::open::{is_raw, read_options};
use crate::ops::time;
use crate::pipe::{self, Settings};
use crate::resolve::names::{self, Renaming};
use crate::resolve::nulls::Nulls;
use crate::resolve::policy::Policy;
use crate::resolve::rows::Slice;

/// What a program gives that runs the command as a part of itself.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Told the bytes that have moved since the last call, and the array they belong to.
    pub on_progress: Option<pipe::Progress>,
    /// Ends the run before its time.
    pub cancel: Option<pipe::Cancel>,
}

pub(super) fn prepare<'a>(
    args: &'a ConvertArgs,
    console: Console<'a>,
    hooks: Hooks,
) -> Result<ConvertContext<'a>> {
    let (mut casts, mut times) = (Vec::new(), Vec::new());
    let mut read = read_settings(args, &mut casts, &mut times)?;
    let mut write = write_settings(args, &read)?;
    if args.row_group_size == Some(0) {
        return Err(Error::usage("--row-group-size must be at least 1"));
    }
    if args.certify && args.report.is_none() {
        return Err(Error::usage("--certify needs a report to write into").hint("--report DIR"));
    }
    let if_exists = if_exists(args)?;
    write.existing = match if_exists {
        _ if args.append => Existing::Append,
        IfExists::Overwrite | IfExists::Update => Existing::Replace,
        IfExists::Merge => Existing::Merge { replace: args.force },
        IfExists::Error | IfExists::Skip => Existing::Error,
    };
    if args.concat && args.prefix_by_file {
        return Err(Error::usage(
            "--concat and --prefix-by-file exclude each other: joined rows have one name",
        ));
    }
    let rename_re = args
        .rename_re
        .iter()
        .map(|r| names::substitution("rename-re", r))
        .collect::<Result<_>>()?;
    // Of what goes to a remote place, half of the memory is for the parts that are on their way.
    let uploads = args.output.as_ref().or(args.paths.last()).is_some_and(|dst| dst.contains("://"));
    if uploads {
        read.resources = read.resources.with_budget(read.resources.memory_bytes() / 2);
    }
    read.resources = read.resources.with_cancel(hooks.cancel);
    read.shows_looks = !args.no_progress && !console.quiet && !args.json;
    Ok(ConvertContext {
        settings: Settings::of(&read.resources),
        renaming: Renaming {
            name: args.name.clone(),
            strip_prefix: args.strip_prefix.clone(),
            rename: args.rename.iter().map(|r| names::pair("rename", r)).collect::<Result<_>>()?,
            rename_re,
            add_prefix: args.add_prefix.clone(),
            partial: false,
        },
        slice: args.rows.as_deref().map(Slice::parse).transpose()?,
        policy: Policy {
            bf16_bits: args.bf16 == cli::Bf16::Bits,
            fp8_bits: args.fp8 == cli::Fp8::Bits,
            nulls: args.nulls.as_deref().map(Nulls::parse).transpose()?,
            strings: args.strings,
            ragged_offsets: args.ragged != Some(cli::Ragged::Error),
            notes_lists: args.ragged.is_none(),
            nested_json: args.nested.is_some(),
            skip_unsupported: args.skip_unsupported,
            sink: "",
            marks: false,
        },
        layout: args.layout,
        args,
        console,
        on_progress: hooks.on_progress,
        read,
        write,
        casts,
        times,
        if_exists,
        survey: Default::default(),
        shard: args.shard.as_deref().map(Shard::parse).transpose()?,
        said: Default::default(),
        made: Default::default(),
    })
}

/// How inputs are read; `--dtype` says what is cast, too.
fn read_settings(
    args: &ConvertArgs,
    casts: &mut Vec<(Option<String>, Dtype)>,
    times: &mut Vec<(String, Logical)>,
) -> Result<ReadOptions> {
    let mut read = read_options(&args.read)?;
    read.skip_unsupported = args.skip_unsupported;
    read.dequantize = match args.dequantize {
        None => Dequantize::No,
        Some(None) => Dequantize::Usual,
        Some(Some(cli::FloatType::Bfloat16)) => Dequantize::To(Dtype::Bf16),
        Some(Some(cli::FloatType::Float16)) => Dequantize::To(Dtype::F16),
        Some(Some(cli::FloatType::Float32)) => Dequantize::To(Dtype::F32),
    };
    for text in &args.dtype {
        // Of a raw file the type without a pattern is what it holds.
        if is_raw(&args.read) && (!text.contains('=') || text.starts_with('=')) {
            if read.raw.dtype.replace(text.clone()).is_some() {
                return Err(Error::usage("--dtype says twice what the raw file holds")
                    .hint("'*=TYPE' casts what was read"));
            }
            continue;
        }
        match parse_cast(text)? {
            (pattern, Type::Number(dtype)) => casts.push((pattern, dtype)),
            (Some(pattern), Type::Time(logical)) => times.push((pattern, logical)),
            (None, Type::Time(_)) => {
                return Err(Error::usage(format!(
                    "--dtype {text} needs the names of the arrays it is for"
                ))
                .hint(format!("--dtype 'NAME={text}'")));
            }
        }
    }
    read.text.dtypes.clone_from(casts);
    let text = times.iter().filter(|(_, wanted)| matches!(wanted, Logical::Text));
    read.text.as_text = text.map(|(pattern, _)| pattern.clone()).collect();
    read.text.lossy = args.lossy;
    Ok(read)
}

/// How the output is written, but for what becomes of one that exists.
fn write_settings(args: &ConvertArgs, read: &ReadOptions) -> Result<WriteOptions> {
    let mut write = WriteOptions {
        compression: args.compression.as_deref().map(parse_compression).transpose()?,
        chunk_shape: args.chunk_shape.as_deref().map(parse_shape).transpose()?,
        shard_shape: args.shard_shape.as_deref().map(parse_shape).transpose()?,
        row_group_rows: args.row_group_size,
        zarr_format: args.zarr_format,
        max_shard_bytes: args.max_shard_size.as_deref().map(console::parse_bytes).transpose()?,
        metadata: args
            .metadata
            .iter()
            .map(|m| names::pair("metadata", m))
            .collect::<Result<_>>()?,
        no_metadata: args.no_metadata,
        single: args.single,
        text: read.text.clone(),
        resources: read.resources.clone(),
        sync: args.sync,
        ..WriteOptions::default()
    };
    write.text.float_format.clone_from(&args.float_format);
    if args.read.delimiter.is_none() {
        write.text.delimiter = detect::delimiter_named(args.to.as_deref());
    }
    Ok(write)
}

fn if_exists(args: &ConvertArgs) -> Result<IfExists> {
    let mut asked = Vec::new();
    asked.extend(args.if_exists.map(|i| ("--if-exists", i)));
    if args.skip_existing {
        asked.push(("--skip-existing", IfExists::Skip));
    }
    if args.update {
        asked.push(("--update", IfExists::Update));
    }
    if args.append && args.force {
        return Err(Error::usage(
            "--append and --force exclude each other: rows are added, or the store is replaced",
        ));
    }
    if args.append && !asked.is_empty() {
        return Err(Error::usage(format!("--append and {} exclude each other", asked[0].0)));
    }
    if let Some(w) = asked.windows(2).find(|w| w[0].1 != w[1].1) {
        return Err(Error::usage(format!("{} and {} exclude each other", w[0].0, w[1].0)));
    }
    Ok(match asked.first() {
        Some((flag, what @ (IfExists::Error | IfExists::Skip))) if args.force => {
            let flag = if *what == IfExists::Error { "--if-exists error" } else { flag };
            return Err(Error::usage(format!("--force and {flag} exclude each other"))
                .hint("--force alone replaces what exists"));
        }
        Some((_, what)) => *what,
        None if args.force => IfExists::Overwrite,
        None => IfExists::Error,
    })
}

/// What `--dtype` makes of an array.
enum Type {
    Number(Dtype),
    /// The same kind of time in this unit; text.
    Time(Logical),
}

fn parse_cast(text: &str) -> Result<(Option<String>, Type)> {
    let (pattern, name) = match text.rsplit_once('=') {
        Some((pattern, name)) => (Some(pattern.to_string()), name),
        None => (None, text),
    };
    let text = matches!(name, "string" | "text").then_some(Logical::Text);
    let to = Dtype::parse(name)
        .map(Type::Number)
        .or_else(|| text.or_else(|| time::parse(name)).map(Type::Time));
    let to = to.ok_or_else(|| {
        let names: Vec<&str> = Dtype::ALL.iter().map(|d| d.name()).collect();
        let times =
            "times in another unit: datetime64[us], timedelta64[us], timestamp[us], duration[us]";
        Error::usage(format!("there is no type '{name}'")).hint(format!(
            "use one of {}; {times}; of text tables, decimals and categories also string",
            names.join(", ")
        ))
    })?;
    Ok((pattern, to))
}

fn parse_compression(text: &str) -> Result<Compression> {
    let (name, level) = match text.split_once(':') {
        Some((name, level)) => {
            let level = level.parse().map_err(|_| {
                Error::usage(format!("'{level}' is not a compression level"))
                    .hint("NAME:LEVEL, as zstd:9")
            })?;
            (name, Some(level))
        }
        None => (text, None),
    };
    Ok(Compression { name: name.to_ascii_lowercase(), level })
}

fn parse_shape(text: &str) -> Result<Vec<u64>> {
    text.split([',', 'x'])
        .map(|p| p.trim().parse::<u64>().ok().filter(|&n| n > 0))
        .collect::<Option<Vec<u64>>>()
        .ok_or_else(|| {
            Error::usage(format!("'{text}' is not a shape"))
                .hint("numbers above 0, separated by commas: 1000,128")
        })
}
