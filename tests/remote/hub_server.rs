//! A hub in the test process: repositories with commits, and a second server for large files.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use sha2::{Digest, Sha256};

use crate::support::Scratch;

/// Larger files are on the other server.
const LARGE: usize = 1000;
/// Entries of a page of a listing.
const PAGE: usize = 2;
pub const TOKEN: &str = "hf_testtoken";

pub type Files = BTreeMap<String, Vec<u8>>;

/// Who may read a repository.
#[derive(Clone, Copy, PartialEq)]
pub enum Access {
    Everybody,
    /// Whoever shows the token.
    Private,
    /// Those who were let in: nobody.
    Gated,
}

struct Repo {
    access: Access,
    revisions: HashMap<String, String>,
    commits: HashMap<String, Files>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// To the server of large files.
    pub elsewhere: bool,
    pub uri: String,
    pub headers: HeaderMap,
    /// Bytes of the answer's body.
    pub bytes: usize,
}

impl Asked {
    pub fn has_token(&self) -> bool {
        self.headers.contains_key("authorization")
    }
}

type Hook = Box<dyn Fn(&State) + Send + Sync>;

pub struct State {
    repos: Mutex<HashMap<String, Repo>>,
    renamed: Mutex<HashMap<String, String>>,
    log: Mutex<Vec<Asked>>,
    /// Signed addresses of other generations have ended.
    generation: AtomicUsize,
    /// Happens after the first answer that has bytes of a large file.
    hook: Mutex<Option<Hook>>,
    /// So many requests to the hub are told to come later.
    busy: AtomicUsize,
    elsewhere: Mutex<String>,
    /// What it calls itself in its links.
    name: Mutex<String>,
}

