//! The clients of the services, and one way to ask for bytes of all of them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::{HeaderValue, Method};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpClient, HttpConnector, HttpRequestBody};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, GetOptions, GetRange, ObjectStore, RetryConfig,
};

use super::credentials::{AwsSettings, Finder, check_endpoint};
use super::date::http_date;
use super::environment::{env, machine_of};
use super::errors::{Failure, FailureKind};
use super::hub::Hub;
use super::object::{ObjectResponse, ObjectVersion, broken, content_range};
use super::options::RemoteOptions;
use super::url::{Scheme, Target, path};
use super::wire::{Connector, USER_AGENT, certificates, connect_timeout, read_timeout};
use crate::error::{Error, ErrorKind, Result};

fn client_options(
    allow_http: bool,
    no_verify_ssl: bool,
    ca_bundle: Option<&str>,
) -> Result<ClientOptions> {
    let mut options = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(connect_timeout())
        .with_allow_http(allow_http)
        .with_allow_invalid_certificates(no_verify_ssl)
        .with_user_agent(HeaderValue::from_static(USER_AGENT));
    if let Some(file) = ca_bundle {
        for certificate in certificates(file, Certificate::from_pem_bundle)? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

/// Retries are made here, part by part, not in the client.
fn no_retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 0,
        retry_timeout: Duration::from_secs(3600),
    }
}

/// The object storages.
#[derive(Clone)]
pub(super) struct Objects {
    pub store: Arc<dyn ObjectStore>,
    pub parts: Arc<dyn MultipartStore>,
    pub pages: Arc<dyn PaginatedListStore>,
    /// Whose credentials may have to be looked for again.
    finder: Option<Arc<Finder>>,
}

impl Objects {
    fn of<T: ObjectStore + MultipartStore + PaginatedListStore>(store: T) -> Objects {
        let store = Arc::new(store);
        Objects { store: store.clone(), parts: store.clone(), pages: store, finder: None }
    }
}

/// A server that is asked by URL.
pub(super) struct Site {
    client: HttpClient,
    /// `scheme://host:port`.
    origin: String,
    query: Option<String>,
    /// The key that was given, and its URL as the user wrote it.
    key: String,
    url: String,
    authorization: Option<HeaderValue>,
}

/// What to ask.
pub(super) enum Service {
    Objects(Objects),
    Hub(Box<Hub>),
    Site(Site),
}

fn setup(error: object_store::Error) -> Error {
    Error::new(ErrorKind::Remote, "the storage client cannot be set up")
        .because(Failure::from_store(&error))
}

pub(super) fn connect(target: &Target, url: &str, options: &RemoteOptions) -> Result<Service> {
    // The client's builders look for a runtime.
    let _inside = super::runtime::runtime()?.enter();
    let connector = Connector { read_timeout: read_timeout() };
    match target.scheme {
        Scheme::S3 => Ok(Service::Objects(s3(&target.bucket, options, connector)?)),
        Scheme::Gs => Ok(Service::Objects(gs(&target.bucket, options, connector)?)),
        Scheme::Az => Ok(Service::Objects(az(&target.bucket, options, connector)?)),
        Scheme::Hf => Ok(Service::Hub(Box::new(Hub::connect(&target.bucket, options)?))),
        Scheme::Http => site(&target.key, url, options, &connector).map(Service::Site),
    }
}

