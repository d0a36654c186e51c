//! Names of repositories: `hf://[datasets/|spaces/]OWNER/NAME[@REVISION][/PATH]`, read as
//! huggingface_hub's file system reads them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, Result};

/// What must be escaped in a part of an address.
pub(super) const PART: AsciiSet =
    NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The same of several parts.
pub(super) const PARTS: AsciiSet = PART.remove(b'/');

/// A repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Repo {
    /// `models`, `datasets` or `spaces`.
    pub kind: &'static str,
    /// `OWNER/NAME`; of a few old models `NAME`.
    pub id: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

const DEFAULT_REVISION: &str = "main";

/// Takes apart what stands behind `hf://`: the repository as it was written, and the path in it.
///
/// # Errors
/// Usage: no repository.
pub(in super::super) fn split(rest: &str) -> Result<(String, String)> {
    let none = || {
        Error::usage("the URL names no repository")
            .hint("as in hf://OWNER/NAME/model.safetensors, hf://datasets/OWNER/NAME@REVISION/data.parquet")
    };
    let skip = match rest.split_once('/') {
        Some((kind @ ("datasets" | "spaces" | "models"), _)) => kind.len() + 1,
        _ => 0,
    };
    let id = &rest[skip..];
    let slash = |from: usize| id[from..].find('/').map_or(id.len(), |at| from + at);
    let first = slash(0);
    // `NAME@REVISION` is one of the old models, which have no owner.
    let second = if id[..first].contains('@') { first } else { slash((first + 1).min(id.len())) };
    let mut end = second;
    if let Some(at) = id[..second].find('@') {
        // Two kinds of revisions have slashes in their names.
        let revision = &id[at + 1..];
        let special = ["refs/convert/", "refs/pr/"].iter().any(|kind| revision.starts_with(kind));
        if special {
            let parts: usize = revision.split('/').take(3).map(|part| part.len() + 1).sum();
            end = (at + parts).min(id.len());
        }
    }
    let name = id[..end].split('@').next().unwrap_or_default();
    let whole = name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    if !whole || !plain || !name.contains('/') && !id[..end].contains('@') {
        return Err(none());
    }
    if id[..end].ends_with('@') {
        return Err(Error::usage("the URL names no revision behind @")
            .hint("leave @ out for the newest of main"));
    }
    let key = id[end..].strip_prefix('/').unwrap_or_default();
    Ok((rest[..skip + end].to_string(), key.to_string()))
}

impl Repo {
    /// Of a repository as it was written: [`split`].
    pub fn of(written: &str) -> Repo {
        let (kind, id) = match written.split_once('/') {
            Some(("datasets", id)) => ("datasets", id),
            Some(("spaces", id)) => ("spaces", id),
            Some(("models", id)) => ("models", id),
            _ => ("models", written),
        };
        let (id, revision) = id.split_once('@').unwrap_or((id, DEFAULT_REVISION));
        let revision = percent_decode_str(revision).decode_utf8_lossy().into_owned();
        Repo { kind, id: id.to_string(), revision }
    }

    /// As it stands in a URL of files and pages, which has no prefix for models.
    pub fn in_pages(&self) -> String {
        match self.kind {
            "models" => self.id.clone(),
            kind => format!("{kind}/{}", self.id),
        }
    }
    /// Whether the revision is a commit.
    pub fn is_commit(&self) -> bool {
        self.revision.len() == 40 && self.revision.bytes().all(|b| b.is_ascii_hexdigit())
    }
    /// The path of a file's address.
    pub fn file(&self, revision: &str, key: &str) -> String {
        let (revision, key) =
            (utf8_percent_encode(revision, &PART), utf8_percent_encode(key, &PARTS));
        format!("/{}/resolve/{revision}/{key}", self.in_pages())
    }
    /// The path of the address of what the hub knows of the revision.
    pub fn about(&self) -> String {
        let revision = utf8_percent_encode(&self.revision, &PART);
        format!("/api/{}/{}/revision/{revision}?expand%5B%5D=sha", self.kind, self.id)
    }
    /// The path of a listing's address, without query.
    pub fn tree(&self, revision: &str, folder: &str) -> String {
        let (revision, folder) =
            (utf8_percent_encode(revision, &PART), utf8_percent_encode(folder, &PARTS));
        format!("/api/{}/{}/tree/{revision}/{folder}", self.kind, self.id)
            .trim_end_matches('/')
            .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_huggingface_hub() {
        let cases = [
            ("o/n", "models", "o/n", "main", ""),
            ("o/n/", "models", "o/n", "main", ""),
            ("o/n/a/b.npy", "models", "o/n", "main", "a/b.npy"),
            ("o/n@v1/b.npy", "models", "o/n", "v1", "b.npy"),
            ("o/n@v1", "models", "o/n", "v1", ""),
            ("gpt2@main/x", "models", "gpt2", "main", "x"),
            (
                "datasets/o/n@refs/convert/parquet/d/x",
                "datasets",
                "o/n",
                "refs/convert/parquet",
                "d/x",
            ),
            ("spaces/o/n@refs%2Fpr%2F7/x@y", "spaces", "o/n", "refs/pr/7", "x@y"),
            ("o/n@refs/pr/7", "models", "o/n", "refs/pr/7", ""),
            ("o/n/x@y/z", "models", "o/n", "main", "x@y/z"),
        ];
        for (rest, kind, id, revision, key) in cases {
            let (written, found) = split(rest).unwrap();
            let repo = Repo { kind, id: id.into(), revision: revision.into() };
            assert_eq!((Repo::of(&written), found.as_str()), (repo, key), "{rest}");
        }
        for rest in
            ["", "o", "o/", "/n/x", "datasets/o", "o/n@/x", "o//x", "../n/x", "o/n?x/y", "a b/n/x"]
        {
            assert!(split(rest).is_err(), "{rest}");
        }
    }
}
