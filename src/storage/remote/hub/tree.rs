//! Listings of a repository, page by page.

use http::{HeaderMap, Method};
use serde::Deserialize;

use super::super::errors::{Failure, FailureKind};
use super::super::listing::{Listed, Page};
use super::{Hub, wire};

/// An entry of a listing.
#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    oid: Option<String>,
    lfs: Option<Large>,
}

/// What is known of a file that lies elsewhere.
#[derive(Deserialize)]
struct Large {
    oid: Option<String>,
    size: Option<u64>,
}

/// What the hub says of a revision.
#[derive(Deserialize)]
struct About {
    sha: Option<String>,
}

impl Hub {
    /// One page of what is below a prefix (not only whole parts): with `deep`, all files; otherwise
    /// one level.
    pub async fn page(
        &self,
        prefix: &str,
        deep: bool,
        token: Option<&str>,
    ) -> Result<Page, Failure> {
        let commit = self.commit().await?;
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = self.repo.tree(commit, folder);
        let query = match token {
            Some(query) => query.to_string(),
            None => format!("recursive={}", if deep { "true" } else { "false" }),
        };
        let answer = match self.text(&format!("{path}?{query}")).await {
            // There are no folders without files.
            Err(f) if f.what == FailureKind::Missing => return Ok(Page::default()),
            answer => answer?,
        };
        let (items, next): (Vec<Item>, Option<String>) = answer;
        let mut page = Page { next, ..Page::default() };
        for item in items.into_iter().filter(|item| item.path.starts_with(prefix)) {
            match item.kind.as_str() {
                "file" => {
                    let large = item.lfs.as_ref();
                    page.objects.push(Listed {
                        len: large.and_then(|l| l.size).unwrap_or(item.size),
                        etag: large.and_then(|l| l.oid.clone()).or(item.oid),
                        key: item.path,
                    });
                }
                "directory" if !deep => page.prefixes.push(format!("{}/", item.path)),
                _ => {}
            }
        }
        Ok(page)
    }

    /// The commit to list; asked for where nothing has told it yet.
    async fn commit(&self) -> Result<&str, Failure> {
        let _first = self.commit.asking.lock().await;
        if let Some(known) = self.commit.known.get() {
            return Ok(known);
        }
        let told = match self.text::<About>(&self.repo.about()).await {
            Ok((about, _)) => about.sha,
            // A hub that knows files and no more.
            Err(f) if f.what == FailureKind::Missing && f.code.is_none() => None,
            Err(f) => return Err(f),
        };
        let commit = told.unwrap_or_else(|| self.repo.revision.clone());
        Ok(self.commit.known.get_or_init(|| commit))
    }

    /// An answer in JSON, and the query of the page that follows it.
    async fn text<T: for<'a> Deserialize<'a>>(
        &self,
        path: &str,
    ) -> Result<(T, Option<String>), Failure> {
        let response = self.follow(Method::GET, path, None).await?.response;
        let (parts, body) = response.into_parts();
        let body = wire::whole(body.bytes_stream(), wire::read_timeout())
            .await
            .map_err(|e| Failure::from_http(&e))?;
        let read = serde_json::from_slice(&body)
            .map_err(|_| Failure::new(FailureKind::Other, "the hub's answer cannot be read"))?;
        Ok((read, next(&parts.headers)))
    }
}

/// The query of the next page, from `Link: <URL>; rel="next"`. The rest of that URL is the same as
/// of this page, or is that of another server, which is shown no token.
fn next(headers: &HeaderMap) -> Option<String> {
    let links = headers.get("link")?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let url = next.trim().strip_prefix('<')?.split_once('>')?.0;
    Some(url.split_once('?')?.1.to_string())
}