fn s3(bucket: &str, options: &RemoteOptions, connector: Connector) -> Result<Objects> {
    let settings = AwsSettings::gather(options)?;
    // China is a place of its own.
    let partition = settings
        .region
        .as_deref()
        .filter(|r| r.starts_with("cn-"))
        .map(|r| format!("https://s3.{r}.amazonaws.com.cn"));
    let endpoint =
        settings.endpoint.as_deref().or(partition.as_deref()).map(|e| e.trim_end_matches('/'));
    let client = client_options(
        endpoint.is_some_and(|e| e.starts_with("http://")),
        options.no_verify_ssl,
        settings.ca_bundle.as_deref(),
    )?;
    let region = settings.region.clone().unwrap_or_else(|| "us-east-1".into());
    if !region.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
        return Err(Error::usage(format!("{region} is not the name of a region"))
            .hint("as in --region eu-central-1"));
    }
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region)
        .with_client_options(client)
        .with_retry(no_retries())
        .with_request_payer(settings.request_payer)
        .with_disable_tagging(true)
        .with_http_connector(connector);
    // The usual form of the host is the bucket's own, where the name allows it.
    let plain_name =
        bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let own_host = settings.virtual_addressing.unwrap_or(settings.endpoint.is_none() && plain_name);
    if own_host && !super::url::names_server(&format!("https://{bucket}.s3.amazonaws.com")) {
        return Err(Error::usage(format!("{bucket} cannot be part of a server's name"))
            .hint("--addressing path"));
    }
    builder = builder.with_virtual_hosted_style_request(own_host);
    if let Some(endpoint) = endpoint {
        builder = builder.with_disable_bulk_delete(true);
        builder = match endpoint.split_once("://") {
            Some((scheme, host)) if own_host => {
                builder.with_endpoint(format!("{scheme}://{bucket}.{host}"))
            }
            _ => builder.with_endpoint(endpoint),
        };
    }
    if bucket.ends_with("--x-s3") {
        builder = builder.with_s3_express(true);
    }
    if settings.no_sign_request {
        return Ok(Objects::of(builder.with_skip_signature(true).build().map_err(setup)?));
    }
    let finder = Arc::new(Finder::new(&settings));
    let objects = Objects::of(builder.with_credentials(finder.clone()).build().map_err(setup)?);
    Ok(Objects { finder: Some(finder), ..objects })
}

fn gs(bucket: &str, options: &RemoteOptions, connector: Connector) -> Result<Objects> {
    let variables = [
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_BEARER_TOKEN",
        "SERVICE_ACCOUNT",
    ];
    let by_gcloud = || {
        let home = env("HOME")?;
        std::path::Path::new(&home)
            .join(".config/gcloud/application_default_credentials.json")
            .exists()
            .then_some(())
    };
    let some = variables.iter().any(|v| env(v).is_some())
        || by_gcloud().is_some()
        || env("GCE_METADATA_HOST").is_some()
        || machine_of("Google");
    if !some && !options.no_sign_request {
        return Err(Error::new(
            ErrorKind::Remote,
            "no Google credentials found; tried GOOGLE_APPLICATION_CREDENTIALS, GOOGLE_SERVICE_ACCOUNT, the login of gcloud, the instance metadata",
        )
        .hint("run gcloud auth application-default login, or use --no-sign-request for public data"));
    }
    let endpoint = options.endpoint_url.clone().filter(|e| !e.is_empty()).or_else(|| {
        env("STORAGE_EMULATOR_HOST")
            .map(|h| if h.contains("://") { h } else { format!("http://{h}") })
    });
    let allow_http = endpoint.as_deref().is_some_and(|e| e.starts_with("http://"));
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client_options(
            allow_http,
            options.no_verify_ssl,
            options.ca_bundle.as_deref(),
        )?)
        .with_retry(no_retries())
        .with_skip_signature(options.no_sign_request)
        .with_http_connector(connector);
    if let Some(endpoint) = &endpoint {
        check_endpoint(endpoint)?;
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    builder.build().map(Objects::of).map_err(|e| {
        setup(e).hint("set GOOGLE_APPLICATION_CREDENTIALS to a key file, run gcloud auth application-default login, or use --no-sign-request for public data")
    })
}

fn az(container: &str, options: &RemoteOptions, connector: Connector) -> Result<Objects> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(container);
    let (mut account, mut endpoint) =
        (env("AZURE_STORAGE_ACCOUNT_NAME").or_else(|| env("AZURE_STORAGE_ACCOUNT")), None);
    if let Some(key) = env("AZURE_STORAGE_KEY") {
        builder = builder.with_access_key(key);
    }
    if let Some(text) = env("AZURE_STORAGE_CONNECTION_STRING") {
        let fields: Vec<(&str, &str)> = text.split(';').filter_map(|p| p.split_once('=')).collect();
        let field = |name: &str| {
            fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_string())
        };
        account = field("AccountName").or(account);
        if let Some(key) = field("AccountKey") {
            builder = builder.with_access_key(key);
        } else if let Some(sas) = field("SharedAccessSignature") {
            builder = builder.with_sas_authorization(pairs(&sas));
        }
        endpoint = field("BlobEndpoint").or_else(|| {
            let suffix = field("EndpointSuffix")?;
            Some(format!(
                "{}://{}.blob.{suffix}",
                field("DefaultEndpointsProtocol").unwrap_or_else(|| "https".into()),
                account.as_deref()?
            ))
        });
    } else if let Some(sas) = env("AZURE_STORAGE_SAS_TOKEN") {
        builder = builder.with_sas_authorization(pairs(&sas));
    }
    let endpoint = options.endpoint_url.clone().filter(|e| !e.is_empty()).or(endpoint);
    let allow_http = endpoint.as_deref().is_some_and(|e| e.starts_with("http://"));
    let Some(account) = account else {
        return Err(Error::new(ErrorKind::Remote, "no Azure storage account is named")
            .hint("set AZURE_STORAGE_ACCOUNT (with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN), or AZURE_STORAGE_CONNECTION_STRING"));
    };
    if !options.no_sign_request {
        builder = with_login(builder)?;
    }
    builder = builder
        .with_account(account)
        .with_client_options(client_options(
            allow_http,
            options.no_verify_ssl,
            options.ca_bundle.as_deref(),
        )?)
        .with_retry(no_retries())
        .with_allow_http(allow_http)
        .with_skip_signature(options.no_sign_request)
        .with_http_connector(connector);
    if let Some(endpoint) = endpoint {
        check_endpoint(&endpoint)?;
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_string());
    }
    builder.build().map(Objects::of).map_err(setup)
}

