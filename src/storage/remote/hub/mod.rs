//! `hf://`: the files of a repository on the Hugging Face Hub, or on what `HF_ENDPOINT` names.
//!
//! A file's address is `ENDPOINT/REPOSITORY/resolve/REVISION/PATH`. The hub answers with the bytes
//! of small files itself, and leads to another server for those of large ones, by a signed address
//! that ends after a while. What names the version (`X-Linked-Etag`, the SHA-256 of the content)
//! comes with that answer. The token is for the hub: no other server is shown it. The revision is
//! taken for the commit that the first answer names (`X-Repo-Commit`), so that all files of a run
//! are of one state.
//! <https://huggingface.co/docs/huggingface_hub/package_reference/file_download>

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Method, StatusCode};
use object_store::client::{HttpClient, HttpRequestBody, HttpResponse};

use super::credentials::check_endpoint;
use super::environment::env;
use super::errors::{Failure, FailureKind};
use super::object::{ObjectResponse, ObjectVersion, broken, content_range};
use super::options::RemoteOptions;
use super::wire;
use crate::error::{Error, ErrorKind, Result, locked};

mod cache;
pub(super) mod repo;
mod token;
mod tree;

use cache::{Cache, CachedRange};
use repo::Repo;

const ENDPOINT: &str = "https://huggingface.co";
/// Redirections that are followed.
const MAX_STEPS: usize = 10;

/// A repository, seen by its files.
pub(super) struct Hub {
    client: HttpClient,
    /// `scheme://host[:port][/path]`, without `/` at its end.
    endpoint: String,
    repo: Repo,
    /// The repository as the user wrote it.
    written: String,
    token: Option<HeaderValue>,
    commit: Arc<Commit>,
    /// Where the bytes of large files are.
    elsewhere: Mutex<HashMap<String, Elsewhere>>,
    cache: Cache,
}

/// The commit that a revision stands for in this process.
#[derive(Default)]
struct Commit {
    /// As soon as an answer has told it.
    known: OnceLock<String>,
    /// Held by whoever asks first.
    asking: tokio::sync::Mutex<()>,
}

/// The address of a file's bytes on another server.
#[derive(Clone)]
struct Elsewhere {
    url: String,
    pin: ObjectVersion,
}

/// An answer of the hub.
struct Answer {
    response: HttpResponse,
    /// What identifies the file, as the hub says.
    pin: ObjectVersion,
    commit: Option<String>,
    /// Where it came from, if that is not the hub.
    elsewhere: Option<String>,
}

fn origin(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    Some((scheme, rest.split(['/', '?', '#']).next()?))
}

impl Hub {
    /// The client for a repository as it was written: `[datasets/]OWNER/NAME[@REVISION]`.
    ///
    /// # Errors
    /// Usage and remote: an endpoint or a token that cannot be, `HF_HUB_OFFLINE`.
    pub fn connect(written: &str, options: &RemoteOptions) -> Result<Hub> {
        if token::is_on("HF_HUB_OFFLINE") {
            return Err(Error::new(ErrorKind::Remote, "HF_HUB_OFFLINE is set")
                .hint("unset it to read hf:// locations"));
        }
        let endpoint = env("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_string());
        check_endpoint(&endpoint).map_err(|e| e.hint("HF_ENDPOINT is a URL as https://HOST"))?;
        let endpoint = endpoint.trim_end_matches('/').to_string();
        let repo = Repo::of(written);
        Ok(Hub {
            client: wire::unredirected(options)?,
            token: token::authorization(options.no_sign_request)?,
            commit: commit_of(&endpoint, &repo),
            endpoint,
            written: written.to_string(),
            repo,
            elsewhere: Mutex::default(),
            cache: Cache::new(),
        })
    }

    fn elsewhere(&self) -> MutexGuard<'_, HashMap<String, Elsewhere>> {
        locked(&self.elsewhere)
    }

