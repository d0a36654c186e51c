//! Requests in transit: how long to wait for an answer, and how it is changed before the client
//! library sees it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::Method;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

use super::errors::{Failure, FailureKind};
use super::odd_keys;
use super::options::RemoteOptions;
use crate::error::{Error, ErrorKind, Result};

/// How long a connection may be silent.
pub(super) fn read_timeout() -> Duration {
    let millis =
        std::env::var("NPK_READ_TIMEOUT_MS").ok().and_then(|v| v.parse().ok()).unwrap_or(45_000);
    Duration::from_millis(millis)
}

/// How long to wait for a connection.
pub(super) fn connect_timeout() -> Duration {
    read_timeout().min(Duration::from_secs(10))
}

/// What servers are told of this program.
pub(super) const USER_AGENT: &str = concat!("npk/", env!("CARGO_PKG_VERSION"));

/// Sends requests, and turns every answer that is not a success into a [`Failure`] with all that
/// the server said.
#[derive(Debug)]
struct Wire {
    reading: HttpClient,
    /// Without a limit on silence: an upload's answer comes when its body has gone through.
    writing: HttpClient,
    read_timeout: Duration,
    /// Redirections are answers, for whoever asks.
    redirects: bool,
}

/// The slowest upload that is waited for, in bytes a second and connection.
const SLOWEST_UPLOAD: u64 = 32 << 10;

/// Answers that are read whole hold no more than this: a page of a listing is the longest of them.
const MAX_ANSWER: usize = 64 << 20;

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let writes = matches!(*request.method(), Method::PUT | Method::POST | Method::DELETE);
        let lists = request.method() == Method::GET
            && request
                .uri()
                .query()
                .is_some_and(|q| q.contains("list-type=") || q.contains("comp=list"));
        let server = request
            .uri()
            .authority()
            .map_or("", |a| a.as_str().rsplit('@').next().unwrap_or_default())
            .to_string();
        let response = if writes {
            let limit = self.read_timeout
                + Duration::from_secs(request.body().content_length() as u64 / SLOWEST_UPLOAD);
            tokio::time::timeout(limit, self.writing.execute(request))
                .await
                .unwrap_or_else(|_| Err(silent()))
        } else {
            self.reading.execute(request).await
        };
        let response = response.map_err(|e| {
            let failure = Failure::from_http(&e);
            let detail = format!("{server}: {}", failure.detail);
            HttpError::new(HttpErrorKind::Unknown, Failure { detail, ..failure })
        })?;
        if self.redirects && response.status().is_redirection() {
            // Read to its end, the connection serves the next request, too.
            let (parts, body) = response.into_parts();
            let _ = tokio::time::timeout(self.read_timeout, read_some(body.bytes_stream())).await;
            return Ok(HttpResponse::from_parts(parts, Bytes::new().into()));
        }
        if response.status().is_success() {
            if !writes && !lists {
                return Ok(response);
            }
            // Headers may come long before what they announce: an upload that is completed tells
            // how it went in the body.
            let (parts, body) = response.into_parts();
            let body = whole(body.bytes_stream(), self.read_timeout).await?;
            let body = if lists { odd_keys::without_odd_keys(body) } else { body };
            return Ok(HttpResponse::from_parts(parts, body.into()));
        }
        let (parts, body) = response.into_parts();
        let said = tokio::time::timeout(self.read_timeout, read_some(body.bytes_stream()))
            .await
            .unwrap_or_default();
        Err(HttpError::new(
            HttpErrorKind::Unknown,
            Failure::from_response(parts.status.as_u16(), &parts.headers, &said),
        ))
    }
}

/// A body to its end; every piece of it must come in time.
pub(super) async fn whole(
    mut body: BoxStream<'static, Result<Bytes, HttpError>>,
    read_timeout: Duration,
) -> Result<Bytes, HttpError> {
    let mut all = Vec::new();
    while let Some(more) =
        tokio::time::timeout(read_timeout, body.next()).await.map_err(|_| silent())?
    {
        all.extend_from_slice(&more?);
        if all.len() > MAX_ANSWER {
            return Err(HttpError::new(
                HttpErrorKind::Unknown,
                Failure::new(FailureKind::Other, "the server's answer does not end"),
            ));
        }
    }
    Ok(all.into())
}

fn silent() -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, Failure::new(FailureKind::Timeout, "no answer in time"))
}

/// The beginning of an error's body.
async fn read_some(mut body: BoxStream<'static, Result<Bytes, HttpError>>) -> String {
    let mut bytes = Vec::new();
    while let Some(Ok(more)) = body.next().await {
        bytes.extend_from_slice(&more[..more.len().min(8192 - bytes.len())]);
        if bytes.len() >= 8192 {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Debug)]
pub(super) struct Connector {
    pub read_timeout: Duration,
}

/// A client that hands redirections back: who follows them decides what each server is shown.
///
/// # Errors
/// Remote: certificates that cannot be read.
pub(super) fn unredirected(options: &RemoteOptions) -> Result<HttpClient, Error> {
    provide_cryptography();
    let read_timeout = read_timeout();
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(connect_timeout())
        .read_timeout(read_timeout)
        .danger_accept_invalid_certs(options.no_verify_ssl);
    if let Some(file) = &options.ca_bundle {
        let trusted = certificates(file, reqwest::Certificate::from_pem_bundle)?;
        builder = builder.tls_certs_merge(trusted);
    }
    let client = builder.build().map_err(|e| {
        Error::new(ErrorKind::Remote, "the client for the hub cannot be set up").because(e)
    })?;
    let client = HttpClient::new(client);
    let wire = Wire { reading: client.clone(), writing: client, read_timeout, redirects: true };
    Ok(HttpClient::new(wire))
}

fn provide_cryptography() {
    // Fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        provide_cryptography();
        let plain = ReqwestConnector::default();
        Ok(HttpClient::new(Wire {
            reading: plain.connect(&options.clone().with_read_timeout(self.read_timeout))?,
            writing: plain.connect(options)?,
            read_timeout: self.read_timeout,
            redirects: false,
        }))
    }
}

/// The certificates of a file, as a client takes them.
pub(super) fn certificates<C, E: std::error::Error + Send + Sync + 'static>(
    file: &str,
    read: impl Fn(&[u8]) -> Result<Vec<C>, E>,
) -> Result<Vec<C>> {
    let bad = |message: &str| Error::new(ErrorKind::Remote, message).file(file);
    let pem = std::fs::read(file).map_err(|e| Error::reading(e).file(file))?;
    let all =
        read(&pem).map_err(|e| bad("a certificate of the CA bundle cannot be read").because(e))?;
    if all.is_empty() {
        return Err(bad("the CA bundle holds no certificate in PEM form"));
    }
    Ok(all)
}
