//! SIGHUP: reads secrets and URLs again.
//!
//! All that is new is built first, then all that is old is replaced. Invariant: one error anywhere
//! changes nothing anywhere.

use tracing::{info, warn};

use super::state::App;

/// Replaces what is in use by what is built already; cannot fail.
type Swap<'a> = Box<dyn FnOnce() + 'a>;

impl App {
    /// Reads them again, or logs why the old ones stay.
    pub(super) fn reload(&self) {
        match self.prepare() {
            Ok(swaps) => {
                swaps.into_iter().for_each(|swap| swap());
                self.reloaded.notify_one();
                info!("read secrets and URLs again");
            }
            Err(error) => warn!(error, "cannot read secrets and URLs again; the old ones stay in use"),
        }
    }

    fn prepare(&self) -> Result<Vec<Swap<'_>>, String> {
        let fresh = self.config.reload().map_err(|error| error.to_string())?;
        let mut swaps: Vec<Swap<'_>> = vec![Box::new(
            self.credentials.prepare(&fresh.auth, fresh.admin_token.as_ref())?,
        )];
        if let (Some(redis), Some(url)) = (&self.storage.redis, &fresh.redis_url) {
            let swap = redis.prepare(url).map_err(|error| error.to_string())?;
            swaps.push(Box::new(swap));
        }
        if let (Some(postgres), Some(url)) = (&self.storage.postgres, &fresh.database_url) {
            let swap = postgres.prepare(url, fresh.migrate_url.as_ref());
            swaps.push(Box::new(swap.map_err(|error| error.to_string())?));
        }
        Ok(swaps)
    }
}
