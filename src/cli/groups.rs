//! Groups of options that several commands have.

use clap::{ArgAction, Args};

use super::choices::{Addressing, Color, ElementOrder, Header, OnDuplicate, at_least_one};

/// How inputs are read: shared by the commands that read.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Reading")]
pub struct ReadArgs {
    /// Input format (default, or auto: by the first bytes, else the file name; numpy: npy or npz)
    #[arg(long, value_name = "FORMAT")]
    pub from: Option<String>,
    /// Only this group of the tree (HDF5, Zarr), or the names below PATH/ or PATH.
    #[arg(short = 'g', long, value_name = "PATH")]
    pub group: Option<String>,
    /// Whether the first row is a header
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub header: Header,
    /// Column names, instead of the header's
    #[arg(long, value_name = "A,B,C")]
    pub column_names: Option<String>,
    /// Field separator of CSV and TXT ('\t' for a tab)
    #[arg(short = 'd', long, value_name = "CHAR")]
    pub delimiter: Option<String>,
    /// Skip this many lines at the start of a text file
    #[arg(long, visible_alias = "skip-header", value_name = "N", default_value_t = 0)]
    pub skip_rows: u64,
    /// Read at most this many rows of a text file
    #[arg(long, value_name = "N")]
    pub max_rows: Option<u64>,
    /// Lines of a text file that begin with this are comments
    #[arg(long, value_name = "CHAR")]
    pub comment: Option<String>,
    /// What quotes cells of CSV: one character, or none to read quotes as plain characters
    /// [default: "]
    #[arg(long, value_name = "CHAR")]
    pub quote: Option<String>,
    /// Leave out blanks around cells and column names of a text file, outside of quotes
    #[arg(long)]
    pub trim: bool,
    /// Cells that mean null, separated by commas
    #[arg(long, value_name = "LIST")]
    pub null_values: Option<String>,
    /// Decimal sign of text files
    #[arg(long, value_name = "CHAR")]
    pub decimal: Option<String>,
    /// Shape of a raw file, such as 1000,28,28; one dimension may be -1 (default: all in one)
    #[arg(long, value_name = "SHAPE", allow_hyphen_values = true)]
    pub shape: Option<String>,
    /// Bytes to leave out at the start of a raw file
    #[arg(long, value_name = "BYTES")]
    pub offset: Option<u64>,
    /// Which index runs fastest in a raw file (default: C)
    #[arg(long, value_enum, value_name = "ORDER")]
    pub order: Option<ElementOrder>,
    /// What to do with two arrays of the same name
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub on_duplicate: OnDuplicate,
    /// Also read files outside of its folder that an HDF5 file names (virtual sources, external
    /// links, raw data)
    #[arg(long)]
    pub follow_external: bool,
    /// Worker threads (default: one per core); no more than 4, and one for each 8 MiB of
    /// --memory-limit
    #[arg(short = 'j', long, value_name = "N", value_parser = at_least_one::<usize>)]
    pub jobs: Option<usize>,
    /// Memory for data in flight, over all files; at least 1MiB
    #[arg(short = 'm', long, value_name = "SIZE", default_value = "256MiB")]
    pub memory_limit: String,
    /// Remote access.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// The type in a raw file, for the commands that cast nothing.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Reading")]
pub struct RawTypeArgs {
    /// Type of the elements of a raw file (--from raw), as numpy spells it: float32, >i2, S5
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<String>,
}

/// Object storage flags, named as in the AWS CLI.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Object storage")]
pub struct RemoteArgs {
    /// AWS profile
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// AWS region
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Address of an S3-compatible service
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,
    /// Public data: do not sign requests
    #[arg(long, visible_alias = "anon")]
    pub no_sign_request: bool,
    /// Do not verify TLS certificates
    #[arg(long)]
    pub no_verify_ssl: bool,
    /// PEM file with the certificate authorities to trust
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<String>,
    /// Pay for requests to a requester-pays bucket
    #[arg(long)]
    pub request_payer: bool,
    /// Where requests name the bucket
    #[arg(long, value_enum, value_name = "STYLE")]
    pub addressing: Option<Addressing>,
    /// How often a failed request is tried again
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
}

/// Which arrays.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Choosing")]
pub struct ChooseArgs {
    /// Only these arrays: names or patterns ('*' matches anything), separated by commas, repeatable
    #[arg(short = 'a', long, value_name = "PATTERN", action = ArgAction::Append,
          visible_aliases = ["key", "tensor", "dataset", "columns"], aliases = ["keys", "column", "include", "arrays"], allow_hyphen_values = true)]
    pub array: Vec<String>,
    /// Leave these arrays out
    #[arg(short = 'x', long, value_name = "PATTERN", action = ArgAction::Append, allow_hyphen_values = true)]
    pub exclude: Vec<String>,
}

/// Messages.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Messages")]
pub struct MessageArgs {
    /// Errors only
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// More messages; twice for still more
    #[arg(short = 'v', long, action = ArgAction::Count)]
    pub verbose: u8,
    /// When to use colours
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Color,
}

/// What the commands that look at files share.
#[derive(Args, Debug, Clone, Default)]
pub struct LookArgs {
    /// JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Choosing.
    #[command(flatten)]
    pub choose: ChooseArgs,
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
