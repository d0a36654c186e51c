//! The command line: clap types only. `cmd` turns them into settings.

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::path::PathBuf;

mod choices;
mod examples;
mod groups;
mod looks;

pub use choices::*;
pub use groups::*;
pub use looks::{DiffArgs, InspectArgs};

/// The arguments of the `npk` command.
#[derive(Parser, Debug)]
#[command(
    name = "npk",
    version,
    about = "Convert array and table files to NumPack .npk stores and back, and into each other: exactly and fast",
    propagate_version = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = examples::ALL
)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Command {
    /// Convert files, directories, object storage, or standard input
    #[command(after_help = "Run 'npk convert --help' for examples.", after_long_help = examples::CONVERT)]
    Convert(ConvertArgs),
    /// List array names, one per line
    #[command(visible_alias = "ls", after_long_help = examples::LIST)]
    List(ListArgs),
    /// Show what is in a file: format, arrays, types, shapes, metadata, values
    #[command(after_long_help = examples::INSPECT)]
    Inspect(InspectArgs),
    /// Compare two files of any formats
    #[command(after_long_help = examples::DIFF)]
    Diff(DiffArgs),
    /// Check that files are whole: headers, sizes, checksums, every chunk
    #[command(after_long_help = examples::VERIFY)]
    Verify(VerifyArgs),
    /// Change a .npk store: drop and rename arrays, set attributes, leave out deleted rows
    #[command(after_long_help = examples::EDIT)]
    Edit(EditArgs),
    /// Show what the shares of a batch have come to: a table of convert's --report
    #[command(after_long_help = examples::REPORT)]
    Report(ReportArgs),
    /// List the formats
    Formats(FormatsArgs),
    /// Print a completion script
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory (or print the main one)
    Man {
        /// The directory; without it the main page goes to stdout
        dir: Option<PathBuf>,
    },
    /// Write completions and man pages into the project's folders
    #[command(hide = true)]
    Generate {
        /// The project's top folder
        dir: PathBuf,
    },
}

impl Command {
    /// The name by which it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Convert(_) => "convert",
            Command::List(_) => "list",
            Command::Inspect(_) => "inspect",
            Command::Diff(_) => "diff",
            Command::Verify(_) => "verify",
            Command::Edit(_) => "edit",
            Command::Report(_) => "report",
            Command::Formats(_) => "formats",
            Command::Completions { .. } => "completions",
            Command::Man { .. } => "man",
            Command::Generate { .. } => "generate",
        }
    }
}

/// `npk convert`.
#[derive(Args, Debug, Clone)]
pub struct ConvertArgs {
    /// Sources, then the destination (unless -o gives it): paths, URLs, or - for stdin and stdout
    #[arg(value_name = "SRC... DST")]
    pub paths: Vec<String>,

