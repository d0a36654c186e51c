//! Whose keys sign requests to S3: found as the AWS CLI finds them.
//!
//! In this order: the keys of the environment, a profile that assumes a role, the environment's web
//! identity token, what else the profile has (web identity, SSO, keys, `credential_process`), the
//! container's address, the instance's metadata. An explicit `--profile` leaves the environment
//! out.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, Connector, tls};
use object_store::aws::AwsCredential;

use super::environment::env;
use super::errors::NoCredentials;
use super::options::RemoteOptions;
use super::profiles::{Profiles, plain_name};
use crate::error::{Error, ErrorKind, Result};

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
    /// All profiles.
    profiles: Profiles,
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
        let profiles = Profiles::read();
        let profile = named.as_deref().unwrap_or("default");
        if let Some(name) = named.as_ref().filter(|_| !profiles.has(profile)) {
            let by = match variables.into_iter().find(|v| !by_flag && env(v).is_some()) {
                Some(variable) => format!(", which {variable} names,"),
                None => String::new(),
            };
            return Err(Error::new(
                ErrorKind::Remote,
                format!(
                    "there is no profile {name}{by} in the AWS configuration or credentials file"
                ),
            )
            .hint("`aws configure list-profiles` lists the profiles"));
        }
        let from_profile = |key: &str| profiles.value(profile, key);
        let ignored = env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
            .is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let configured = || {
            env("AWS_ENDPOINT_URL_S3")
                .or_else(|| env("AWS_ENDPOINT_URL"))
                .or_else(|| profiles.of_services(profile, "s3.endpoint_url"))
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
            ca_bundle: options
                .ca_bundle
                .clone()
                .or_else(|| env("AWS_CA_BUNDLE"))
                .or_else(|| from_profile("ca_bundle")),
            request_payer: options.request_payer,
            no_sign_request: options.no_sign_request,
            assumes: from_profile("role_arn").is_some()
                && (from_profile("source_profile").is_some()
                    || from_profile("credential_source").is_some()),
            explicit: by_flag,
            profile: named,
            profiles,
        })
    }
}

/// The client library panics on an endpoint without scheme.
pub(super) fn check_endpoint(endpoint: &str) -> Result<()> {
    if super::url::names_server(endpoint) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the endpoint {} is not an http:// or https:// URL",
        super::url::mask(endpoint)
    ))
    .hint("as in --endpoint-url http://127.0.0.1:9000"))
}

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
        let AwsSettings { region, profile, explicit, assumes, profiles, ca_bundle, .. } =
            &self.settings;
        let region = aws_config::Region::new(region.clone().unwrap_or_else(|| "us-east-1".into()));
        // What gives out credentials near by is not asked through a proxy.
        let config = ProviderConfig::without_region().with_region(Some(region));
        let near = with_client(config.clone(), ProxyConfig::disabled(), None);
        let far = with_client(config, ProxyConfig::from_env(), ca_bundle.as_deref());
        let mut tried = Vec::new();
        if !explicit {
            if let Some(found) = in_environment()? {
                return Ok(found);
            }
            tried.push("the environment (AWS_ACCESS_KEY_ID)".to_string());
        }
        let token = !explicit && env("AWS_WEB_IDENTITY_TOKEN_FILE").is_some();
        for by_profile in if *assumes { [true, false] } else { [false, true] } {
            let found = if by_profile {
                let name = profile.as_deref().unwrap_or("default");
                if let Some(why) = profiles.no_role(name) {
                    return Err(NoCredentials::new(why));
                }
                let provider = aws_config::profile::ProfileFileCredentialsProvider::builder()
                    .configure(&far)
                    .profile_files(files(profiles))
                    .profile_name(plain_name(name))
                    .build();
                ask(provider, 120, &format!("the profile {name}"), &mut tried).await?
            } else if token {
                if env("AWS_ROLE_ARN").is_none() {
                    return Err(NoCredentials::new(
                        "AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not",
                    ));
                }
                let token =
                    aws_config::web_identity_token::WebIdentityTokenCredentialsProvider::builder()
                        .configure(&far)
                        .build();
                ask(token, 30, "the web identity token", &mut tried).await?
            } else {
                None
            };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        if env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").is_some()
            || env("AWS_CONTAINER_CREDENTIALS_FULL_URI").is_some()
        {
            let container =
                aws_config::ecs::EcsCredentialsProvider::builder().configure(&near).build();
            if let Some(found) =
                ask(container, 10, "the container's credentials", &mut tried).await?
            {
                return Ok(found);
            }
        }
        if env("AWS_EC2_METADATA_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
            tried.push("the instance metadata (switched off by AWS_EC2_METADATA_DISABLED)".into());
        } else {
            let client = aws_config::imds::Client::builder()
                .configure(&near)
                .connect_timeout(Duration::from_secs(1))
                .read_timeout(Duration::from_secs(1))
                .max_attempts(1)
                .build();
            let instance = aws_config::imds::credentials::ImdsCredentialsProvider::builder()
                .configure(&near)
                .imds_client(client)
                .build();
            match tokio::time::timeout(Duration::from_secs(2), instance.provide_credentials()).await
            {
                Ok(Ok(found)) => return Ok(found),
                _ => tried.push("the instance metadata".into()),
            }
        }
        Err(NoCredentials::new(format!("no credentials found; tried {}", tried.join(", "))))
    }
}