impl State {
    pub fn end_addresses(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
    /// A new commit of a revision.
    pub fn commit(&self, repo: &str, revision: &str, files: Files) -> String {
        let mut repos = self.repos.lock().unwrap();
        let repo = repos.entry(repo.to_string()).or_insert_with(|| Repo {
            access: Access::Everybody,
            revisions: HashMap::new(),
            commits: HashMap::new(),
        });
        let commit = hex(format!("{revision}{}", repo.commits.len()).as_bytes())[..40].to_string();
        repo.commits.insert(commit.clone(), files);
        repo.revisions.insert(revision.to_string(), commit.clone());
        commit
    }
}

pub struct Hub {
    pub state: Arc<State>,
    endpoint: String,
    pub home: Scratch,
    _runtime: tokio::runtime::Runtime,
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

type Answer = Response<Full<Bytes>>;

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(Full::new(body.into())).unwrap()
}

fn refused(status: u16, code: &str, message: &str) -> Answer {
    answer(status, &[("x-error-code", code), ("x-error-message", message)], message.to_string())
}

/// The whole, or the range that is asked for.
fn ranged(bytes: &[u8], headers: &HeaderMap, more: &[(&str, &str)]) -> Answer {
    let range = headers.get("range").and_then(|v| {
        let (first, last) = v.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
    });
    let Some((first, last)) = range else { return answer(200, more, bytes.to_vec()) };
    if first >= bytes.len() {
        return answer(416, more, "");
    }
    let end = (last + 1).min(bytes.len());
    let told = format!("bytes {first}-{}/{}", end - 1, bytes.len());
    let mut all = more.to_vec();
    all.push(("content-range", &told));
    answer(206, &all, bytes[first..end].to_vec())
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

impl State {
    fn hub(&self, request: &Request<Incoming>) -> Answer {
        if self.busy.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return answer(429, &[("ratelimit", "\"resolvers\";r=0;t=0")], "");
        }
        let path = request.uri().path().trim_start_matches('/').to_string();
        let (api, rest) = match path.strip_prefix("api/") {
            Some(rest) => (true, rest.to_string()),
            None => (false, path),
        };
        let mut parts: Vec<String> = rest.split('/').map(decoded).collect();
        if !api && parts[0] != "datasets" {
            parts.insert(0, "models".into());
        }
        let id = parts[..3].join("/");
        if let Some(new) = self.renamed.lock().unwrap().get(&id) {
            let to = request.uri().path().replace(&parts[1..3].join("/"), new);
            return answer(307, &[("location", &to)], "Temporary Redirect");
        }
        let repos = self.repos.lock().unwrap();
        let token = request.headers().get("authorization").map(|v| v.to_str().unwrap().to_string());
        if token.as_ref().is_some_and(|t| t != &format!("Bearer {TOKEN}")) {
            return refused(401, "", "Invalid credentials in Authorization header");
        }
        let Some(repo) = repos.get(&id).filter(|r| r.access != Access::Private || token.is_some())
        else {
            let status = if token.is_some() { 404 } else { 401 };
            return refused(status, "RepoNotFound", "Repository not found");
        };
        let revision = &parts[4];
        let commit = repo.revisions.get(revision).unwrap_or(revision);
        let Some(files) = repo.commits.get(commit) else {
            return refused(404, "RevisionNotFound", "Invalid rev id");
        };
        match parts[3].as_str() {
            "revision" => answer(200, &[], format!("{{\"id\":\"x\",\"sha\":\"{commit}\"}}")),
            "tree" => tree(files, &parts[5..].join("/"), request, &self.name.lock().unwrap()),
            "resolve" if repo.access == Access::Gated => {
                refused(403, "GatedRepo", "Access to this model is restricted.")
            }
            "resolve" => self.file(files, commit, &parts[5..].join("/"), request),
            other => panic!("{other}"),
        }
    }

    fn file(&self, files: &Files, commit: &str, path: &str, request: &Request<Incoming>) -> Answer {
        let Some(bytes) = files.get(path) else {
            return refused(404, "EntryNotFound", "Entry not found");
        };
        if bytes.len() <= LARGE {
            let etag = format!("W/\"{}\"", &hex(bytes)[..40]);
            let more = [("etag", etag.as_str()), ("x-repo-commit", commit)];
            return ranged(bytes, request.headers(), &more);
        }
        let (sum, len) = (hex(bytes), bytes.len().to_string());
        let generation = self.generation.load(Ordering::SeqCst);
        let to = format!("{}/blob/{sum}?signature={generation}", self.elsewhere.lock().unwrap());
        let headers = [
            ("location", to.as_str()),
            ("x-repo-commit", commit),
            ("x-linked-etag", &format!("\"{sum}\"")),
            ("x-linked-size", &len),
        ];
        answer(302, &headers, "Found. Redirecting")
    }

    /// The server of large files: it knows checksums alone.
    fn blob(&self, request: &Request<Incoming>) -> Answer {
        let signature = format!("signature={}", self.generation.load(Ordering::SeqCst));
        if request.uri().query() != Some(&signature) {
            return answer(403, &[], "<Error><Code>AccessDenied</Code></Error>");
        }
        let sum = request.uri().path().trim_start_matches("/blob/").to_string();
        let answer = {
            let repos = self.repos.lock().unwrap();
            let mut all = repos.values().flat_map(|r| r.commits.values()).flat_map(|f| f.values());
            let bytes = all.find(|bytes| hex(bytes) == sum).unwrap();
            ranged(bytes, request.headers(), &[("etag", "\"of-this-server\"")])
        };
        if let Some(hook) = self.hook.lock().unwrap().take() {
            hook(self);
        }
        answer
    }
}

/// A page of a listing: files and folders, in the order of their names.
fn tree(files: &Files, folder: &str, request: &Request<Incoming>, name: &str) -> Answer {
    let query = request.uri().query().unwrap_or_default();
    let deep = query.contains("recursive=true");
    let from: usize = query.split("cursor=").nth(1).map_or(0, |n| n.parse().unwrap());
    let base = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut entries = BTreeMap::new();
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with(&base)) {
        let below = &path[base.len()..];
        for (at, _) in below.match_indices('/').take(if deep { usize::MAX } else { 1 }) {
            let folder = &path[..base.len() + at];
            let entry =
                serde_json::json!({"type": "directory", "oid": "0", "size": 0, "path": folder});
            entries.insert(folder.to_string(), entry);
        }
        if deep || !below.contains('/') {
            let mut entry = serde_json::json!({"type": "file", "oid": &hex(bytes)[..40], "size": bytes.len(), "path": path});
            if bytes.len() > LARGE {
                entry["lfs"] =
                    serde_json::json!({"oid": hex(bytes), "size": bytes.len(), "pointerSize": 134});
            }
            entries.insert(path.clone(), entry);
        }
    }
    if entries.is_empty() {
        return refused(404, "EntryNotFound", "Entry not found");
    }
    let page: Vec<_> = entries.values().skip(from).take(PAGE).cloned().collect();
    let body = serde_json::to_vec(&page).unwrap();
    if from + PAGE >= entries.len() {
        return answer(200, &[], body);
    }
    let path = request.uri().path();
    let next = format!("<{name}{path}?recursive={deep}&cursor={}>; rel=\"next\"", from + PAGE);
    answer(200, &[("link", &next)], body)
}