    /// The destination, instead of the last argument
    #[arg(short = 'o', long, value_name = "DST", help_heading = "Output")]
    pub output: Option<String>,
    /// Output format (default, or auto: by the destination's name; numpy: npy if it is named so,
    /// else npz)
    #[arg(short = 't', long, value_name = "FORMAT", help_heading = "Output")]
    pub to: Option<String>,
    /// Replace an existing output
    #[arg(short = 'f', long, visible_alias = "overwrite", help_heading = "Output")]
    pub force: bool,
    /// What to do if the output exists (default: error)
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "Output")]
    pub if_exists: Option<IfExists>,
    /// Skip outputs that exist and are whole (same as --if-exists skip)
    #[arg(long, help_heading = "Output")]
    pub skip_existing: bool,
    /// Convert only if a source is newer than the output (same as --if-exists update)
    #[arg(short = 'u', long, help_heading = "Output")]
    pub update: bool,
    /// Append rows to the arrays of an existing store
    #[arg(long, help_heading = "Output")]
    pub append: bool,
    /// Sync new outputs to the disk
    #[arg(long, help_heading = "Output")]
    pub sync: bool,

    /// Choosing.
    #[command(flatten)]
    pub choose: ChooseArgs,
    /// Only these rows of every array, as in Python: START:STOP[:STEP]
    #[arg(long, value_name = "SLICE", help_heading = "Choosing", allow_hyphen_values = true)]
    pub rows: Option<String>,

    /// Join arrays of the same name over all sources, row after row; folders named key=value become
    /// columns
    #[arg(long, help_heading = "Joining")]
    pub concat: bool,
    /// Put each source's name in front of its arrays' names
    #[arg(long, help_heading = "Joining")]
    pub prefix_by_file: bool,
    /// Read source names from a file, a URL or - for stdin: one per line, after a tab its size and
    /// ETag if known; or the manifest.json of an S3 Inventory
    #[arg(short = 'T', long, value_name = "FILE", help_heading = "Joining")]
    pub files_from: Option<String>,
    /// Names in --files-from end with a zero byte
    #[arg(short = '0', help_heading = "Joining")]
    pub null: bool,
    /// Take directories as sources, with everything below them
    #[arg(short = 'R', long, help_heading = "Joining")]
    pub recursive: bool,
    /// Take the files of Delta, Iceberg and Hudi tables as they are, with rows that the table has
    /// removed
    #[arg(long, help_heading = "Joining")]
    pub ignore_table_log: bool,

    /// The name of the one resulting array (or of each source's, with --concat); of a table that
    /// becomes columns: NAME/a, NAME/b
    #[arg(long, visible_alias = "array-name", value_name = "NAME", help_heading = "Naming")]
    pub name: Option<String>,
    /// Remove this from the front of names
    #[arg(long, value_name = "PREFIX", help_heading = "Naming", action = ArgAction::Append)]
    pub strip_prefix: Vec<String>,
    /// Rename an array
    #[arg(long, value_name = "OLD=NEW", help_heading = "Naming", action = ArgAction::Append)]
    pub rename: Vec<String>,
    /// Rename by regular expression; $1 is the first group
    #[arg(long, value_name = "RE=NEW", help_heading = "Naming", action = ArgAction::Append)]
    pub rename_re: Vec<String>,
    /// Put this in front of names
    #[arg(long, value_name = "PREFIX", help_heading = "Naming")]
    pub add_prefix: Option<String>,

    /// Cast arrays, or (NAME=timestamp[us]) times to another unit; must be exact unless --lossy is
    /// given. With --from raw, without PATTERN: what the file holds, as numpy spells it (>f4)
    #[arg(long, value_name = "[PATTERN=]TYPE", help_heading = "Types", action = ArgAction::Append)]
    pub dtype: Vec<String>,
    /// Let --dtype round (never past the type's range)
    #[arg(long, help_heading = "Types")]
    pub lossy: bool,
    /// Make floats of quantised values: of GGUF blocks float32, of float8, MXFP4 and NVFP4 weights
    /// bfloat16 (times the scales beside them), unless a type is given
    #[arg(long, value_enum, value_name = "TYPE", require_equals = true, help_heading = "Types")]
    pub dequantize: Option<Option<FloatType>>,
    /// How to store bfloat16 if the output lacks it
    #[arg(long, value_enum, default_value_t, value_name = "AS", help_heading = "Types")]
    pub bf16: Bf16,
    /// How to store float8 if the output lacks it
    #[arg(long, value_enum, default_value_t, value_name = "AS", help_heading = "Types")]
    pub fp8: Fp8,
    /// How to store nulls if the output lacks them: mask (default); nan, fill=VALUE and error hold for
    /// any output, nan and fill=VALUE not within lists, structs and maps
    #[arg(long, value_name = "HOW", help_heading = "Types")]
    pub nulls: Option<String>,
    /// How to store text if the output lacks it (default: codes)
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Types")]
    pub strings: Option<Strings>,
    /// How to store lists of different lengths, and structs and maps, if the output lacks them
    /// (default: offsets)
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Types")]
    pub ragged: Option<Ragged>,
    /// How to write lists, structs and maps into text tables (refused by default)
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Types")]
    pub nested: Option<NestedText>,
    /// Leave out, with a note, arrays that cannot be read or written
    #[arg(long, help_heading = "Types")]
    pub skip_unsupported: bool,

    /// How a table becomes arrays: one matrix, or one array per column
    #[arg(long, value_enum, default_value_t, value_name = "LAYOUT", help_heading = "Tables")]
    pub layout: Layout,
    /// printf-like format of floats in text outputs, as in numpy.savetxt
    #[arg(long, value_name = "FMT", help_heading = "Tables")]
    pub float_format: Option<String>,

    /// Compression of the output
    #[arg(short = 'c', long, value_name = "NAME[:LEVEL]", help_heading = "Layout of the output")]
    pub compression: Option<String>,
    /// Chunk shape (HDF5, Zarr), such as 1000,128
    #[arg(long, value_name = "SHAPE", help_heading = "Layout of the output")]
    pub chunk_shape: Option<String>,
    /// Shard shape (Zarr v3)
    #[arg(long, value_name = "SHAPE", help_heading = "Layout of the output")]
    pub shard_shape: Option<String>,
    /// Write a Zarr store of references: the bytes stay where they are. Into a directory (Parquet), or
    /// with a name that ends in .json, or --to kerchunk, into one JSON file
    #[arg(long = "virtual", help_heading = "Layout of the output")]
    pub refer: bool,
    /// Arrays that cannot be referred to are kept in a store of references where they are no larger
    #[arg(long, value_name = "SIZE", help_heading = "Layout of the output")]
    pub inline_below: Option<String>,
    /// Rows per row group (Parquet)
    #[arg(long, value_name = "ROWS", help_heading = "Layout of the output")]
    pub row_group_size: Option<u64>,
    /// Zarr version
    #[arg(long, value_name = "2|3", value_parser = clap::value_parser!(u8).range(2..=3), help_heading = "Layout of the output")]
    pub zarr_format: Option<u8>,
    /// Split checkpoints into files of at most this size
    #[arg(long, value_name = "SIZE", help_heading = "Layout of the output")]
    pub max_shard_size: Option<String>,
    /// Add metadata to the output
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Layout of the output", action = ArgAction::Append)]
    pub metadata: Vec<String>,
    /// Write the arrays only, without metadata
    #[arg(long, help_heading = "Layout of the output")]
    pub no_metadata: bool,
    /// Write a .pt that is the bare tensor
    #[arg(long, help_heading = "Layout of the output")]
    pub single: bool,

    /// Convert only share I of N (from 0) of a batch: each output belongs to one share, by its name;
    /// of a single Zarr output, a share of its rows
    #[arg(long, value_name = "I/N", help_heading = "Many machines")]
    pub shard: Option<String>,
    /// Complete a Zarr output whose shares are all written
    #[arg(long, conflicts_with = "shard", help_heading = "Many machines")]
    pub finish: bool,
    /// Write a line of JSON for each output into a directory or below a URL, a file for each share;
    /// without --shard, compare what shares have written there with what should be
    #[arg(long, value_name = "DIR", help_heading = "Many machines")]
    pub report: Option<String>,
    /// Put the checksums of every array on both sides into the report
    #[arg(long, help_heading = "Many machines")]
    pub certify: bool,

    /// Show what would be done
    #[arg(short = 'n', long, help_heading = "Running")]
    pub dry_run: bool,
    /// Read the output again and compare
    #[arg(long, help_heading = "Running")]
    pub verify: bool,
    /// Stop a batch at the first error
    #[arg(long, help_heading = "Running")]
    pub fail_fast: bool,

    /// Reading.
    #[command(flatten)]
    pub read: ReadArgs,
    /// Messages.
    #[command(flatten)]
    pub messages: MessageArgs,
    /// JSON lines on stdout: one per file, then a summary
    #[arg(long, help_heading = "Messages")]
    pub json: bool,
    /// No progress bar
    #[arg(long, help_heading = "Messages")]
    pub no_progress: bool,
}

