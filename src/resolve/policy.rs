//! What the user allows where a sink cannot hold what a source gives.

use super::nulls::Nulls;

/// `--strings`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Strings {
    /// As int32 codes, with the categories in the side file
    #[default]
    Codes,
    /// As two arrays, NAME.offsets and NAME.bytes
    Offsets,
    /// Leave it out, with a note
    Skip,
    /// Refuse it
    Error,
}

/// What the user allows.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `--bf16 bits`.
    pub bf16_bits: bool,
    /// `--fp8 bits`.
    pub fp8_bits: bool,
    /// `--nulls`, where given.
    pub nulls: Option<Nulls>,
    /// `--strings`, where given: codes are the default, but for decimals they must be asked for.
    pub strings: Option<Strings>,
    /// `--ragged offsets`.
    pub ragged_offsets: bool,
    /// Whether a note tells of uneven lists, for nobody asked for offsets.
    pub notes_lists: bool,
    /// `--nested json`.
    pub nested_json: bool,
    /// `--skip-unsupported`.
    pub skip_unsupported: bool,
    /// The sink's name, for messages.
    pub sink: &'static str,
    /// Whether the sink marks arrays (see [`crate::sidecar::Marks`]), so that nulls and types that
    /// it lacks come back.
    pub marks: bool,
}

impl Default for Policy {
    /// What the command does without flags.
    fn default() -> Policy {
        Policy {
            bf16_bits: false,
            fp8_bits: false,
            nulls: None,
            strings: None,
            ragged_offsets: true,
            notes_lists: true,
            nested_json: false,
            skip_unsupported: false,
            sink: "",
            marks: false,
        }
    }
}
