//! Whose keys sign requests to S3: found as the AWS CLI finds them.
//!
//! In this order: the keys of the environment, a profile that assumes a role, the environment's web identity token, what else
//! the profile has (web identity, SSO, keys, `credential_process`), the container's address, the instance's metadata. An
//! explicit `--profile` leaves the environment out.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use object_store::aws::AwsCredential;

use super::RemoteOptions;
use crate::error::{Error, Kind, Result};

/// What the flags, the environment and the configuration files say about S3.
#[derive(Clone, Debug, Default)]
pub(super) struct AwsSettings {
    pub region: Option<String>,
    pub endpoint: Option<String>,
    pub virtual_addressing: Option<bool>,
    pub ca_bundle: Option<String>,
    pub request_payer: bool,
    pub no_sign_request: bool,
    /// The profile that is named: by the flag or the environment.
    pub profile: Option<String>,
    /// `--profile`, which beats the keys in the environment.
    pub explicit: bool,
    /// The profile assumes a role with the keys of another place.
    pub assumes: bool,
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn aws_file(variable: &str, name: &str) -> Option<PathBuf> {
    match env(variable) {
        Some(path) => match path.strip_prefix("~/") {
            Some(rest) => Some(PathBuf::from(env("HOME")?).join(rest)),
            None => Some(PathBuf::from(path)),
        },
        None => Some(PathBuf::from(env("HOME")?).join(".aws").join(name)),
    }
}

/// Sections of an INI file as the AWS CLI reads it; indented lines belong to the key above (`s3.addressing_style`).
fn ini(text: &str) -> HashMap<String, HashMap<String, String>> {
    let mut sections: HashMap<String, HashMap<String, String>> = HashMap::new();
    let (mut section, mut above) = (String::new(), String::new());
    for line in text.lines() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = bare.strip_prefix('[').and_then(|n| n.split(']').next()) {
            section = name.split_whitespace().collect::<Vec<_>>().join(" ");
            above.clear();
            sections.entry(section.clone()).or_default();
            continue;
        }
        let Some((key, value)) = bare.split_once('=') else { continue };
        let (key, mut value) = (key.trim().to_lowercase(), value.trim());
        for mark in [" #", " ;"] {
            value = value.split(mark).next().unwrap_or_default().trim_end();
        }
        let nested = line.starts_with([' ', '\t']) && !above.is_empty();
        let name = if nested { format!("{above}.{key}") } else { key.clone() };
        if !nested {
            above = if value.is_empty() { key } else { String::new() };
        }
        sections.entry(section.clone()).or_default().insert(name, value.to_string());
    }
    sections
}

/// One profile, from the configuration and the credentials file.
struct Profile {
    found: bool,
    values: HashMap<String, String>,
    services: HashMap<String, String>,
}

