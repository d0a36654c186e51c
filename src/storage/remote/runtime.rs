//! The runtime of all transfers.

use std::sync::OnceLock;

use crate::error::{Error, Result};

/// The runtime of all transfers.
pub(super) fn runtime() -> Result<&'static tokio::runtime::Runtime> {
    static RUNTIME: OnceLock<Option<tokio::runtime::Runtime>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            let build = || {
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .thread_name("npk-remote")
                    .enable_all()
                    .build()
            };
            // It panics where a thread cannot be started.
            crate::error::foreign("tokio", || Ok(build()?)).ok()
        })
        .as_ref()
        .ok_or_else(|| Error::failed("the threads for the network cannot be started"))
}
