//! What can go wrong between here and a server, and the message for it.

use std::error::Error as StdError;
use std::fmt;
use std::time::{Duration, SystemTime};

use object_store::client::{HttpError, HttpErrorKind};

use crate::error::{Error, ErrorKind};

/// The class of a failed request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// No such key.
    Missing,
    /// No such bucket or container.
    NoBucket,
    /// 403, or 401.
    Denied,
    /// Nothing to sign with.
    NoCredentials,
    /// A key or signature that the server does not accept.
    BadCredentials,
    /// A session that has ended.
    Expired,
    /// The bucket lives elsewhere.
    WrongRegion,
    /// Another version of the object than the one that was opened.
    Changed,
    /// Another version of the object than the one that a list names.
    NotListed,
    /// 416: the range begins past the end.
    BadRange,
    /// The upload is not known (any more).
    NoUpload,
    /// 429, SlowDown.
    Throttled,
    /// 5xx.
    Server,
    /// Nothing came for too long.
    Timeout,
    /// The name of the server is not known.
    Dns,
    /// Nobody listens, or the network is away.
    Refused,
    /// The certificate or the handshake.
    Tls,
    /// The connection broke, or the body was short.
    Broken,
    /// The clock of this machine is wrong.
    Clock,
    /// What a hub says of a repository; the detail is the message.
    Hub,
    /// Anything else, in the server's words.
    #[default]
    Other,
}

/// A failed request.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure {
    pub what: FailureKind,
    pub status: Option<u16>,
    /// The server's own code, as `NoSuchKey`.
    pub code: Option<Box<str>>,
    /// In words, without secrets.
    pub detail: String,
    /// The region that the server named.
    pub region: Option<String>,
    pub retry_after: Option<Duration>,
    /// The server's own words.
    pub said: Option<Box<str>>,
    /// What helps, where the place that failed knows.
    pub hint: Option<Box<str>>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl StdError for Failure {}

/// The text between `<tag>` and `</tag>`.
fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let from = text.find(&format!("<{name}>"))? + name.len() + 2;
    let to = from + text[from..].find("</")?;
    Some(text[from..to].trim()).filter(|t| !t.is_empty() && t.len() < 600)
}

/// `"api";r=0;t=55`: the seconds until requests are answered again, where none are left.
fn until_reset(text: &str) -> Option<Duration> {
    let of = |name: &str| text.split(';').find_map(|p| p.trim().strip_prefix(name)?.parse().ok());
    (of("r=") == Some(0)).then(|| wait(&of("t=")?.to_string())).flatten()
}

/// The time in Retry-After, in seconds or as a date; at most an hour.
fn wait(text: &str) -> Option<Duration> {
    const MAX_WAIT: Duration = Duration::from_secs(3600);
    match text.trim().parse::<f64>() {
        Ok(seconds) if seconds >= 0.0 => {
            Some(Duration::try_from_secs_f64(seconds).map_or(MAX_WAIT, |s| s.min(MAX_WAIT)))
        }
        Ok(_) => None,
        Err(_) => Some(
            super::date::http_date(text)?
                .duration_since(SystemTime::now())
                .unwrap_or_default()
                .min(MAX_WAIT),
        ),
    }
}

impl Failure {
    pub fn new(what: FailureKind, detail: impl Into<String>) -> Failure {
        Failure { what, detail: detail.into(), ..Failure::default() }
    }

    /// From an answer that is not a success.
    pub fn from_response(status: u16, headers: &http::HeaderMap, body: &str) -> Failure {
        let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let code = tag(body, "Code")
            .or_else(|| header("x-ms-error-code"))
            .or_else(|| header("x-error-code"))
            .map(Box::from);
        let said =
            tag(body, "Message").or_else(|| header("x-error-message").filter(|m| m.len() < 600));
        let region =
            header("x-amz-bucket-region").or_else(|| tag(body, "Region")).map(str::to_string);
        let what = kind_of(code.as_deref().unwrap_or_default(), status, region.is_some());
        let mut detail = format!("HTTP {status}");
        if let Some(code) = &code {
            detail.push(' ');
            detail.push_str(code);
        }
        if let Some(said) = said {
            detail.push_str(": ");
            detail.push_str(said.trim_end_matches('.'));
        }
        let retry_after = header("retry-after")
            .and_then(wait)
            .or_else(|| header("ratelimit").and_then(until_reset));
        let said = said.map(|said| said.trim_end_matches('.').into());
        Failure { what, status: Some(status), code, detail, region, retry_after, said, hint: None }
    }