fn profile(name: &str) -> Profile {
    let read = |path: Option<PathBuf>| path.and_then(|p| std::fs::read_to_string(p).ok()).map(|t| ini(&t)).unwrap_or_default();
    let mut config = read(aws_file("AWS_CONFIG_FILE", "config"));
    let mut credentials = read(aws_file("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
    let section = config.remove(&format!("profile {name}")).or_else(|| (name == "default").then(|| config.remove("default")).flatten());
    let keys = credentials.remove(name);
    let found = section.is_some() || keys.is_some();
    // What stands in the credentials file beats the configuration.
    let mut values = section.unwrap_or_default();
    values.extend(keys.unwrap_or_default());
    let services = values.get("services").and_then(|s| config.remove(&format!("services {s}"))).unwrap_or_default();
    Profile { found, values, services }
}

impl AwsSettings {
    /// Gathers them.
    ///
    /// # Errors
    /// Usage: a profile that is not there, an endpoint without scheme.
    pub fn gather(options: &RemoteOptions) -> Result<AwsSettings> {
        let explicit = options.profile.clone().filter(|p| !p.is_empty());
        let (by_flag, variables) = (explicit.is_some(), ["AWS_DEFAULT_PROFILE", "AWS_PROFILE"]);
        let named = explicit.or_else(|| variables.into_iter().find_map(env));
        let profile = profile(named.as_deref().unwrap_or("default"));
        if let Some(name) = named.as_ref().filter(|_| !profile.found) {
            let by = match variables.into_iter().find(|v| !by_flag && env(v).is_some()) {
                Some(variable) => format!(", which {variable} names,"),
                None => String::new(),
            };
            return Err(Error::new(Kind::Remote, format!("there is no profile {name}{by} in the AWS configuration or credentials file"))
                .hint("aws configure list-profiles shows the profiles"));
        }
        let from_profile = |key: &str| profile.values.get(key).filter(|v| !v.is_empty()).cloned();
        let ignored = env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let configured = || {
            env("AWS_ENDPOINT_URL_S3")
                .or_else(|| env("AWS_ENDPOINT_URL"))
                .or_else(|| profile.services.get("s3.endpoint_url").cloned())
                .or_else(|| from_profile("endpoint_url"))
                .filter(|_| !ignored)
        };
        let endpoint = options.endpoint_url.clone().filter(|e| !e.is_empty()).or_else(configured);
        if let Some(endpoint) = &endpoint {
            check_endpoint(endpoint)?;
        }
        let addressing = || match from_profile("s3.addressing_style").as_deref() {
            Some("path") => Some(false),
            Some("virtual") => Some(true),
            _ => None,
        };
        Ok(AwsSettings {
            region: options
                .region
                .clone()
                .filter(|r| !r.is_empty())
                .or_else(|| env("AWS_REGION"))
                .or_else(|| env("AWS_DEFAULT_REGION"))
                .or_else(|| from_profile("region")),
            endpoint,
            virtual_addressing: options.virtual_addressing.or_else(addressing),
            ca_bundle: options.ca_bundle.clone().or_else(|| env("AWS_CA_BUNDLE")).or_else(|| from_profile("ca_bundle")),
            request_payer: options.request_payer,
            no_sign_request: options.no_sign_request,
            assumes: from_profile("role_arn").is_some()
                && (from_profile("source_profile").is_some() || from_profile("credential_source").is_some()),
            profile: named,
            explicit: by_flag,
        })
    }
}

/// The client library panics on an endpoint without scheme.
pub(super) fn check_endpoint(endpoint: &str) -> Result<()> {
    let good = endpoint
        .parse::<http::Uri>()
        .is_ok_and(|u| matches!(u.scheme_str(), Some("http" | "https")) && u.host().is_some_and(|h| !h.is_empty()));
    if good {
        return Ok(());
    }
    Err(Error::usage(format!("the endpoint {} is no http:// or https:// URL", super::url::mask(endpoint)))
        .hint("as in --endpoint-url http://127.0.0.1:9000"))
}

/// No credentials, and what was tried.
#[derive(Clone, Debug)]
pub(super) struct NoCredentials {
    message: String,
    pub expired: bool,
}

impl fmt::Display for NoCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for NoCredentials {}

struct Cached {
    credential: Arc<AwsCredential>,
    /// When new ones are asked for.
    until: Option<SystemTime>,
}

/// Finds credentials at the first request and again shortly before they expire.
pub(super) struct Finder {
    settings: AwsSettings,
    cached: tokio::sync::Mutex<Option<Cached>>,
}

impl fmt::Debug for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Finder")
    }
}

/// New ones are asked for this long before the old ones end.
const EARLY: Duration = Duration::from_secs(300);

impl Finder {
    pub fn new(settings: &AwsSettings) -> Finder {
        Finder { settings: settings.clone(), cached: tokio::sync::Mutex::new(None) }
    }

    /// Those in hand are of no use any more.
    pub fn forget(&self) -> bool {
        if let Ok(mut cached) = self.cached.try_lock() {
            *cached = None;
        }
        true
    }

