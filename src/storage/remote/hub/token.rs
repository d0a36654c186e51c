//! Whose token goes with requests: found where huggingface_hub finds it.

use std::path::PathBuf;

use http::HeaderValue;

use super::super::environment::env;
use crate::error::{Error, ErrorKind, Result};

/// A variable that is set to a yes.
pub(super) fn is_on(name: &str) -> bool {
    env(name).is_some_and(|v| ["1", "ON", "YES", "TRUE"].contains(&v.to_uppercase().as_str()))
}

/// A path of the environment; `~` is the home.
fn path(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), env("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(text),
    }
}

/// Where caches are.
pub(super) fn caches() -> Option<PathBuf> {
    match env("XDG_CACHE_HOME") {
        Some(caches) => Some(path(&caches)),
        None => Some(PathBuf::from(env("HOME")?).join(".cache")),
    }
}

/// The file that a login writes the token into.
fn file() -> Option<PathBuf> {
    if let Some(named) = env("HF_TOKEN_PATH") {
        return Some(path(&named));
    }
    match env("HF_HOME") {
        Some(home) => Some(path(&home).join("token")),
        None => Some(caches()?.join("huggingface/token")),
    }
}

/// The value of the header that shows the token, if there is one. A token is never part of a
/// message.
///
/// # Errors
/// Remote: a token that cannot be one.
pub(super) fn authorization(unsigned: bool) -> Result<Option<HeaderValue>> {
    if unsigned || is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    let (token, from) = match env("HF_TOKEN").or_else(|| env("HUGGING_FACE_HUB_TOKEN")) {
        Some(token) => (Some(token), "HF_TOKEN".to_string()),
        None => {
            let Some(file) = file() else { return Ok(None) };
            (std::fs::read_to_string(&file).ok(), file.display().to_string())
        }
    };
    let token = token.unwrap_or_default().trim().to_string();
    if token.is_empty() {
        return Ok(None);
    }
    let value = Some(&token).filter(|t| t.bytes().all(|b| b.is_ascii_graphic()));
    let value = value.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
    let Some(mut value) = value else {
        return Err(Error::new(ErrorKind::Remote, format!("{from} does not hold a token"))
            .hint("sign in again (hf auth login)"));
    };
    value.set_sensitive(true);
    Ok(Some(value))
}
