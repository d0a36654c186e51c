//! An S3 server in the test process, with faults on demand.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::{Service, service_fn};
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};

use super::listing::Listings;
use crate::support::Scratch;

pub const KEY: &str = "AKIATESTTESTTESTTEST";
pub const SECRET: &str = "testsecret/testsecret+testsecret";
pub const BUCKET: &str = "bucket";
/// What anybody may read, where requests are signed otherwise.
pub const PUBLIC: &str = "public-bucket";

/// What is done to a request.
pub enum Fault {
    /// An error answer, with its `<Code>` and Retry-After.
    Status(u16, &'static str, Option<&'static str>),
    /// The connection is closed after so many bytes of the body.
    Cut(usize),
    /// No more bytes after so many.
    Stall(usize),
    /// No answer ever; nothing was done.
    Hang,
    /// Closed without an answer; nothing was done.
    Refuse,
    /// Done, but the answer is lost.
    LoseAnswer,
    /// Something happens just before the request is served.
    Before(Box<dyn Fn() + Send + Sync>),
    /// `Range` is not understood.
    NoRanges,
    /// Served so many milliseconds later.
    Delay(u64),
    /// Served when so many such requests have come.
    Together(tokio::sync::Barrier),
    /// As well, even if the client has gone by then.
    Late(u64),
    /// This answer, with these headers.
    Answer(u16, Vec<(&'static str, &'static str)>, String),
}

type Matches = Box<dyn Fn(&Asked) -> bool + Send + Sync>;

struct Rule {
    matches: Matches,
    skip: usize,
    times: usize,
    fault: Arc<Fault>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    /// Path and query, still escaped.
    pub uri: String,
    pub headers: HeaderMap,
}

#[derive(Default)]
struct State {
    root: PathBuf,
    web: bool,
    rules: Mutex<Vec<Rule>>,
    log: Mutex<Vec<Asked>>,
    came: Condvar,
    /// Requests that are served late.
    late: AtomicUsize,
    /// Where listings are answered from one walk each.
    listings: OnceLock<Listings>,
}

pub struct Server {
    pub port: u16,
    root: Scratch,
    state: Arc<State>,
    _runtime: tokio::runtime::Runtime,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<BoxBody<Bytes, BoxError>>;

fn broken() -> BoxError {
    "cut by the test".into()
}

fn error_answer(status: u16, code: &str, retry_after: Option<&str>) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>made by the test</Message></Error>"
    );
    let mut answer = Response::builder().status(status).header("content-type", "application/xml");
    if let Some(seconds) = retry_after {
        answer = answer.header("retry-after", seconds);
    }
    answer.body(Full::new(Bytes::from(body)).map_err(|e: Infallible| match e {}).boxed()).unwrap()
}