    /// From the transport.
    pub fn from_http(error: &HttpError) -> Failure {
        if let Some(known) = find::<Failure>(error) {
            return known.clone();
        }
        let text = chain(error);
        let low = text.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|w| low.contains(w));
        let what = match error.kind() {
            HttpErrorKind::Timeout if has(&["connect"]) => FailureKind::Refused,
            HttpErrorKind::Timeout => FailureKind::Timeout,
            _ if has(&[
                "certificate",
                "invalidcertificate",
                "handshake",
                "tls",
                "corrupt message",
                "unknownissuer",
            ]) =>
            {
                FailureKind::Tls
            }
            HttpErrorKind::Connect
                if has(&[
                    "dns error",
                    "failed to lookup",
                    "name or service not known",
                    "no address",
                ]) =>
            {
                FailureKind::Dns
            }
            HttpErrorKind::Connect => FailureKind::Refused,
            HttpErrorKind::Request | HttpErrorKind::Interrupted | HttpErrorKind::Decode => {
                FailureKind::Broken
            }
            _ if has(&["connection", "incomplete", "body", "reset", "closed", "eof"]) => {
                FailureKind::Broken
            }
            _ => FailureKind::Other,
        };
        // What the layers of the client say of themselves is of no use.
        let cause = ["client error (Connect): ", "client error (SendRequest): "]
            .iter()
            .find_map(|layer| text.split_once(layer));
        let detail = cause.map_or(text.as_str(), |(_, cause)| cause).to_string();
        Failure::new(what, detail)
    }

    /// From the client library: its root cause.
    pub fn from_store(error: &object_store::Error) -> Failure {
        if let Some(none) = find::<NoCredentials>(error) {
            return Failure::new(
                if none.expired { FailureKind::Expired } else { FailureKind::NoCredentials },
                none.to_string(),
            );
        }
        if let Some(http) = find::<HttpError>(error) {
            return Failure::from_http(http);
        }
        let text = chain(error);
        // A success whose body is an error (completing an upload): the code is in the text.
        if tag(&text, "Code").is_some() {
            let mut failure = Failure::from_response(200, &http::HeaderMap::new(), &text);
            if failure.what == FailureKind::Other && !text.contains("AccessDenied") {
                failure.what = FailureKind::Server;
            }
            return failure;
        }
        match error {
            object_store::Error::NotFound { .. } => Failure::new(FailureKind::Missing, text),
            object_store::Error::Precondition { .. } => Failure::new(FailureKind::Changed, text),
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => {
                Failure::new(FailureKind::Denied, text)
            }
            _ if text.contains("non-partial") => {
                Failure::new(FailureKind::Other, "the server does not answer to ranges")
            }
            _ => Failure::new(FailureKind::Other, text),
        }
    }

    /// Whether another try may help, and how many of them at most.
    pub fn tries(&self, asked: u32) -> u32 {
        match self.what {
            FailureKind::Throttled | FailureKind::Server if self.status != Some(501) => asked,
            FailureKind::Timeout | FailureKind::Broken => asked,
            FailureKind::Dns | FailureKind::Refused => asked.min(2),
            _ => 0,
        }
    }

    /// The sentence for the user. A web server has no bucket; that of a hub is a repository, `hf://…`.
    pub fn into_error(self, bucket: &str) -> Error {
        let remote = |message: String| Error::new(ErrorKind::Remote, message);
        let hint = |storage: &'static str, web: &'static str| {
            if bucket.is_empty() || bucket.starts_with("hf://") { web } else { storage }
        };
        let code = self.code.as_deref().map(|c| format!(" ({c})")).unwrap_or_default();
        match self.what {
            FailureKind::Missing => Error::missing("no such object"),
            FailureKind::NoBucket => remote(format!("no such bucket: {bucket}")).hint("check the name, --profile and --endpoint-url"),
            FailureKind::Denied => remote(format!("access denied{code}")).hint(hint(
                "these credentials do not allow it; choose others with --profile, or use --no-sign-request for public data",
                "put USER:PASSWORD@ before the server's name, or use a signed URL that has not expired",
            )),
            FailureKind::NoCredentials => remote(self.detail)
                .hint("give --profile NAME, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --no-sign-request for public data"),
            FailureKind::BadCredentials => remote(format!("the server does not accept the credentials{code}"))
                .hint("check the access key, the secret and --endpoint-url"),
            FailureKind::Expired => remote(format!("the session of the credentials has expired{code}"))
                .hint("sign in again (aws sso login), or renew the session token"),
            FailureKind::WrongRegion => match &self.region {
                Some(region) => remote(format!("the bucket {bucket} is in another region: {region}")).hint(format!("--region {region}")),
                None => remote(format!("the bucket {bucket} is in another region{code}")).hint("give the bucket's --region"),
            },
            FailureKind::Changed => remote("the object was replaced while it was read".into()).hint("run it again"),
            FailureKind::NotListed => Error::missing(format!("this is not the object that was listed: {}", self.detail))
                .hint("it was replaced since: make a new list"),
            FailureKind::BadRange => remote("the object was replaced by a shorter one while it was read".into()).hint("run it again"),
            FailureKind::NoUpload => remote("the server has forgotten the upload".into()).hint("run it again"),
            FailureKind::Throttled => remote(format!("the server asks to slow down{code}; tried again without success"))
                .hint("try again later, or give more --retries"),
            FailureKind::Server => remote(format!("the server failed: {}", self.detail)).hint("try again later, or give more --retries"),
            FailureKind::Timeout => remote("the server stopped answering".into()).hint("check the network, or try again"),
            FailureKind::Dns => remote("the name of the server cannot be resolved".into())
                .because(self)
                .hint(hint("check the bucket's region and --endpoint-url", "check the name and the network")),
            FailureKind::Refused => remote("no connection to the server".into())
                .because(self)
                .hint(hint("check --endpoint-url and the network", "check the URL and the network")),
            FailureKind::Tls => remote("no secure connection to the server".into())
                .because(self)
                .hint("give the certificates to trust with --ca-bundle; --no-verify-ssl trusts any"),
            FailureKind::Broken => remote("the connection broke again and again".into()).because(self).hint("try again, or give more --retries"),
            FailureKind::Clock => remote("the server refuses the time of this machine's clock".into()).hint("set this machine's clock"),
            FailureKind::Hub => match self.hint {
                Some(hint) => remote(self.detail).hint(hint.into_string()),
                None => remote(self.detail),
            },
            FailureKind::Other => remote(self.detail),
        }
    }
}

