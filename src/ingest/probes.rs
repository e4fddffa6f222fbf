//! The drainer's question to partitions for which the breaker is open: do they take entries again?
//!
//! Where all are away there is nothing else to do, so the answers are awaited. Where others take
//! theirs, the question goes on beside the drainer's rounds, since a hung server answers late.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinSet;

use super::drained::DrainError;
use crate::stream::Stream;

/// Bound on one probe.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// While a partition answers more slowly than that, it gets only spooled events: new ones would soon
/// be given up again, after `ORDERSTREAM_SPOOL_AFTER`.
const PROMPT: Duration = Duration::from_millis(250);

/// What a partition answered: whether promptly.
pub(super) struct ProbeAnswer {
    pub(super) partition: u16,
    pub(super) answer: Result<bool, DrainError>,
}

pub(super) struct PartitionProbes {
    stream: Arc<dyn Stream>,
    under_way: JoinSet<Vec<ProbeAnswer>>,
    /// Those that answered the last one well, though the breaker may still be open for them.
    reachable: BTreeSet<u16>,
}

impl PartitionProbes {
    pub(super) fn new(stream: Arc<dyn Stream>) -> Self {
        Self {
            stream,
            under_way: JoinSet::new(),
            reachable: BTreeSet::new(),
        }
    }

    /// Asks these partitions, for which the breaker is open: all that there are, or some. Nothing
    /// where the answers of some are not there yet.
    pub(super) async fn ask(&mut self, open: Vec<u16>) -> Vec<ProbeAnswer> {
        let are_all = self.are_all(open.len());
        if self.under_way.is_empty() {
            let stream = Arc::clone(&self.stream);
            self.under_way
                .spawn(async move { join_all(open.into_iter().map(|one| probe(&*stream, one))).await });
        }
        let answered = if are_all {
            self.under_way.join_next().await
        } else {
            self.under_way.try_join_next()
        };
        let answers = answered.and_then(Result::ok).unwrap_or_default();
        for probe in &answers {
            match probe.answer {
                Ok(_) => self.reachable.insert(probe.partition),
                Err(_) => self.reachable.remove(&probe.partition),
            };
        }
        answers
    }

    /// Whether there are no more partitions than so many.
    pub(super) fn are_all(&self, partitions: usize) -> bool {
        partitions >= usize::from(self.stream.partitions())
    }

    /// Whether a partition for which the breaker is open takes spooled entries.
    pub(super) fn is_reachable(&self, partition: u16) -> bool {
        self.reachable.contains(&partition)
    }

    /// The breaker is closed for it, or it took no entry.
    pub(super) fn forget(&mut self, partition: u16) {
        self.reachable.remove(&partition);
    }
}

async fn probe(stream: &dyn Stream, partition: u16) -> ProbeAnswer {
    let asked = Instant::now();
    let answer = match tokio::time::timeout(PROBE_LIMIT, stream.confirm_writable(partition)).await {
        Ok(Ok(())) => Ok(asked.elapsed() < PROMPT),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(DrainError::Unavailable(format!(
            "no answer from the stream within {PROBE_LIMIT:?}"
        ))),
    };
    ProbeAnswer { partition, answer }
}
