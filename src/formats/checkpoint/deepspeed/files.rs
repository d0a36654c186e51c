//! Which files a checkpoint is made of, by their names.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::storage::{EntryKind, Location};

/// The file that names the folder of the newest checkpoint.
const LATEST: &str = "latest";
/// It holds a name.
const LATEST_BYTES: u64 = 1024;
const MODEL: &str = "_model_states.pt";
const OPTIMIZER: &str = "_optim_states.pt";
const TENSOR_PARALLEL: &str =
    "its tensors are cut by model parallelism, and nothing in it says along which dimension";

/// A file of a rank.
struct StateFile {
    is_model: bool,
    /// The rank among those that share the optimizer's state; `None` for a file of them all.
    data_rank: Option<u64>,
    model_rank: u64,
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// `mp_rank_00_model_states.pt`, `bf16_zero_pp_rank_3_mp_rank_00_optim_states.pt`.
fn state_file(name: &str) -> Option<StateFile> {
    let (stem, is_model) = match name.strip_suffix(MODEL) {
        Some(stem) => (stem, true),
        None => (name.strip_suffix(OPTIMIZER)?, false),
    };
    let (before, model) = stem.rsplit_once("mp_rank_")?;
    let before =
        ["bf16_", "fp16_"].into_iter().find_map(|p| before.strip_prefix(p)).unwrap_or(before);
    let data_rank = match before {
        "" => None,
        before => Some(number(before.strip_prefix("zero_pp_rank_")?.strip_suffix('_')?)?),
    };
    Some(StateFile { is_model, data_rank, model_rank: number(model)? })
}

/// Whether it is a file of a pipeline's layer, or of an expert.
fn is_of_layer(name: &str) -> bool {
    name.ends_with("model_states.pt") && (name.starts_with("layer_") || name.starts_with("expert_"))
}

/// The files, and the folder that they are in.
pub(super) struct Files {
    pub at: Location,
    /// By rank; one of them all has the rank 0.
    pub models: BTreeMap<u64, String>,
    pub optimizers: BTreeMap<u64, String>,
    /// What stands against reading them.
    refused: Option<Error>,
}

impl Files {
    /// All of them.
    pub fn names(&self) -> Vec<String> {
        self.models.values().chain(self.optimizers.values()).cloned().collect()
    }

    /// Those that a directory holds itself.
    fn within(at: &Location) -> Result<Option<Files>> {
        let (mut models, mut optimizers) = (BTreeMap::new(), BTreeMap::new());
        let mut refused = None;
        for entry in at.list()?.into_iter().filter(|entry| !entry.is_dir) {
            let name = entry.name;
            let Some(file) = state_file(&name) else {
                if is_of_layer(&name) {
                    refused = Some(Error::refused(format!(
                        "its layers or experts are in files of their own ({name}), which are not joined"
                    )));
                }
                continue;
            };
            if file.model_rank > 0 {
                refused = Some(Error::refused(TENSOR_PARALLEL));
            }
            let ranks = if file.is_model { &mut models } else { &mut optimizers };
            if file.model_rank == 0
                && let Some(other) = ranks.insert(file.data_rank.unwrap_or(0), name.clone())
            {
                refused = Some(Error::refused(format!(
                    "{other} and {name} are of the same rank: it holds two checkpoints"
                )));
            }
        }
        let found = !models.is_empty() || !optimizers.is_empty();
        Ok(found.then(|| Files { at: at.clone(), models, optimizers, refused }))
    }

    /// The checkpoint that a directory is, or that its file `latest` names.
    ///
    /// # Errors
    /// Reading errors; a name that leaves the directory.
    pub fn find(at: &Location) -> Result<Option<Files>> {
        if at.is_stream() || at.kind()? != EntryKind::Dir {
            return Ok(None);
        }
        if let Some(files) = Files::within(at)? {
            return Ok(Some(files));
        }
        let latest = at.join(LATEST);
        if !matches!(latest.kind()?, EntryKind::File { .. }) {
            return Ok(None);
        }
        let blob = latest.blob()?;
        let text = blob.read_vec(0, blob.len().min(LATEST_BYTES))?;
        let name = String::from_utf8_lossy(&text).trim().to_string();
        if name.contains(['/', '\\', '\0']) || matches!(name.as_str(), "" | "." | "..") {
            return Ok(None);
        }
        let at = at.join(&name);
        if at.kind()? != EntryKind::Dir { Ok(None) } else { Files::within(&at) }
    }

    /// Itself, if nothing stands against reading it.
    ///
    /// # Errors
    /// Refused: cut by other kinds of parallelism.
    pub fn readable(mut self) -> Result<Files> {
        match self.refused.take() {
            None => Ok(self),
            Some(error) => Err(error
                .file(self.at.display())
                .hint("name one of its files to read what is in it")),
        }
    }
}
