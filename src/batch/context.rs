//! What the flags of `npk convert` say, once for all units of a run.

use super::shares::Shard;
use super::survey::Survey;
use crate::cli::{ConvertArgs, IfExists};
use crate::console::Console;
use crate::error::locked;
use crate::format::{ReadOptions, WriteOptions};
use crate::model::{Dtype, Logical};
use crate::pipe::{self, Settings};
use crate::resolve::names::Renaming;
use crate::resolve::policy::Policy;
use crate::resolve::rows::Slice;
use crate::resolve::table::Layout;

/// Everything that is the same for all files of a run.
pub(crate) struct ConvertContext<'a> {
    pub(crate) args: &'a ConvertArgs,
    pub(crate) console: Console<'a>,
    /// Told of every piece that has moved, beside the terminal's bar.
    pub(crate) on_progress: Option<pipe::Progress>,
    pub(crate) read: ReadOptions,
    pub(crate) write: WriteOptions,
    pub(crate) settings: Settings,
    pub(crate) renaming: Renaming,
    pub(crate) casts: Vec<(Option<String>, Dtype)>,
    /// Arrays whose times get another unit.
    pub(crate) times: Vec<(String, Logical)>,
    pub(crate) slice: Option<Slice>,
    pub(crate) policy: Policy,
    pub(crate) layout: Layout,
    pub(crate) if_exists: IfExists,
    /// What is there of the outputs, where one listing told it.
    pub(crate) survey: std::sync::OnceLock<Survey>,
    /// `--shard`.
    pub(crate) shard: Option<Shard>,
    /// Notes and warnings already printed: each is printed once a run, however many files it
    /// concerns.
    pub(crate) said: std::sync::Mutex<std::collections::HashSet<String>>,
    /// The folders that this run made for its outputs.
    pub(crate) made: std::sync::Mutex<Vec<std::path::PathBuf>>,
}

impl ConvertContext<'_> {
    fn once(&self, text: &str) -> bool {
        locked(&self.said).insert(text.to_string())
    }
    pub(crate) fn note(&self, text: &str) {
        if self.once(text) {
            self.console.note(text);
        }
    }
    pub(crate) fn warning(&self, text: &str) {
        if self.once(text) {
            self.console.warning(text);
        }
    }
}

impl Drop for ConvertContext<'_> {
    /// A folder that nothing was put into goes again.
    fn drop(&mut self) {
        let mut made = std::mem::take(self.made.get_mut().unwrap_or_else(|e| e.into_inner()));
        made.sort_by_key(|path| std::cmp::Reverse(path.as_os_str().len()));
        for folder in made {
            let _ = std::fs::remove_dir(folder);
        }
    }
}
