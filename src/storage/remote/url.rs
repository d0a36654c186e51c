//! URLs: taken apart by hand, since keys are the bytes behind the bucket's name and nothing in them
//! is an escape.

use object_store::path::Path;

use crate::error::{Error, Result};

/// A URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub scheme: Scheme,
    /// Bucket or container; the repository as the user wrote it; empty for HTTP.
    pub bucket: String,
    /// The key as the user wrote it; for HTTP the decoded path, without query.
    pub key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    S3,
    Gs,
    Az,
    Hf,
    Http,
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Scheme::S3 => "s3",
            Scheme::Gs => "gs",
            Scheme::Az => "az",
            Scheme::Hf => "hf",
            Scheme::Http => "http",
        }
    }
}

/// Whether the client library can ask this server: it panics where its reader of URLs has
/// objections.
pub(super) fn names_server(url: &str) -> bool {
    let readable = |u: ::url::Url| {
        matches!(u.scheme(), "http" | "https") && u.host_str().is_some_and(|h| !h.is_empty())
    };
    url.parse::<http::Uri>().is_ok() && ::url::Url::parse(url).is_ok_and(readable)
}

pub(super) fn parse(url: &str) -> Result<Target> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| Error::usage("this is not a URL"))?;
    let scheme = match scheme {
        "s3" => Scheme::S3,
        "gs" => Scheme::Gs,
        "az" => Scheme::Az,
        "http" | "https" => {
            let uri: http::Uri = url
                .split('#')
                .next()
                .unwrap_or_default()
                .parse()
                .ok()
                .filter(|_| names_server(url.split('#').next().unwrap_or_default()))
                .ok_or_else(|| {
                    Error::usage("this URL cannot be read")
                        .hint("escape spaces and other special characters with %")
                })?;
            if uri.host().is_none_or(str::is_empty) {
                return Err(Error::usage("the URL has no server"));
            }
            let path = percent_encoding::percent_decode_str(uri.path().trim_start_matches('/'))
                .decode_utf8_lossy()
                .into_owned();
            return Ok(Target { scheme: Scheme::Http, bucket: String::new(), key: path });
        }
        "hf" => {
            let (bucket, key) = super::hub::repo::split(rest)?;
            return Ok(Target { scheme: Scheme::Hf, bucket, key });
        }
        other => {
            return Err(Error::usage(format!("{other}:// is not supported"))
                .hint("supported are s3://, gs://, az://, hf://, http:// and https://"));
        }
    };
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(Error::usage(format!(
            "the URL has no bucket: expected {}://BUCKET/KEY",
            scheme.name()
        )));
    }
    if bucket.contains(['@', '?', '#', ':', ' ', '\\']) {
        return Err(Error::usage(format!("{} is not a bucket's name", mask(bucket))));
    }
    Ok(Target { scheme, bucket: bucket.to_string(), key: key.to_string() })
}

/// What keys below `key` begin with: nothing below the bucket itself.
pub(super) fn prefix(key: &str) -> String {
    match key.trim_end_matches('/') {
        "" => String::new(),
        key => format!("{key}/"),
    }
}

/// The client library's form of a key, byte for byte.
pub(super) fn path(key: &str) -> Result<Path> {
    if key.starts_with('/') || key.contains("//") || key.ends_with("//") {
        return Err(Error::refused("keys with an empty part (//) are not supported"));
    }
    if key.contains(char::is_control) {
        return Err(Error::refused("keys with control characters are not supported"));
    }
    Path::parse(key).map_err(|_| Error::refused("keys with a part . or .. are not supported"))
}

/// Names of query parameters whose values are (parts of) secrets.
fn secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "sig"
        || [
            "signature",
            "token",
            "secret",
            "credential",
            "password",
            "passwd",
            "key",
            "auth",
            "sas",
        ]
        .iter()
        .any(|w| name.contains(w))
}

/// A URL to show: user information and secret query values become `***`.
pub(super) fn mask(url: &str) -> String {
    let without_user = match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            // What is no port is the beginning of a password with a sign in it that should have
            // been escaped.
            let authority = &rest[..end];
            let no_port = |(_, port): (&str, &str)| !port.bytes().all(|b| b.is_ascii_digit());
            let odd = !authority.contains('@')
                && !authority.starts_with('[')
                && authority.rsplit_once(':').is_some_and(no_port);
            let until = if odd { rest.len() } else { end };
            match rest[..until].rfind('@') {
                Some(at) => format!("{scheme}://***{}", &rest[at..]),
                None => url.to_string(),
            }
        }
        None => url.to_string(),
    };
    let (before, query) = match without_user.split_once('?') {
        Some((b, q)) => (b, Some(q)),
        None => (without_user.as_str(), None),
    };
    let mut shown = before.to_string();
    if let Some(query) = query {
        let parts: Vec<String> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, _)) if secret(name) => format!("{name}=***"),
                _ => pair.to_string(),
            })
            .collect();
        shown = format!("{shown}?{}", parts.join("&"));
    }
    shown
}

/// Masks every URL within a text.
pub(super) fn mask_text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (i, word) in text.split(' ').enumerate() {
        if i > 0 {
            shown.push(' ');
        }
        if word.contains("://") { shown.push_str(&mask(word)) } else { shown.push_str(word) }
    }
    shown
}