/// `npk list`.
#[derive(Args, Debug, Clone)]
pub struct ListArgs {
    /// Files, directories, URLs, or -
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    /// Print types, shapes and bytes too, separated by tabs
    #[arg(short = 'l', long)]
    pub long: bool,
    /// The order of the names
    #[arg(long, value_enum, default_value_t, value_name = "BY")]
    pub sort: Sort,
    /// Raw names, each followed by a zero byte
    #[arg(short = '0')]
    pub null: bool,
    /// What is read, and how it is told.
    #[command(flatten)]
    pub look: LookArgs,
}

/// `npk verify`.
#[derive(Args, Debug, Clone)]
pub struct VerifyArgs {
    /// Files, directories, URLs, or -; with --certificate, what the outputs are below now
    #[arg(value_name = "PATH", required_unless_present = "certificate")]
    pub paths: Vec<String>,
    /// Compare with what convert's --certify wrote: a share's report, all of them, or their
    /// directory. Without PATH the sources are compared, too
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<String>,
    /// Check only so many units of a certificate, chosen at random
    #[arg(long, value_name = "N", requires = "certificate", value_parser = at_least_one::<u64>)]
    pub sample: Option<u64>,
    /// JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Reading.
    #[command(flatten)]
    pub read: ReadArgs,
    /// The type in a raw file.
    #[command(flatten)]
    pub raw: RawTypeArgs,
    /// Messages.
    #[command(flatten)]
    pub messages: MessageArgs,
}