async fn serve(
    s3: S3Service,
    state: Arc<State>,
    mut request: Request<Incoming>,
) -> Result<Answer, BoxError> {
    let asked = Asked {
        method: request.method().clone(),
        uri: request.uri().to_string(),
        headers: request.headers().clone(),
    };
    let mut faults = Vec::new();
    {
        for rule in state.rules.lock().unwrap().iter_mut() {
            if (rule.matches)(&asked) {
                if rule.skip > 0 {
                    rule.skip -= 1;
                } else if rule.times > 0 {
                    rule.times -= 1;
                    faults.push(rule.fault.clone());
                }
            }
        }
    }
    state.log.lock().unwrap().push(asked);
    state.came.notify_all();
    for fault in &faults {
        match &**fault {
            Fault::Status(status, code, retry_after) => {
                // A body that nobody reads would break the connection instead.
                let _ = request.into_body().collect().await;
                return Ok(error_answer(*status, code, *retry_after));
            }
            Fault::Answer(status, headers, body) => {
                let _ = request.into_body().collect().await;
                let mut answer = Response::builder().status(*status);
                for (name, value) in headers {
                    answer = answer.header(*name, *value);
                }
                return Ok(answer
                    .body(
                        Full::new(Bytes::from(body.clone()))
                            .map_err(|e: Infallible| match e {})
                            .boxed(),
                    )
                    .unwrap());
            }
            Fault::Delay(millis) => {
                tokio::time::sleep(std::time::Duration::from_millis(*millis)).await
            }
            Fault::Late(millis) => {
                let (parts, body) = request.into_parts();
                let request =
                    Request::from_parts(parts, s3s::Body::from(body.collect().await?.to_bytes()));
                let (s3, state, millis) = (s3.clone(), state.clone(), *millis);
                state.late.fetch_add(1, Ordering::SeqCst);
                let served = tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
                    let answer = s3.call(request).await;
                    state.late.fetch_sub(1, Ordering::SeqCst);
                    answer
                });
                let answer = served.await?.map_err(|e| BoxError::from(format!("{e:?}")))?;
                let (parts, body) = answer.into_parts();
                return Ok(Response::from_parts(
                    parts,
                    SyncBody(Mutex::new(Box::pin(body))).boxed(),
                ));
            }
            Fault::Together(barrier) => {
                barrier.wait().await;
            }
            Fault::Refuse => return Err(broken()),
            Fault::Hang => std::future::pending().await,
            Fault::Before(happens) => happens(),
            Fault::NoRanges => {
                request.headers_mut().remove("range");
            }
            _ => {}
        }
    }
    if state.web {
        let path = request.uri().path().to_string();
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().remove("authorization");
    }
    if let Some(listings) = state.listings.get()
        && *request.method() == Method::GET
        && let Some(query) = request.uri().query()
        && let Some(page) = listings.page(&state.root.join(BUCKET), query)
    {
        let page = Full::new(Bytes::from(page)).map_err(|e: Infallible| match e {}).boxed();
        return Ok(Response::builder().header("content-type", "application/xml").body(page)?);
    }
    // This server takes its own directories for objects.
    let path =
        percent_encoding::percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads
        && path.trim_matches('/').contains('/')
        && state.root.join(path.trim_start_matches('/')).is_dir()
    {
        return Ok(error_answer(404, "NoSuchKey", None));
    }
    let answer = Service::call(&s3, request).await.map_err(|e| BoxError::from(format!("{e:?}")))?;
    let (mut parts, body) = answer.into_parts();
    parts.headers.remove("transfer-encoding");
    for fault in &faults {
        match &**fault {
            Fault::LoseAnswer => {
                let _ = body.collect().await;
                return Err(broken());
            }
            Fault::Cut(n) | Fault::Stall(n) => {
                let all = body.collect().await?.to_bytes();
                let first = all.slice(..(*n).min(all.len()));
                let stalls = matches!(&**fault, Fault::Stall(_));
                let frames = futures_util::stream::unfold(Some(first), move |first| async move {
                    match first {
                        Some(bytes) => Some((Ok(Frame::data(bytes)), None)),
                        None if stalls => std::future::pending().await,
                        None => {
                            // What was sent must have left before the connection goes.
                            tokio::task::yield_now().await;
                            Some((Err(broken()), None))
                        }
                    }
                });
                parts.headers.insert("content-length", all.len().into());
                return Ok(Response::from_parts(
                    parts,
                    http_body_util::BodyExt::boxed(SyncBody(Mutex::new(StreamBody::new(
                        Box::pin(frames),
                    )))),
                ));
            }
            _ => {}
        }
    }
    let length = parts.headers.get("content-length").cloned();
    let mut answer = Response::from_parts(parts, SyncBody(Mutex::new(Box::pin(body))).boxed());
    if let Some(length) = length {
        answer.headers_mut().insert("content-length", length);
    }
    Ok(answer)
}

/// A body behind a lock, since boxed bodies must be `Sync`.
struct SyncBody<B>(Mutex<B>);

impl<B: hyper::body::Body<Data = Bytes, Error = BoxError> + Unpin> hyper::body::Body
    for SyncBody<B>
{
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        std::pin::Pin::new(&mut *self.0.lock().unwrap()).poll_frame(cx)
    }
    fn size_hint(&self) -> hyper::body::SizeHint {
        self.0.lock().unwrap().size_hint()
    }
}

/// Signed requests, and those of anybody for one bucket.
struct Public;

#[async_trait::async_trait]
impl S3Access for Public {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> s3s::S3Result<()> {
        let public = request.s3_path().get_bucket_name() == Some(PUBLIC);
        match public || request.credentials().is_some() {
            true => Ok(()),
            false => Err(s3s::s3_error!(AccessDenied, "Signature is required")),
        }
    }
}

/// An object appears whole, as in a real store: whoever reads the old one at that moment goes on
/// with it.
pub fn put(path: &Path, bytes: &[u8]) {
    let directory = path.parent().unwrap();
    std::fs::create_dir_all(directory).unwrap();
    let mut new = tempfile::NamedTempFile::new_in(directory).unwrap();
    std::io::Write::write_all(&mut new, bytes).unwrap();
    new.persist(path).unwrap();
}

