//! Object storage and HTTP: `s3://`, `gs://`, `az://`, `http(s)://`.

use super::Location;
use crate::error::{Error, Result};

/// How remote locations are reached; what is not given comes from the environment and the AWS configuration files.
#[derive(Clone, Debug, Default)]
pub struct RemoteOptions {
    /// `--profile`.
    pub profile: Option<String>,
    /// `--region`.
    pub region: Option<String>,
    /// `--endpoint-url`.
    pub endpoint_url: Option<String>,
    /// `--no-sign-request`.
    pub no_sign_request: bool,
    /// `--no-verify-ssl`.
    pub no_verify_ssl: bool,
    /// `--ca-bundle`.
    pub ca_bundle: Option<String>,
    /// `--request-payer`.
    pub request_payer: bool,
    /// `--addressing virtual`; `None`: what the endpoint suggests.
    pub virtual_addressing: Option<bool>,
    /// `--retries`.
    pub retries: Option<u32>,
    /// The memory that transfers may use.
    pub memory_bytes: u64,
}

/// Whether this argument is a URL that [`open`] takes.
pub fn is_url(text: &str) -> bool {
    ["s3://", "gs://", "az://", "http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
}

/// The location of a URL. Nothing is asked of the network yet.
///
/// # Errors
/// Usage: a URL that cannot be.
pub fn open(url: &str, _options: &RemoteOptions) -> Result<Location> {
    Err(Error::refused("remote locations are not supported").file(url))
}