/// `npk edit`.
#[derive(Args, Debug, Clone)]
pub struct EditArgs {
    /// A .npk store on a local disk
    #[arg(value_name = "STORE")]
    pub store: String,
    /// Leave arrays out; patterns as -a has them
    #[arg(long, value_name = "PATTERN", action = ArgAction::Append)]
    pub drop: Vec<String>,
    /// Rename an array, after dropping
    #[arg(long, value_name = "OLD=NEW", action = ArgAction::Append)]
    pub rename: Vec<String>,
    /// Set an attribute of the store
    #[arg(long, value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub set_attribute: Vec<String>,
    /// Write the arrays anew without the rows that were deleted, each in one piece
    #[arg(long)]
    pub compact: bool,
    /// Say what would be done, change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Messages.
    #[command(flatten)]
    pub messages: MessageArgs,
}

/// `npk report`.
#[derive(Args, Debug, Clone)]
pub struct ReportArgs {
    /// What was given to convert as --report
    #[arg(value_name = "DIR")]
    pub path: String,
    /// JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Remote access.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// Messages.
    #[command(flatten)]
    pub messages: MessageArgs,
}

/// `npk formats`.
#[derive(Args, Debug, Clone)]
pub struct FormatsArgs {
    /// JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// The table of the README
    #[arg(long, hide = true)]
    pub markdown: bool,
}

/// The clap command: every value option also reads `NPK_<OPTION>`; `--version` names what is built
/// in.
pub fn command() -> clap::Command {
    fn with_env(mut command: clap::Command) -> clap::Command {
        command = command.mut_args(|arg| {
            let takes_value = !matches!(
                arg.get_action(),
                ArgAction::SetTrue
                    | ArgAction::SetFalse
                    | ArgAction::Count
                    | ArgAction::Help
                    | ArgAction::HelpShort
                    | ArgAction::HelpLong
                    | ArgAction::Version
            );
            // A share that came from the environment would be that of another task.
            match arg
                .get_long()
                .filter(|long| *long != "shard")
                .map(|long| format!("NPK_{}", long.replace('-', "_").to_uppercase()))
            {
                Some(env) if takes_value => arg.env(env).hide_env(true),
                _ => arg,
            }
        });
        let names: Vec<String> =
            command.get_subcommands().map(|c| c.get_name().to_string()).collect();
        for name in names {
            command = command.mut_subcommand(name, with_env);
        }
        command
    }
    let mut built = vec![env!("CARGO_PKG_VERSION").to_string()];
    let names: Vec<&str> = crate::formats::FORMATS.iter().map(|f| f.spec().name).collect();
    built.push(format!("formats: {}", names.join(" ")));
    let features = [
        ("hdf5", cfg!(feature = "hdf5")),
        ("parquet", cfg!(feature = "parquet")),
        ("remote", cfg!(feature = "remote")),
    ];
    let on: Vec<&str> = features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    built.push(format!(
        "features: {}",
        if on.is_empty() { "none".to_string() } else { on.join(" ") }
    ));
    with_env(Cli::command().version(built.join("\n")))
}

/// Parses the process's arguments.
///
/// # Errors
/// clap's own, which print themselves.
pub fn parse<I, T>(arguments: I) -> Result<Cli, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    let matches = command().try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}