/// The first cause of this type.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut at = Some(error);
    while let Some(e) = at {
        if let Some(found) = e.downcast_ref::<T>() {
            return Some(found);
        }
        at = e.source();
    }
    None
}

/// All causes in one line, each once.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(e) = at {
        let more = e.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        at = e.source();
    }
    super::url::mask_text(&text)
}

/// What an answer's code, or else its status, says. `names_region`: whether it names another region.
fn kind_of(code: &str, status: u16, names_region: bool) -> FailureKind {
    match (code, status) {
        ("NoSuchKey" | "BlobNotFound" | "NoSuchVersion", _) => FailureKind::Missing,
        (
            "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted" | "InvalidBucketName",
            _,
        ) => FailureKind::NoBucket,
        ("NoSuchUpload", _) => FailureKind::NoUpload,
        (
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "InvalidSecurity"
            | "NotSignedUp"
            | "AuthenticationFailed"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId",
            _,
        ) => FailureKind::BadCredentials,
        (
            "ExpiredToken" | "TokenRefreshRequired" | "ExpiredTokenException" | "RequestExpired",
            _,
        ) => FailureKind::Expired,
        (
            "AuthorizationHeaderMalformed"
            | "PermanentRedirect"
            | "TemporaryRedirect"
            | "IllegalLocationConstraintException",
            _,
        ) => FailureKind::WrongRegion,
        ("RequestTimeTooSkewed", _) => FailureKind::Clock,
        (
            "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests"
            | "RequestLimitExceeded"
            | "BandwidthLimitExceeded"
            | "ServerBusy",
            _,
        ) => FailureKind::Throttled,
        ("InternalError" | "ServiceUnavailable" | "OperationAborted", _) => FailureKind::Server,
        ("RequestTimeout", _) => FailureKind::Broken,
        ("AccessDenied" | "AllAccessDisabled" | "AuthorizationFailure" | "AccountProblem", _) => {
            FailureKind::Denied
        }
        (_, 300..=399) => FailureKind::WrongRegion,
        (_, 400) if names_region => FailureKind::WrongRegion,
        (_, 404 | 410) => FailureKind::Missing,
        (_, 401 | 403) => FailureKind::Denied,
        (_, 412) => FailureKind::Changed,
        (_, 416) => FailureKind::BadRange,
        (_, 429) => FailureKind::Throttled,
        (_, 408) => FailureKind::Broken,
        (_, 500..) => FailureKind::Server,
        _ => FailureKind::Other,
    }
}

/// No credentials, and what was tried.
#[derive(Clone, Debug)]
pub(super) struct NoCredentials {
    pub(super) message: String,
    pub expired: bool,
}

impl NoCredentials {
    pub(super) fn new(message: impl Into<String>) -> NoCredentials {
        NoCredentials { message: message.into(), expired: false }
    }
}

impl fmt::Display for NoCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for NoCredentials {}
