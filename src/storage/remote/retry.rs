//! Requests are tried again where that is of use: after a pause that grows, in the region that the
//! bucket is in, with credentials that were renewed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::client;
use super::connection::RemoteBackend;
use super::errors::{Failure, FailureKind};
use super::options::RemoteOptions;
use crate::error::locked;

/// Tries of a request that were made; and whether what was wrong was set right once.
#[derive(Default)]
pub(super) struct Tries {
    made: u32,
    recovered: bool,
}

impl RemoteBackend {
    /// Follows a bucket to its region, once; renews credentials that have expired.
    fn recover(&self, failure: &Failure) -> bool {
        match (failure.what, &failure.region) {
            (FailureKind::WrongRegion, Some(region))
                if self.connect_args.2.region.as_ref() != Some(region) =>
            {
                let mut moved = locked(&self.moved);
                if let Some(there) = &*moved {
                    // Another request that was under way has led there already.
                    return there == region;
                }
                let (target, url, options) = &self.connect_args;
                let options = RemoteOptions { region: Some(region.clone()), ..options.clone() };
                let Ok(service) = client::connect(target, url, &options) else { return false };
                *self.service.write().unwrap_or_else(|e| e.into_inner()) = Arc::new(service);
                *moved = Some(region.clone());
                true
            }
            (FailureKind::Expired, _) => self.service().renew(),
            _ => false,
        }
    }

    /// Waits before the next try, or gives the failure back where another one is of no use.
    pub(super) async fn pause(&self, failure: Failure, tries: &mut Tries) -> Result<(), Failure> {
        if failure.status.is_some() {
            self.answered.store(true, Ordering::Relaxed);
        }
        if !tries.recovered && self.recover(&failure) {
            tries.recovered = true;
            return Ok(());
        }
        let most = match failure.what {
            // A server that is known to be there comes back.
            FailureKind::Dns | FailureKind::Refused if self.answered.load(Ordering::Relaxed) => {
                self.retries
            }
            _ => failure.tries(self.retries),
        };
        if tries.made >= most {
            return Err(failure);
        }
        let base = Duration::from_millis(50) * 2u32.pow(tries.made.min(7));
        let nanos = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| d.subsec_nanos());
        let jitter = base.mul_f64(f64::from(nanos % 1000) / 1000.0);
        let wait = (base + jitter)
            .max(failure.retry_after.unwrap_or_default().min(Duration::from_secs(120)));
        tries.made += 1;
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Tries until it works or is of no use.
    pub(super) async fn retrying<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        work: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let mut tries = Tries::default();
        loop {
            match work().await {
                Ok(done) => {
                    self.answered.store(true, Ordering::Relaxed);
                    return Ok(done);
                }
                Err(failure) => self.pause(failure, &mut tries).await?,
            }
        }
    }
}