impl Hub {
    pub fn new() -> Hub {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::new(State {
            repos: Mutex::default(),
            renamed: Mutex::default(),
            log: Mutex::default(),
            generation: AtomicUsize::new(0),
            hook: Mutex::default(),
            busy: AtomicUsize::new(0),
            elsewhere: Mutex::default(),
            // Behind a mirror, the hub still calls itself by its own name.
            name: Mutex::new("https://hub.invalid".into()),
        });
        let serve = |elsewhere: bool| {
            let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
            let port = listener.local_addr().unwrap().port();
            let state = state.clone();
            runtime.spawn(async move {
                loop {
                    let Ok((socket, _)) = listener.accept().await else { continue };
                    let state = state.clone();
                    let service = service_fn(move |request: Request<Incoming>| {
                        let state = state.clone();
                        async move {
                            let mut answer = match elsewhere {
                                true => state.blob(&request),
                                false => state.hub(&request),
                            };
                            let bytes = hyper::body::Body::size_hint(answer.body()).lower();
                            answer.headers_mut().insert("content-length", bytes.into());
                            state.log.lock().unwrap().push(Asked {
                                elsewhere,
                                uri: request.uri().to_string(),
                                headers: request.headers().clone(),
                                bytes: bytes as usize,
                            });
                            Ok::<_, Infallible>(answer)
                        }
                    });
                    tokio::spawn(async move {
                        let _ = auto::Builder::new(TokioExecutor::new())
                            .serve_connection(TokioIo::new(socket), service)
                            .await;
                    });
                }
            });
            format!("http://127.0.0.1:{port}")
        };
        let endpoint = serve(false);
        *state.elsewhere.lock().unwrap() = serve(true);
        Hub { state, endpoint, home: Scratch::new(), _runtime: runtime }
    }
    /// The files of the newest commit of main.
    pub fn put(&self, repo: &str, files: &[(&str, Vec<u8>)]) -> String {
        let files = files.iter().map(|(name, bytes)| (name.to_string(), bytes.clone())).collect();
        self.state.commit(repo, "main", files)
    }
    pub fn access(&self, repo: &str, access: Access) {
        self.state.repos.lock().unwrap().get_mut(repo).unwrap().access = access;
    }
    pub fn rename(&self, repo: &str, new: &str) {
        self.state.renamed.lock().unwrap().insert(repo.to_string(), new.to_string());
    }
    pub fn when_read(&self, hook: impl Fn(&State) + Send + Sync + 'static) {
        *self.state.hook.lock().unwrap() = Some(Box::new(hook));
    }
    /// Whoever follows its links stays here.
    pub fn is_no_mirror(&self) {
        self.state.name.lock().unwrap().clone_from(&self.endpoint);
    }
    pub fn be_busy(&self, times: usize) {
        self.state.busy.store(times, Ordering::SeqCst);
    }
    /// The requests since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.state.log.lock().unwrap())
    }
    pub fn environment(&self) -> HashMap<String, String> {
        let home = self.home.path().display().to_string();
        [
            ("HF_ENDPOINT", self.endpoint.as_str()),
            ("HF_TOKEN", TOKEN),
            ("HOME", &home),
            ("XDG_CACHE_HOME", &format!("{home}/cache")),
            ("NO_PROXY", "127.0.0.1"),
            ("no_proxy", "127.0.0.1"),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
    }
}
