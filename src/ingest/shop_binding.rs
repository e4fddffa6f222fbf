//! Which shop the orders of a domain come from.
//!
//! Topic and shop of a delivery are headers, and headers are not signed: where one secret serves many
//! shops, a body of one shop can be sent again under the name of another. An order's own address
//! holds its shop's number, and that is signed. The first number that a domain's orders name is noted
//! beside the stream, for every process and for ever; an order with another number is refused.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::append_stats::AtomicInstant;
use crate::stream::{Stream, StreamError};

/// Longest wait for the stream; without an answer nothing is refused.
const LIMIT: Duration = Duration::from_millis(500);
/// For how long nothing is asked after that: a stream that is away delays one delivery, not each.
const NOT_ASKED: Duration = Duration::from_secs(5);
/// Domains that are remembered here, too.
const MOST: usize = 10_000;

/// The numbers of shops by domain, as far as this process has met them.
pub struct ShopBinding {
    stream: Arc<dyn Stream>,
    known: Mutex<HashMap<String, String>>,
    unanswered: AtomicInstant,
}

impl ShopBinding {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(stream: Arc<dyn Stream>) -> Self {
        Self {
            stream,
            known: Mutex::default(),
            unanswered: AtomicInstant::never(),
        }
    }

    /// Whether an order with that shop's number may come under that domain.
    pub async fn admits(&self, domain: &str, number: &str) -> bool {
        if self.known().get(domain).is_some_and(|known| known == number) {
            return true;
        }
        if self.unanswered.elapsed().is_some_and(|elapsed| elapsed < NOT_ASKED) {
            return true;
        }
        // A number that differs is asked for again: an operator may have removed the old one.
        let asked = tokio::time::timeout(LIMIT, self.stream.bind_shop(domain, number)).await;
        let bound = match asked.unwrap_or_else(|_| Err(no_answer())) {
            Ok(bound) => bound,
            Err(error) => {
                self.unanswered.mark();
                tracing::debug!(%error, "whose order it is cannot be asked");
                return true;
            }
        };
        let admits = bound == number;
        let mut known = self.known();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(domain.to_owned(), bound);
        admits
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_answer() -> StreamError {
    StreamError::Timeout {
        server: "the stream".to_owned(),
        after: LIMIT,
    }
}

impl fmt::Debug for ShopBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShopBinding").finish_non_exhaustive()
    }
}
