//! Names and URLs of the command line as locations.

use super::options::memory_bytes;
use crate::cli::{self, ReadArgs};
use crate::error::{Error, Result};
use crate::storage::Location;

/// A name or URL on the command line, as the location of an input.
///
/// # Errors
/// Usage: a URL that cannot be.
pub fn input_location(text: &str, args: &ReadArgs) -> Result<Location> {
    if text == "-" {
        return Ok(Location::stdio());
    }
    match remote_location(text, args)? {
        Some(location) => Ok(location),
        None => Location::input(plain_path(text)?),
    }
}

/// The same for a source that is looked at again, or before it is opened: what is known of it is
/// not asked again, and a FIFO is not opened, whose writer would see it closed again.
///
/// # Errors
/// As above.
pub fn known_location(text: &str, args: &ReadArgs) -> Result<Location> {
    #[cfg(feature = "remote")]
    if crate::storage::remote::is_url(text) {
        return crate::storage::remote::locate(text, &remote_options(args)?);
    }
    #[cfg(not(feature = "remote"))]
    let _ = args;
    Ok(Location::local(plain_path(text)?))
}

/// A name or URL of the command line to show: passwords and signatures in URLs are masked.
pub fn shown(text: &str) -> String {
    #[cfg(feature = "remote")]
    if text.contains("://")
        && !["s3://", "gs://", "az://", "hf://", "file://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
    {
        return crate::storage::remote::display(text);
    }
    text.to_string()
}

/// As [`input_location`], for an output.
///
/// # Errors
/// As above.
pub fn output_location(text: &str, args: &ReadArgs) -> Result<Location> {
    if matches!(text, "-" | "/dev/stdout") {
        return Ok(Location::stdio());
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(Error::usage("http:// and https:// can be read, not written")
            .file(shown(text))
            .hint("write to s3://, gs:// or az://"));
    }
    if text.starts_with("hf://") {
        return Err(Error::usage("hf:// can be read, not written")
            .file(text)
            .hint("write a local file, and upload it: hf upload OWNER/NAME FILE"));
    }
    Ok(match remote_location(text, args)? {
        Some(location) => location,
        None => Location::local(plain_path(text)?),
    })
}

/// A local path, without `file://`.
fn plain_path(text: &str) -> Result<&str> {
    if let Some(path) = text.strip_prefix("file://") {
        return Ok(path);
    }
    match text.split_once("://") {
        Some((scheme, _))
            if scheme.len() > 1
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
                && !std::path::Path::new(text).exists() =>
        {
            let error = Error::usage(format!("{scheme}:// is not supported")).file(shown(text));
            Err(error.hint("supported are s3://, gs://, az://, hf://, http:// and https://"))
        }
        _ => Ok(text),
    }
}

#[cfg(feature = "remote")]
fn remote_location(text: &str, args: &ReadArgs) -> Result<Option<Location>> {
    use crate::storage::remote;
    if !remote::is_url(text) {
        return Ok(None);
    }
    remote::open(text, &remote_options(args)?).map(Some)
}

/// The remote flags as the location layer takes them.
///
/// # Errors
/// Usage: sizes.
#[cfg(feature = "remote")]
pub fn remote_options(args: &ReadArgs) -> Result<crate::storage::remote::RemoteOptions> {
    let r = &args.remote;
    Ok(crate::storage::remote::RemoteOptions {
        profile: r.profile.clone(),
        region: r.region.clone(),
        endpoint_url: r.endpoint_url.clone(),
        no_sign_request: r.no_sign_request,
        no_verify_ssl: r.no_verify_ssl,
        ca_bundle: r.ca_bundle.clone(),
        request_payer: r.request_payer,
        virtual_addressing: r.addressing.map(|a| a == cli::Addressing::Virtual),
        retries: r.retries,
        memory_bytes: memory_bytes(args)?,
    })
}

#[cfg(not(feature = "remote"))]
fn remote_location(text: &str, _args: &ReadArgs) -> Result<Option<Location>> {
    match ["s3://", "gs://", "az://", "hf://", "http://", "https://"]
        .iter()
        .any(|s| text.starts_with(s))
    {
        true => Err(Error::refused("this build of npk has no remote access").file(text)),
        false => Ok(None),
    }
}