impl Server {
    /// Wants signed requests.
    pub fn new() -> Server {
        Server::start(true, false)
    }
    /// Takes requests of anybody.
    pub fn anonymous() -> Server {
        Server::start(false, false)
    }
    /// A plain web server: takes any query and any password.
    pub fn web() -> Server {
        Server::start(false, true)
    }
    fn start(signed: bool, web: bool) -> Server {
        let root = Scratch::new();
        std::fs::create_dir(root.join(BUCKET)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::new(State { root: root.path().to_path_buf(), web, ..State::default() });
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        if signed {
            builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
            builder.set_access(Public);
        }
        let s3 = builder.build();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = state.clone();
        runtime.spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                let (s3, state) = (s3.clone(), shared.clone());
                tokio::spawn(async move {
                    let service =
                        service_fn(move |request| serve(s3.clone(), state.clone(), request));
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Server { port, root, state, _runtime: runtime }
    }
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
    pub fn url(&self, key: &str) -> String {
        format!("s3://{BUCKET}/{key}")
    }
    /// The folder of one more bucket.
    pub fn bucket(&self, name: &str) -> PathBuf {
        let folder = self.root.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
    /// Where the server keeps an object.
    pub fn path(&self, key: &str) -> PathBuf {
        self.root.join(BUCKET).join(key)
    }
    /// The keys in the bucket, sorted; what the server keeps for itself is left out.
    pub fn keys(&self) -> Vec<String> {
        fn walk(directory: &std::path::Path, base: &str, keys: &mut Vec<String>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{base}{}", entry.file_name().to_string_lossy());
                if entry.path().is_dir() {
                    walk(&entry.path(), &format!("{name}/"), keys);
                } else {
                    keys.push(name);
                }
            }
        }
        let mut keys = Vec::new();
        walk(&self.root.join(BUCKET), "", &mut keys);
        keys.sort();
        keys
    }
    /// Files of unfinished uploads.
    pub fn unfinished(&self) -> Vec<String> {
        self.root.names().into_iter().filter(|n| n.contains("upload")).collect()
    }
    pub fn put(&self, key: &str, bytes: &[u8]) {
        put(&self.path(key), bytes);
    }
    /// The next `times` matching requests (after `skip`) have this fault.
    pub fn fault(
        &self,
        skip: usize,
        times: usize,
        fault: Fault,
        matches: impl Fn(&Asked) -> bool + Send + Sync + 'static,
    ) {
        self.state.rules.lock().unwrap().push(Rule {
            matches: Box::new(matches),
            skip,
            times,
            fault: Arc::new(fault),
        });
    }
    pub fn calm(&self) {
        self.state.rules.lock().unwrap().clear();
    }
    /// Whether all faults happened.
    pub fn all_happened(&self) -> bool {
        self.state.rules.lock().unwrap().iter().all(|r| r.times == 0)
    }
    /// Waits until a request has come that fits.
    pub fn wait_for(&self, matches: impl Fn(&Asked) -> bool) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !self.state.log.lock().unwrap().iter().any(&matches) {
            assert!(std::time::Instant::now() < end, "the request did not come");
            std::thread::yield_now();
        }
    }
    /// Waits until nothing is served late any more.
    pub fn wait_for_the_late(&self) {
        while self.state.late.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    }
    /// The requests since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.state.log.lock().unwrap())
    }
    /// Lists many objects in a reasonable time; whoever asks.
    pub fn lists_quickly(&self) {
        let _ = self.state.listings.set(Listings::default());
    }
    /// Removes all objects below a folder.
    pub fn forget(&self, folder: &str) {
        std::fs::remove_dir_all(self.path(folder)).unwrap();
        let name = |object: &str| object.starts_with(".bucket-");
        self.root.names().iter().filter(|n| name(n)).for_each(|n| {
            std::fs::remove_file(self.root.join(n)).unwrap();
        });
    }
    /// Waits a while for so many of them; says whether they have come.
    pub fn has_asked(&self, wanted: usize) -> bool {
        let (log, while_short) =
            (self.state.log.lock().unwrap(), |log: &mut Vec<Asked>| log.len() < wanted);
        let while_waiting = std::time::Duration::from_millis(100);
        let (log, _) = self.state.came.wait_timeout_while(log, while_waiting, while_short).unwrap();
        log.len() >= wanted
    }
    /// The environment for programs that use this server; no request may leave this machine.
    pub fn environment(&self) -> HashMap<String, String> {
        let nowhere = self.root.join("nowhere").display().to_string();
        [
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_ENDPOINT_URL", &self.endpoint()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", &nowhere),
            ("AWS_SHARED_CREDENTIALS_FILE", &nowhere),
            ("NO_PROXY", "127.0.0.1"),
            ("no_proxy", "127.0.0.1"),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
    }
}