/// With the login of the Azure CLI, where nothing else names credentials.
///
/// # Errors
/// Where there are none, not those of a machine either.
fn with_login(builder: MicrosoftAzureBuilder) -> Result<MicrosoftAzureBuilder> {
    let variables = [
        "STORAGE_KEY",
        "STORAGE_ACCOUNT_KEY",
        "STORAGE_ACCESS_KEY",
        "STORAGE_SAS_TOKEN",
        "STORAGE_SAS_KEY",
        "STORAGE_CONNECTION_STRING",
        "STORAGE_TOKEN",
        "STORAGE_CLIENT_ID",
        "CLIENT_ID",
        "FEDERATED_TOKEN_FILE",
        "MSI_ENDPOINT",
        "IDENTITY_ENDPOINT",
    ];
    let is_set = |v: &&str| env(&format!("AZURE_{v}")).is_some();
    if variables.iter().any(is_set) || env("IDENTITY_ENDPOINT").is_some() {
        return Ok(builder);
    }
    let has_az = env("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|directory| directory.join("az").exists())
    });
    if has_az {
        return Ok(builder.with_use_azure_cli(true));
    }
    if machine_of("Microsoft") {
        return Ok(builder);
    }
    Err(Error::new(
        ErrorKind::Remote,
        "no Azure credentials found; tried AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_CONNECTION_STRING, AZURE_CLIENT_ID, the login of az, the instance metadata",
    )
    .hint("run az login, or use --no-sign-request for public data"))
}

/// The parameters of a shared access signature.
fn pairs(sas: &str) -> Vec<(String, String)> {
    let text = |s: &str| percent_encoding::percent_decode_str(s).decode_utf8_lossy().into_owned();
    sas.trim_start_matches('?')
        .split('&')
        .filter_map(|p| p.split_once('='))
        .map(|(n, v)| (text(n), text(v)))
        .collect()
}

fn site(key: &str, url: &str, options: &RemoteOptions, connector: &Connector) -> Result<Site> {
    let url = url.split('#').next().unwrap_or_default();
    let bad = || Error::usage("this URL cannot be read");
    let uri: http::Uri = url.parse().map_err(|_| bad())?;
    let (scheme, authority) =
        (uri.scheme_str().ok_or_else(bad)?, uri.authority().ok_or_else(bad)?.as_str());
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(u), h));
    let authorization = match user {
        Some(user) => {
            use base64::Engine;
            let plain: Vec<u8> = percent_encoding::percent_decode_str(user).collect();
            let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain));
            let mut value = HeaderValue::from_str(&text).map_err(|_| bad())?;
            value.set_sensitive(true);
            Some(value)
        }
        None => None,
    };
    let origin = format!("{scheme}://{host}");
    let as_given = format!("{origin}{}", uri.path_and_query().map_or("/", |p| p.as_str()));
    let client = connector
        .connect(&client_options(true, options.no_verify_ssl, options.ca_bundle.as_deref())?)
        .map_err(setup)?;
    Ok(Site {
        client,
        origin,
        query: uri.query().map(str::to_string),
        key: key.to_string(),
        url: as_given,
        authorization,
    })
}

