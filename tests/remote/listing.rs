//! Listings of everything below a prefix, from one walk each. The server's own walks all of its
//! bucket for every page, which no batch of many objects can wait for.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

/// What a page holds at most.
const PAGE: usize = 1000;

/// The keys that listings have begun to hand on, with their sizes, sorted.
#[derive(Default)]
pub struct Listings(Mutex<HashMap<usize, Vec<(String, u64)>>>);

impl Listings {
    /// The answer to this query, if it asks for everything below a prefix: what was there when its
    /// first page was asked for.
    pub fn page(&self, bucket: &Path, query: &str) -> Option<String> {
        let of: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).collect();
        if !of.contains_key("list-type") || of.contains_key("delimiter") {
            return None;
        }
        let mut begun = self.0.lock().unwrap();
        let (id, from) = match of.get("continuation-token").and_then(|t| t.split_once(':')) {
            Some((id, from)) => (id.parse().unwrap(), from.parse().unwrap()),
            None => {
                let prefix = of.get("prefix").map_or("", |p| p);
                let (folder, mut found) = (prefix.rsplit_once('/').map_or("", |p| p.0), Vec::new());
                walk(&bucket.join(folder), folder, &mut found);
                found.retain(|(key, _)| key.starts_with(prefix));
                found.sort();
                let id = begun.keys().max().map_or(0, |id| id + 1);
                begun.insert(id, found);
                (id, 0)
            }
        };
        let all = &begun[&id];
        let to = all.len().min(from + PAGE);
        let mut page = String::from("<?xml version=\"1.0\"?><ListBucketResult>");
        for (key, bytes) in &all[from..to] {
            let key = key.replace('&', "&amp;").replace('<', "&lt;");
            page += &format!(
                "<Contents><Key>{key}</Key><Size>{bytes}</Size>\
                 <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            );
        }
        let more = to < all.len();
        page += &format!("<IsTruncated>{more}</IsTruncated><MaxKeys>{PAGE}</MaxKeys>");
        match more {
            true => page += &format!("<NextContinuationToken>{id}:{to}</NextContinuationToken>"),
            false => drop(begun.remove(&id)),
        }
        Some(page + "</ListBucketResult>")
    }
}

fn walk(folder: &Path, key: &str, found: &mut Vec<(String, u64)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let key = if key.is_empty() { name } else { format!("{key}/{name}") };
        match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path(), &key, found),
            // It may have just been removed.
            false => found.extend(entry.metadata().ok().map(|m| (key, m.len()))),
        }
    }
}
