//! How remote locations are reached.

/// How remote locations are reached; what is not given comes from the environment and the AWS
/// configuration files.
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
