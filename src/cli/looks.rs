//! The commands that look at values: `npk inspect`, `npk diff`.

use clap::{ArgAction, Args};

use super::choices::tolerance;
use super::groups::LookArgs;

/// `npk inspect`.
#[derive(Args, Debug, Clone)]
pub struct InspectArgs {
    /// Files, directories, URLs, or -
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    /// Show the names as a tree, with repeated layers folded
    #[arg(long)]
    pub tree: bool,
    /// Show all metadata, or one key of it
    #[arg(long, value_name = "KEY", num_args = 0..=1, default_missing_value = "")]
    pub show_metadata: Option<String>,
    /// Show the first rows of the arrays
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "5")]
    pub head: Option<u64>,
    /// Show the last rows of the arrays
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "5")]
    pub tail: Option<u64>,
    /// Show a part of the arrays, as in numpy: "0:5,:"
    #[arg(long, value_name = "SLICE", allow_hyphen_values = true)]
    pub slice: Option<String>,
    /// Show count, nulls, NaN, infinities, zeros, min, max, mean, standard deviation
    #[arg(long)]
    pub stats: bool,
    /// Show a small histogram beside each array
    #[arg(long)]
    pub hist: bool,
    /// Draw heat maps: the means of the blocks of each array, its rows down, all elements of a row
    /// side by side; --slice chooses a part
    #[arg(long)]
    pub heat: bool,
    /// Show the SHA-256 of the logical values, the same in every format
    #[arg(long)]
    pub checksum: bool,
    /// Write a page that stands alone instead, at most 2 MB: treemap, totals, and of each
    /// array statistics, a histogram and a heat map
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "tree", "show_metadata", "head", "tail", "slice", "stats", "hist", "heat"])]
    pub html: Option<String>,
    /// Replace an existing page
    #[arg(short = 'f', long, requires = "html")]
    pub force: bool,
    /// What is read, and how it is told.
    #[command(flatten)]
    pub look: LookArgs,
}

/// `npk diff`.
#[derive(Args, Debug, Clone)]
pub struct DiffArgs {
    /// The first file
    pub a: String,
    /// The second file
    pub b: String,
    /// Relative tolerance
    #[arg(long, default_value_t = 0.0, value_name = "R", allow_negative_numbers = true, value_parser = tolerance)]
    pub rtol: f64,
    /// Absolute tolerance
    #[arg(long, default_value_t = 0.0, value_name = "A", allow_negative_numbers = true, value_parser = tolerance)]
    pub atol: f64,
    /// Treat NaN as equal to NaN (bit-identical ones always are)
    #[arg(long)]
    pub equal_nan: bool,
    /// Compare values across types
    #[arg(long)]
    pub ignore_dtype: bool,
    /// Compare names, types and shapes only: no data is read
    #[arg(long, conflicts_with_all = ["summary", "rtol", "atol", "equal_nan"])]
    pub headers: bool,
    /// Show how far apart the values are: for each array, each layer and in total the share of
    /// changed elements, the L2 norm of the difference, its largest magnitude, the cosine
    #[arg(long)]
    pub summary: bool,
    /// Rename the arrays of A by a regular expression before they are compared; $1 is the first
    /// group
    #[arg(long, value_name = "RE=NEW", action = ArgAction::Append)]
    pub map: Vec<String>,
    /// Compare metadata too
    #[arg(long)]
    pub compare_metadata: bool,
    /// Write a page that stands alone instead, at most 2 MB: what differs, and the
    /// figures of --summary
    #[arg(long, value_name = "FILE")]
    pub html: Option<String>,
    /// Replace an existing page
    #[arg(short = 'f', long, requires = "html")]
    pub force: bool,
    /// What is read, and how it is told.
    #[command(flatten)]
    pub look: LookArgs,
}