    async fn find(&self) -> Result<Credentials, NoCredentials> {
        let AwsSettings { region, profile, explicit, assumes, .. } = &self.settings;
        let region = aws_config::Region::new(region.clone().unwrap_or_else(|| "us-east-1".into()));
        let mut config = ProviderConfig::without_region().with_region(Some(region));
        if let Some(file) = &self.settings.ca_bundle {
            config = trusting(config, file);
        }
        let mut tried = Vec::new();
        let environment = aws_config::environment::EnvironmentVariableCredentialsProvider::new();
        if !explicit && let Some(found) = ask(environment, 5, "the environment (AWS_ACCESS_KEY_ID)", &mut tried).await? {
            return Ok(found);
        }
        let token = !explicit && env("AWS_WEB_IDENTITY_TOKEN_FILE").is_some();
        for by_profile in if *assumes { [true, false] } else { [false, true] } {
            let found = if by_profile {
                let name = profile.as_deref().unwrap_or("default");
                let provider = aws_config::profile::ProfileFileCredentialsProvider::builder().configure(&config).profile_name(name).build();
                ask(provider, 120, &format!("the profile {name}"), &mut tried).await?
            } else if token {
                let token = aws_config::web_identity_token::WebIdentityTokenCredentialsProvider::builder().configure(&config).build();
                ask(token, 30, "the web identity token", &mut tried).await?
            } else {
                None
            };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        if env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").is_some() || env("AWS_CONTAINER_CREDENTIALS_FULL_URI").is_some() {
            let container = aws_config::ecs::EcsCredentialsProvider::builder().configure(&config).build();
            if let Some(found) = ask(container, 10, "the container's credentials", &mut tried).await? {
                return Ok(found);
            }
        }
        if env("AWS_EC2_METADATA_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
            tried.push("the instance metadata (switched off by AWS_EC2_METADATA_DISABLED)".into());
        } else {
            let client = aws_config::imds::Client::builder()
                .configure(&config)
                .connect_timeout(Duration::from_secs(1))
                .read_timeout(Duration::from_secs(1))
                .max_attempts(1)
                .build();
            let instance = aws_config::imds::credentials::ImdsCredentialsProvider::builder().configure(&config).imds_client(client).build();
            match tokio::time::timeout(Duration::from_secs(2), instance.provide_credentials()).await {
                Ok(Ok(found)) => return Ok(found),
                _ => tried.push("the instance metadata".into()),
            }
        }
        Err(NoCredentials { message: format!("no credentials found; tried {}", tried.join(", ")), expired: false })
    }
}

/// The services that give out credentials are trusted by the certificates of this file, too.
fn trusting(config: ProviderConfig, file: &str) -> ProviderConfig {
    use aws_smithy_http_client::{Builder, tls};
    // What is wrong with the file was said when the storage's client was set up.
    let Ok(pem) = std::fs::read(file) else { return config };
    let store = tls::TrustStore::default().with_pem_certificate(pem);
    let Ok(context) = tls::TlsContext::builder().with_trust_store(store).build() else { return config };
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    config.with_http_client(Builder::new().tls_provider(provider).tls_context(context).build_https())
}

/// Asks one provider: `None` where it has nothing to say.
async fn ask(
    provider: impl ProvideCredentials,
    seconds: u64,
    name: &str,
    tried: &mut Vec<String>,
) -> Result<Option<Credentials>, NoCredentials> {
    match tokio::time::timeout(Duration::from_secs(seconds), provider.provide_credentials()).await {
        Ok(Ok(found)) => Ok(Some(found)),
        Ok(Err(CredentialsError::CredentialsNotLoaded(_))) => {
            tried.push(name.to_string());
            Ok(None)
        }
        Ok(Err(error)) => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(c) = cause {
                let more = c.to_string();
                if !text.contains(&more) {
                    text = format!("{text}: {more}");
                }
                cause = c.source();
            }
            let expired = text.to_lowercase().contains("expired") || text.contains("sso login");
            Err(NoCredentials { message: format!("{name} gives no credentials: {}", super::url::mask_text(&text)), expired })
        }
        Err(_) => Err(NoCredentials { message: format!("{name} gave no credentials within {seconds} s"), expired: false }),
    }
}

#[async_trait]
impl object_store::CredentialProvider for Finder {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut cached = self.cached.lock().await;
        if let Some(c) = cached.as_ref().filter(|c| c.until.is_none_or(|at| at > SystemTime::now())) {
            return Ok(c.credential.clone());
        }
        let found = self.find().await.map_err(|e| object_store::Error::Generic { store: "S3", source: Box::new(e) })?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_string(),
            secret_key: found.secret_access_key().to_string(),
            token: found.session_token().map(str::to_string),
        });
        let now = SystemTime::now();
        let until = found.expiry().map(|end| {
            let left = end.duration_since(now).unwrap_or_default();
            now + left - EARLY.min(left / 4)
        });
        *cached = Some(Cached { credential: credential.clone(), until });
        Ok(credential)
    }
}
