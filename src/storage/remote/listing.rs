//! Listings: pages of them, everything below a prefix, one level.

use object_store::list::PaginatedListOptions;

use super::client::Service;
use super::connection::RemoteBackend;
use super::errors::Failure;
use crate::error::Result;
use crate::storage::Entry;

/// An object of a listing.
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) len: u64,
    pub(crate) etag: Option<String>,
}

/// A page of a listing.
#[derive(Default)]
pub(super) struct Page {
    /// Prefixes, with `/` at their end.
    pub prefixes: Vec<String>,
    pub objects: Vec<Listed>,
    /// The token of the next page.
    pub next: Option<String>,
}

impl RemoteBackend {
    /// One page of a listing.
    pub(super) async fn page(
        &self,
        prefix: &str,
        delimiter: Option<&'static str>,
        most: Option<usize>,
        token: Option<String>,
    ) -> Result<Page, Failure> {
        self.retrying(|| async {
            if let Service::Hub(hub) = &*self.service() {
                return hub.page(prefix, delimiter.is_none(), token.as_deref()).await;
            }
            let options = PaginatedListOptions {
                delimiter: delimiter.map(Into::into),
                max_keys: most,
                page_token: token.clone(),
                ..PaginatedListOptions::default()
            };
            let page = self
                .storage()?
                .pages
                .list_paginated(Some(prefix).filter(|p| !p.is_empty()), options)
                .await
                .map_err(|e| Failure::from_store(&e))?;
            self.has_bucket.store(true, std::sync::atomic::Ordering::Relaxed);
            let prefixes =
                page.result.common_prefixes.iter().map(|p| format!("{}/", p.as_ref())).collect();
            let objects = page
                .result
                .objects
                .into_iter()
                .map(|o| Listed {
                    key: o.location.as_ref().to_string(),
                    len: o.size,
                    etag: o.e_tag,
                })
                .collect();
            Ok(Page { prefixes, objects, next: page.page_token })
        })
        .await
    }

    /// All pages.
    fn pages(
        &self,
        prefix: &str,
        delimiter: Option<&'static str>,
    ) -> Result<(Vec<String>, Vec<Listed>)> {
        self.listable()?;
        self.run(async {
            let (mut prefixes, mut objects, mut token) = (Vec::new(), Vec::new(), None);
            loop {
                let page = self.page(prefix, delimiter, None, token).await?;
                prefixes.extend(page.prefixes);
                objects.extend(page.objects);
                match page.next {
                    Some(t) => token = Some(t),
                    None => return Ok((prefixes, objects)),
                }
            }
        })
    }

    /// Hands on every object below a prefix, as the pages come.
    pub(super) fn each_listed(
        &self,
        prefix: &str,
        each: &mut dyn FnMut(Listed) -> Result<()>,
    ) -> Result<()> {
        self.listable()?;
        let mut token = None;
        loop {
            let page = self.run(self.page(prefix, None, None, token))?;
            page.objects.into_iter().try_for_each(&mut *each)?;
            match page.next {
                Some(next) => token = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Every object below a prefix (which ends in `/` or is empty); markers of directories are left
    /// out.
    pub(crate) fn walk(&self, prefix: &str) -> Result<Vec<Listed>> {
        let (_, mut objects) = self.pages(prefix, None)?;
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        // `dir/` itself comes as `dir`, without bytes; it is one if others lie below it.
        let marker: Vec<bool> = objects
            .iter()
            .enumerate()
            .map(|(i, o)| {
                let below = format!("{}/", o.key);
                o.len == 0
                    && (below == prefix
                        || objects[i + 1..]
                            .iter()
                            .take_while(|n| n.key.starts_with(&o.key))
                            .any(|n| n.key.starts_with(&below)))
            })
            .collect();
        let mut marker = marker.iter();
        objects.retain(|_| !marker.next().copied().unwrap_or(false));
        Ok(objects)
    }

    /// One level below a prefix: names of directories and objects whose keys begin with `prefix`
    /// (not only whole parts).
    pub(super) fn level(&self, prefix: &str) -> Result<Vec<Entry>> {
        let (prefixes, objects) = self.pages(prefix, Some("/"))?;
        let name = |key: &str| {
            key.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_string()
        };
        let mut entries: Vec<Entry> =
            prefixes.iter().map(|p| Entry { name: name(p), is_dir: true, len: 0 }).collect();
        entries.extend(
            objects
                .iter()
                .filter(|o| !(o.len == 0 && format!("{}/", o.key) == prefix))
                .map(|o| Entry { name: name(&o.key), is_dir: false, len: o.len }),
        );
        Ok(entries)
    }

    /// Whether anything is below `key/`.
    pub(super) fn is_prefix(&self, key: &str) -> Result<bool, Failure> {
        let page = self.wait(self.page(&super::url::prefix(key), Some("/"), Some(2), None))?;
        Ok(!page.prefixes.is_empty() || !page.objects.is_empty())
    }
}