    /// The URL to show.
    pub fn display(&self, key: &str) -> String {
        format!("hf://{}/{key}", self.written)
    }
    /// The URL by which others find the same bytes later, too: of the commit that was read.
    pub fn address(&self, key: &str) -> String {
        match self.commit.known.get() {
            Some(commit) => {
                let commit = percent_encoding::utf8_percent_encode(commit, &repo::PART);
                format!("hf://{}@{commit}/{key}", self.repo.in_pages())
            }
            None => self.display(key),
        }
    }

    /// Asks for a range (or all) of a file.
    pub async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<ObjectResponse, Failure> {
        let known = self.elsewhere().get(key).cloned();
        if let Some(known) = known {
            match self.get_elsewhere(&known, range.clone()).await {
                // A signed address ends after a while.
                Err(f)
                    if matches!(
                        f.what,
                        FailureKind::Denied | FailureKind::Missing | FailureKind::BadRange
                    ) =>
                {
                    self.elsewhere().remove(key);
                }
                got => return got,
            }
        }
        let answer = self.resolve(Method::GET, key, range.as_ref()).await?;
        if let Some(url) = answer.elsewhere {
            let found = Elsewhere { url, pin: answer.pin };
            self.elsewhere().insert(key.to_string(), found.clone());
            let got = self.get_elsewhere(&found, range).await;
            return got.map_err(|f| match f.what {
                FailureKind::Denied => {
                    refusal("the server that has the bytes denies access", f, None)
                }
                _ => f,
            });
        }
        got(answer.response, answer.pin)
    }

    /// What identifies a file, without its bytes.
    pub async fn head(&self, key: &str) -> Result<ObjectVersion, Failure> {
        Ok(self.resolve(Method::HEAD, key, None).await?.pin)
    }

    /// Bytes from another server, or kept of an earlier run.
    async fn get_elsewhere(
        &self,
        from: &Elsewhere,
        range: Option<Range<u64>>,
    ) -> Result<ObjectResponse, Failure> {
        let place = range.as_ref().zip(from.pin.len).and_then(|(range, of)| {
            let etag = from.pin.etag.as_deref()?.trim_matches('"').to_string();
            let len = range.end.min(of).checked_sub(range.start)?;
            Some(CachedRange { etag, offset: range.start, len, of })
        });
        if let Some(place) = &place
            && let Some(bytes) = self.cache.get(place)
        {
            let range = Some(place.offset..place.offset + place.len);
            let body = futures_util::stream::iter([Ok(bytes)]).boxed();
            return Ok(ObjectResponse { pin: from.pin.clone(), range, body });
        }
        let mut url = from.url.clone();
        let mut response = self.ask(Method::GET, &url, range.as_ref(), None).await?;
        for _ in 0..MAX_STEPS {
            let Some(next) = leads_to(&response, &url)? else { break };
            response = self.ask(Method::GET, &next, range.as_ref(), None).await?;
            url = next;
        }
        let mut got = got(response, from.pin.clone())?;
        let fits = place.as_ref().zip(got.range.as_ref()).is_some_and(|(place, range)| {
            place.is_header() && *range == (place.offset..place.offset + place.len)
        });
        if let Some(place) = place.filter(|_| fits) {
            got.body = self.kept(place, got.body);
        }
        Ok(got)
    }