/// The keys of the environment; half of them is an error, as another place's keys are not what was
/// meant.
fn in_environment() -> Result<Option<Credentials>, NoCredentials> {
    let Some(id) = env("AWS_ACCESS_KEY_ID") else { return Ok(None) };
    let Some(secret) = env("AWS_SECRET_ACCESS_KEY") else {
        return Err(NoCredentials::new(
            "AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not",
        ));
    };
    let token = env("AWS_SESSION_TOKEN").or_else(|| env("AWS_SECURITY_TOKEN"));
    Ok(Some(Credentials::new(id, secret, token, None, "environment")))
}

/// The profiles for the library that asks SSO, roles and processes; it would be stricter about the
/// files than the AWS CLI.
#[expect(
    deprecated,
    reason = "the same type under its other name is in a crate that is no dependency"
)]
fn files(profiles: &Profiles) -> aws_config::profile::profile_file::ProfileFiles {
    use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
    ProfileFiles::builder().with_contents(ProfileFileKind::Config, profiles.plain_text()).build()
}

/// The services that give out credentials are asked through these proxies, and trusted by the
/// certificates of this file, too.
fn with_client(
    config: ProviderConfig,
    proxies: ProxyConfig,
    ca_bundle: Option<&str>,
) -> ProviderConfig {
    let mut trusted = tls::TrustStore::default();
    // What is wrong with the file was said when the storage's client was set up.
    if let Some(pem) = ca_bundle.and_then(|file| std::fs::read(file).ok()) {
        trusted = trusted.with_pem_certificate(pem);
    }
    let context = tls::TlsContext::builder().with_trust_store(trusted).build().unwrap_or_default();
    config.with_http_client(Builder::new().build_with_connector_fn(move |settings, _| {
        let mut connector = Connector::builder()
            .proxy_config(proxies.clone())
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .tls_context(context.clone());
        connector.set_connector_settings(settings.cloned());
        connector.build()
    }))
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
            Err(NoCredentials {
                message: format!("{name} gives no credentials: {}", super::url::mask_text(&text)),
                expired,
            })
        }
        Err(_) => Err(NoCredentials::new(format!("{name} gave no credentials within {seconds} s"))),
    }
}

#[async_trait]
impl object_store::CredentialProvider for Finder {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut cached = self.cached.lock().await;
        if let Some(c) = cached.as_ref().filter(|c| c.until.is_none_or(|at| at > SystemTime::now()))
        {
            return Ok(c.credential.clone());
        }
        let found = self
            .find()
            .await
            .map_err(|e| object_store::Error::Generic { store: "S3", source: Box::new(e) })?;
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
