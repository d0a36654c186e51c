//! What the other rooms ask of a bucket.

use std::io::Read;
use std::sync::Arc;

use super::blob::{RemoteBlob, RemoteStream};
use super::client::Service;
use super::connection::{Opened, RemoteBackend};
use super::errors::{Failure, FailureKind};
use super::whole::Whole;
use super::{directory, object_record, upload, url};
use crate::error::{Error, Result, locked};
use crate::storage::{
    Backend, Blob, Entry, EntryKind, Existing, Listed, Mark, Output, OutputDir, local, temporary,
};

impl RemoteBackend {
    fn remote_blob(&self, key: &str, opened: Opened) -> Result<Arc<RemoteBlob>> {
        Ok(Arc::new(RemoteBlob::new(self.shared()?, Arc::from(key), opened.pin, opened.len)))
    }

    /// From a server without ranges: everything, in one go.
    fn whole(&self, key: &str) -> Result<Box<dyn Read + Send>> {
        let got =
            self.run(self.retrying(|| async { self.service().get(key, None, None).await }))?;
        Ok(Box::new(Whole::new(self.shared()?, got)))
    }
}

impl Backend for RemoteBackend {
    fn kind(&self, key: &str) -> Result<EntryKind> {
        match self.record.output(key) {
            Some(Listed::Absent) => return Ok(EntryKind::Missing),
            Some(Listed::Directory) => return Ok(EntryKind::Dir),
            None => {}
        }
        if self.directories().contains(key) {
            return Ok(EntryKind::Dir);
        }
        let kind = self.kind_anew(key)?;
        if kind == EntryKind::Dir {
            self.directories().insert(key.to_string());
        }
        Ok(kind)
    }

    fn exists(&self, key: &str) -> Result<bool> {
        if let Some(listed) = self.record.output(key) {
            return Ok(listed == Listed::Directory);
        }
        if !key.is_empty() && !key.ends_with('/') && self.there(key)?.is_some() {
            return Ok(true);
        }
        match self.is_prefix(key) {
            Err(f) if f.what == FailureKind::Denied => Ok(self.is_store(key)),
            other => other.map_err(|f| f.into_error(&self.bucket)),
        }
    }

    fn is_copied(&self, key: &str) -> bool {
        self.opened(key).is_ok_and(|o| o.is_some_and(|o| o.whole))
    }

    fn mark_of_read(&self, key: &str) -> Option<Mark> {
        let opened = locked(&self.opened).get(key)?.clone();
        Some(Mark {
            below: String::new(),
            bytes: opened.len,
            etag: object_record::bare(opened.pin.etag),
        })
    }

    fn marks_of_written(&self, key: &str) -> Vec<Mark> {
        self.record.take_written(key)
    }

    fn is_unfinished(&self, key: &str) -> Result<bool> {
        let names = Backend::walk(self, key)?;
        Ok(directory::is_unfinished(names.iter().map(|(name, _)| name.as_str())))
    }

    fn each_below(&self, key: &str, each: &mut dyn FnMut(Mark) -> Result<()>) -> Result<()> {
        let prefix = url::prefix(key);
        self.each_listed(&prefix, &mut |listed| {
            let Some(below) = listed.key.strip_prefix(&prefix) else { return Ok(()) };
            let below = below.to_string();
            each(Mark { below, bytes: listed.len, etag: object_record::bare(listed.etag) })
        })
    }

    fn forget(&self, key: &str) {
        self.forget_key(key);
    }

    fn tell(&self, key: &str, listed: Option<Listed>) {
        self.record.tell(key, listed);
    }

    fn keep_marks(&self) {
        self.record.keep_marks();
    }

    fn expect(&self, key: &str, len: Option<u64>, etag: Option<&str>) {
        self.record.expect(key, len, etag);
    }

    fn list(&self, key: &str) -> Result<Vec<Entry>> {
        self.level(&url::prefix(key))
    }

    fn blob(&self, key: &str) -> Result<Arc<dyn Blob>> {
        let missing = || Error::missing("no such object");
        let opened = self.opened(key)?.ok_or_else(missing)?;
        if opened.whole {
            let mut file = temporary::file()?;
            crate::storage::copy_to_temporary(&mut self.whole(key)?, &mut file)?;
            return local::file_blob(file);
        }
        Ok(self.remote_blob(key, opened)?)
    }

    fn stream(&self, key: &str) -> Result<Box<dyn Read + Send>> {
        let opened = self.opened(key)?.ok_or_else(|| Error::missing("no such object"))?;
        if opened.whole {
            return self.whole(key);
        }
        Ok(Box::new(RemoteStream::new(self.remote_blob(key, opened)?)))
    }

    fn create_file(&self, key: &str, existing: Existing) -> Result<Box<dyn Output>> {
        self.writable()?;
        upload::create_file(self.shared()?, key, existing)
    }

    fn overwrite(&self, key: &str) -> Result<Box<dyn Output>> {
        self.writable()?;
        upload::overwrite(self.shared()?, key)
    }

    fn create_dir(
        &self,
        key: &str,
        existing: Existing,
        markers: &[&str],
    ) -> Result<Box<dyn OutputDir>> {
        self.writable()?;
        directory::create_dir(self.shared()?, key, existing, markers)
    }

    fn walk(&self, key: &str) -> Result<Vec<(String, u64)>> {
        let prefix = url::prefix(key);
        let listed = RemoteBackend::walk(self, &prefix)?;
        Ok(listed
            .into_iter()
            .filter_map(|o| Some((o.key.strip_prefix(&prefix)?.to_string(), o.len)))
            .collect())
    }

    fn remove(&self, key: &str) -> Result<()> {
        use object_store::ObjectStoreExt;
        self.writable()?;
        let path = url::path(key)?;
        self.run(self.retrying(|| async {
            self.storage()?.store.delete(&path).await.map_err(|e| Failure::from_store(&e))
        }))?;
        self.forget(key);
        Ok(())
    }

    fn display(&self, key: &str) -> String {
        match &*self.service() {
            Service::Site(site) => site.display(key),
            Service::Hub(hub) => hub.display(key),
            Service::Objects(_) => format!("{}://{}/{key}", self.scheme.name(), self.bucket),
        }
    }
}