impl Service {
    /// Looks for credentials again at the next request; says whether that is of use.
    pub fn renew(&self) -> bool {
        match self {
            Service::Objects(Objects { finder: Some(finder), .. }) => finder.forget(),
            _ => false,
        }
    }
    /// Asks for a range (or all) of an object, of the version `pin` if given.
    pub async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        pin: Option<&ObjectVersion>,
    ) -> Result<ObjectResponse, Failure> {
        let got = match self {
            Service::Objects(o) => o.get(key, range, pin, false).await?,
            Service::Hub(h) => h.get(key, range).await?,
            Service::Site(s) => s.get(Method::GET, key, range, pin).await?,
        };
        match pin {
            Some(pin) if !pin.fits(&got.pin) => {
                Err(Failure::new(FailureKind::Changed, "another version"))
            }
            _ => Ok(got),
        }
    }
    /// Asks what is there, without bytes.
    pub async fn head(&self, key: &str) -> Result<ObjectVersion, Failure> {
        let got = match self {
            Service::Objects(o) => o.get(key, None, None, true).await?,
            Service::Hub(h) => return h.head(key).await,
            Service::Site(s) => s.get(Method::HEAD, key, None, None).await?,
        };
        Ok(got.pin)
    }
}

impl Objects {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        pin: Option<&ObjectVersion>,
        head: bool,
    ) -> Result<ObjectResponse, Failure> {
        let path = path(key).map_err(|e| Failure::new(FailureKind::Other, e.message()))?;
        let options = GetOptions {
            range: range.map(GetRange::Bounded),
            if_match: pin.and_then(ObjectVersion::strong).map(str::to_string),
            head,
            ..GetOptions::default()
        };
        let got = self.store.get_opts(&path, options).await.map_err(|e| Failure::from_store(&e))?;
        let pin = ObjectVersion {
            etag: got.meta.e_tag.clone(),
            modified: Some(got.meta.last_modified.into()),
            len: Some(got.meta.size),
        };
        let range = Some(got.range.clone());
        let body =
            got.into_stream().map(|b| b.map_err(|e| broken(Failure::from_store(&e)))).boxed();
        Ok(ObjectResponse { pin, range, body })
    }
}

/// All that must be escaped in a path.
const PATH: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'=')
    .remove(b',')
    .remove(b'@');

impl Site {
    fn url(&self, key: &str) -> String {
        if key == self.key {
            return self.url.clone();
        }
        let path = percent_encoding::utf8_percent_encode(key, &PATH);
        match &self.query {
            Some(query) => format!("{}/{path}?{query}", self.origin),
            None => format!("{}/{path}", self.origin),
        }
    }
    /// The URL to show.
    pub fn display(&self, key: &str) -> String {
        let url = super::url::mask(&self.url(key));
        match (&self.authorization, url.split_once("://")) {
            (Some(_), Some((scheme, rest))) => format!("{scheme}://***@{rest}"),
            _ => url,
        }
    }

    async fn get(
        &self,
        method: Method,
        key: &str,
        range: Option<Range<u64>>,
        pin: Option<&ObjectVersion>,
    ) -> Result<ObjectResponse, Failure> {
        // Ranges are of the bytes that are stored, not of what a server makes of them on the way.
        let mut request = http::Request::builder()
            .method(method)
            .uri(self.url(key))
            .header("accept-encoding", "identity");
        if let Some(range) = &range {
            request = request
                .header("range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        if let Some(etag) = pin.and_then(ObjectVersion::strong) {
            request = request.header("if-match", etag);
        }
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        let request = request
            .body(HttpRequestBody::empty())
            .map_err(|_| Failure::new(FailureKind::Other, "this URL cannot be asked for"))?;
        let response = self.client.execute(request).await.map_err(|e| Failure::from_http(&e))?;
        let (parts, body) = response.into_parts();
        let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok());
        let mut pin = ObjectVersion {
            etag: header("etag").map(str::to_string),
            modified: header("last-modified").and_then(http_date),
            len: None,
        };
        let range = if parts.status == http::StatusCode::PARTIAL_CONTENT {
            let (range, len) = content_range(&parts.headers).ok_or_else(|| {
                Failure::new(
                    FailureKind::Other,
                    "the server answers to a range without saying which",
                )
            })?;
            pin.len = len;
            Some(range)
        } else {
            pin.len = header("content-length").and_then(|l| l.parse().ok());
            None
        };
        let body =
            body.bytes_stream().map(|b| b.map_err(|e| broken(Failure::from_http(&e)))).boxed();
        Ok(ObjectResponse { pin, range, body })
    }
}