    /// A body that is kept when it has come whole.
    fn kept(
        &self,
        place: CachedRange,
        body: futures_util::stream::BoxStream<'static, Result<Bytes, Failure>>,
    ) -> futures_util::stream::BoxStream<'static, Result<Bytes, Failure>> {
        let (cache, mut all) = (self.cache.clone(), Vec::new());
        body.inspect(move |piece| {
            let Ok(bytes) = piece else { return };
            all.extend_from_slice(bytes);
            if all.len() as u64 == place.len {
                cache.put(&place, &all);
            }
        })
        .boxed()
    }

    /// Asks the hub for a file of the revision. The first answer says which commit that is, and
    /// others wait for it: no two files are of different states.
    async fn resolve(
        &self,
        method: Method,
        key: &str,
        range: Option<&Range<u64>>,
    ) -> Result<Answer, Failure> {
        let at = |commit: &str| self.repo.file(commit, key);
        if let Some(known) = self.commit.known.get() {
            return self.follow(method, &at(known), range).await;
        }
        let first = self.commit.asking.lock().await;
        if let Some(known) = self.commit.known.get() {
            drop(first);
            return self.follow(method, &at(known), range).await;
        }
        let answer = self.follow(method, &at(&self.repo.revision), range).await?;
        // Where the hub does not say, each file is known by its ETag alone.
        let commit = answer.commit.clone().unwrap_or_else(|| self.repo.revision.clone());
        self.commit.known.get_or_init(|| commit);
        Ok(answer)
    }

    /// Asks, and goes on to where the hub leads as long as that is the hub: a repository may have
    /// been renamed.
    async fn follow(
        &self,
        method: Method,
        path: &str,
        range: Option<&Range<u64>>,
    ) -> Result<Answer, Failure> {
        let mut url = format!("{}{path}", self.endpoint);
        let (mut pin, mut commit) = (ObjectVersion::default(), None);
        for _ in 0..MAX_STEPS {
            let at_hub = origin(&url) == origin(&self.endpoint);
            let token = self.token.as_ref().filter(|_| at_hub);
            let response = self.ask(method.clone(), &url, range, token).await;
            let response = response.map_err(|f| self.explain(f, at_hub))?;
            let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
            commit = commit.or_else(|| header("x-repo-commit").map(str::to_string));
            let next = leads_to(&response, &url)?;
            pin.etag = pin.etag.or_else(|| {
                let own = header("etag").filter(|_| next.is_none());
                header("x-linked-etag").or(own).map(strong)
            });
            pin.len = pin.len.or_else(|| header("x-linked-size")?.parse().ok());
            let Some(next) = next else {
                if pin.len.is_none() && response.status() != StatusCode::PARTIAL_CONTENT {
                    let header = response.headers().get("content-length");
                    pin.len = header.and_then(|v| v.to_str().ok()?.parse().ok());
                }
                return Ok(Answer { response, pin, commit, elsewhere: None });
            };
            if origin(&next) != origin(&self.endpoint) && pin.etag.is_some() {
                return Ok(Answer { response, pin, commit, elsewhere: Some(next) });
            }
            url = next;
        }
        Err(Failure::new(
            FailureKind::Other,
            "the hub leads from one address to another without end",
        ))
    }

    /// One request.
    async fn ask(
        &self,
        method: Method,
        url: &str,
        range: Option<&Range<u64>>,
        token: Option<&HeaderValue>,
    ) -> Result<HttpResponse, Failure> {
        let mut request =
            http::Request::builder().method(method).uri(url).header("accept-encoding", "identity");
        if let Some(range) = range {
            request = request
                .header("range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let request = request
            .body(HttpRequestBody::empty())
            .map_err(|_| Failure::new(FailureKind::Other, "this URL cannot be asked for"))?;
        self.client.execute(request).await.map_err(|e| Failure::from_http(&e))
    }

    /// A failure in the hub's terms.
    fn explain(&self, failure: Failure, at_hub: bool) -> Failure {
        if !at_hub {
            return failure;
        }
        let Repo { id, revision, .. } = &self.repo;
        let sign_in = self.token.as_ref().map_or(
            "set HF_TOKEN, or sign in (hf auth login); without HF_HUB_DISABLE_IMPLICIT_TOKEN",
            |_| "the token's account must be allowed to read it: set HF_TOKEN, or hf auth login",
        );
        const NAMES: &str = "names are OWNER/NAME, with datasets/ or spaces/ before those";
        let code = failure.code.clone().unwrap_or_default();
        let (message, hint) = match (&*code, failure.status) {
            ("EntryNotFound", _) => return Failure { what: FailureKind::Missing, ..failure },
            ("RevisionNotFound", _) => (
                format!("the repository {id} has no revision {revision}"),
                "a revision is a branch, a tag or a commit".into(),
            ),
            ("GatedRepo", _) => (
                "the repository gives access only to those who ask for it".into(),
                format!("ask at {}/{}; {sign_in}", self.endpoint, self.repo.in_pages()),
            ),
            ("RepoNotFound", _) | ("", Some(401)) if self.token.is_none() => (
                format!("there is no repository {id}, or it is private"),
                format!("{NAMES}; for a private one {sign_in}"),
            ),
            ("RepoNotFound", _) => (
                format!("there is no repository {id} that this token may read"),
                format!("{NAMES}; {sign_in}"),
            ),
            (_, Some(401)) => ("the hub does not accept the token".into(), sign_in.into()),
            (_, Some(403)) => ("the hub denies access".into(), sign_in.into()),
            _ => return failure,
        };
        // Those messages say it all.
        let known = matches!(&*code, "RevisionNotFound" | "RepoNotFound");
        let said = failure.said.clone().filter(|_| !known);
        refusal(&message, Failure { said, ..failure }, Some(hint.into()))
    }
}

/// A failure that says what the hub refuses.
fn refusal(message: &str, failure: Failure, hint: Option<Box<str>>) -> Failure {
    let said = failure.said.as_ref().map(|said| format!(": {said}")).unwrap_or_default();
    Failure { what: FailureKind::Hub, detail: format!("{message}{said}"), hint, ..failure }
}

/// One commit for all who ask for a revision, as long as the process runs.
fn commit_of(endpoint: &str, repo: &Repo) -> Arc<Commit> {
    static COMMITS: Mutex<Option<HashMap<String, Arc<Commit>>>> = Mutex::new(None);
    let mut commits = locked(&COMMITS);
    let name = format!("{endpoint} {} {} {}", repo.kind, repo.id, repo.revision);
    let commit = commits.get_or_insert_default().entry(name).or_default();
    if repo.is_commit() {
        commit.known.get_or_init(|| repo.revision.clone());
    }
    commit.clone()
}

/// An ETag without the mark of a weak one: those of a hub name the content.
fn strong(etag: &str) -> String {
    etag.strip_prefix("W/").unwrap_or(etag).to_string()
}

/// Where a redirection leads.
fn leads_to(response: &HttpResponse, from: &str) -> Result<Option<String>, Failure> {
    if !response.status().is_redirection() {
        return Ok(None);
    }
    let bad =
        || Failure::new(FailureKind::Other, "the server leads to an address that cannot be read");
    let to = response.headers().get("location").and_then(|v| v.to_str().ok()).ok_or_else(bad)?;
    let to = url::Url::parse(from).and_then(|from| from.join(to)).map_err(|_| bad())?;
    if to.scheme() != "https" && (to.scheme() != "http" || from.starts_with("https://")) {
        return Err(Failure::new(
            FailureKind::Other,
            "the server leads to an address that is not protected",
        ));
    }
    Ok(Some(to.to_string()))
}

/// An answer as one to a GET.
fn got(response: HttpResponse, mut pin: ObjectVersion) -> Result<ObjectResponse, Failure> {
    let (parts, body) = response.into_parts();
    let range = match parts.status {
        StatusCode::PARTIAL_CONTENT => {
            let (range, len) = content_range(&parts.headers).ok_or_else(|| {
                Failure::new(
                    FailureKind::Other,
                    "the server answers to a range without saying which",
                )
            })?;
            if len.is_some() && pin.len.is_some() && pin.len != len {
                return Err(Failure::new(FailureKind::Changed, "the length is another one"));
            }
            pin.len = pin.len.or(len);
            Some(range)
        }
        _ => None,
    };
    let body = body.bytes_stream().map(|b| b.map_err(|e| broken(Failure::from_http(&e)))).boxed();
    Ok(ObjectResponse { pin, range, body })
}
