//! What a worker does between batches: a page of the walk, requests of operators, the canary, and
//! the position while nothing of ours changes.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::appender::FILL_WALK;
use super::convert::{ConvertedBatch, Wanted};
use super::record::{Record, ResyncRequest, Walk};
use super::source;
use super::worker::{End, FULL_PAUSE, LOOK_EVERY, MOST_BYTES, Worker};
use crate::metrics::GapReason;
use crate::postgres::SourceError;

/// What is sent without a change for us is noted as position this often, or after so much WAL.
const NOTE_EVERY: Duration = Duration::from_secs(10);
const NOTE_BYTES: u64 = 16 << 20;
/// How often the slot is looked at at least, and how long an answer may take.
const PROBE_EVERY: Duration = Duration::from_secs(60);
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// A page of a walk that took longer is made smaller, since live changes wait for it.
const SLOW_PAGE: Duration = Duration::from_millis(100);

impl Worker<'_> {
    /// Takes the checkpoint over: a former process that still runs stores nothing from then on.
    pub(super) async fn take_over(&mut self, gap: Option<GapReason>) -> Result<(), End> {
        let mut record = self.appender.record.clone();
        self.batches.heal(&mut record, gap);
        if record.walk.is_some() {
            // The walk's version must be newer than what the warehouse may have from before.
            record.clock = record.clock.max(self.batches.orders(&[], &[], &record).await?.now);
        }
        if record.plan != self.batches.plan.digest {
            warn!(
                "the mapping has changed: what comes is read by it, and `orderstream capture resync` reads all orders by it"
            );
        }
        self.store(&[], record, 100).await?;
        self.tell_gap(gap).await;
        Ok(())
    }

    /// What is done between batches.
    pub(super) async fn upkeep(&mut self) -> Result<(), End> {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            // A request waits until the walk under way is finished: that may heal a gap.
            // A stream that does not answer is told of by the next append, which waits for it.
            if self.appender.record.walk.is_none()
                && let Some(text) = self.appender.request().await.unwrap_or_default()
            {
                self.take_up(text).await?;
            }
        }
        let every = self.config.heartbeat.unwrap_or(PROBE_EVERY);
        if self.probed.is_none_or(|at| at.elapsed() >= every.min(PROBE_EVERY)) {
            self.probed = Some(Instant::now());
            self.probe(every).await?;
        }
        if self.appender.record.walk.is_some() && Instant::now() >= self.next_page {
            return self.walk_page().await;
        }
        let (seen, noted) = (self.changes.position(), self.appender.record.position);
        let is_due =
            self.appender.stored_at.elapsed() >= NOTE_EVERY || seen.lsn.saturating_sub(noted.lsn) >= NOTE_BYTES;
        if seen != noted && is_due && self.changes.pending.is_empty() {
            let record = Record {
                position: seen,
                ..self.appender.record.clone()
            };
            self.store(&[], record, 100).await?;
            self.note_state();
        }
        Ok(())
    }

    /// Looks at slot and publication, and sends a message through the WAL: its return proves slot,
    /// publication and connection, also while the shop is idle.
    async fn probe(&mut self, every: Duration) -> Result<(), End> {
        let (session, status, plan) = (&self.session, self.status, &self.batches.plan);
        let (published, target, within) = (
            &self.appender.record.published,
            &self.target,
            self.config.connect_timeout,
        );
        let is_due = self.config.heartbeat.is_some() && self.canary_sent.is_none_or(|at| at.elapsed() >= every);
        let asked = tokio::time::timeout(PROBE_LIMIT, async {
            let slot = source::slot(session, &plan.slot()).await?.unwrap_or_default();
            status.slot(slot, source::is_synced(target, within, &plan.slot()).await);
            // PostgreSQL 18 says nothing of changes that a missing publication loses.
            if source::publication(session, plan).await?.as_ref() != Some(published) {
                let what = "the publication is another one: connecting anew";
                return Err(SourceError::Unreachable(what.to_owned()));
            }
            if is_due && source::send_canary(session).await? {
                status.update(|figures| {
                    figures.canary_awaited.get_or_insert((Instant::now(), every * 2));
                });
            }
            Ok(())
        });
        let too_late = |_| SourceError::Unreachable(format!("no answer within {PROBE_LIMIT:?}"));
        asked.await.map_err(too_late)??;
        if is_due {
            self.canary_sent = Some(Instant::now());
        }
        Ok(())
    }

    /// Reads and stores the next page of the walk.
    async fn walk_page(&mut self) -> Result<(), End> {
        let Some(walk) = self.appender.record.walk.clone() else {
            return Ok(());
        };
        let began = Instant::now();
        let keys = self.page(&walk).await?;
        let Some(last) = keys.last().cloned() else {
            info!(
                orders = walk.done,
                walk = walk.id,
                "the walk over the orders is finished"
            );
            let record = Record {
                walk: None,
                ..self.appender.record.clone()
            };
            self.store(&[], record, 100).await?;
            self.note_state();
            return Ok(());
        };
        let orders = self.wanted(&walk, &keys).await?;
        let known = self.appender.record.clone();
        let answer = self.batches.orders(&orders, &[], &known).await?;
        let triggered = answer.now.max(known.triggered + 1);
        let read = self.batches.context(&known, &answer, triggered, Some(&walk.id));
        let batch: ConvertedBatch = orders.iter().map(|wanted| read.order(wanted)).collect();
        let next_size = next_page_size(keys.len(), batch.bytes(), began.elapsed());
        if batch.bytes() > MOST_BYTES && orders.len() > 1 {
            self.page_size = next_size;
            return Ok(());
        }
        let record = Record {
            // Also while only other databases write.
            position: if self.changes.pending.is_empty() {
                self.changes.position()
            } else {
                known.position
            },
            triggered,
            walk: Some(Walk {
                cursor: Some(last),
                done: walk.done + keys.len() as u64,
                ..walk
            }),
            ..known
        };
        let pause = Duration::from_secs_f64(orders.len() as f64 / f64::from(self.config.snapshot_rate));
        if self.store(&batch.entries, record, FILL_WALK).await? {
            self.next_page = began + pause;
            self.page_size = next_size.min(self.config.batch);
            self.count(&batch);
            self.status.metrics.walk_orders.inc_by(orders.len() as u64);
            self.note_state();
        } else {
            self.page_size = (self.page_size / 2).max(1);
            self.next_page = Instant::now() + FULL_PAUSE;
        }
        Ok(())
    }

    /// Keys of the next page of a walk.
    async fn page(&mut self, walk: &Walk) -> Result<Vec<String>, SourceError> {
        if walk.is_partial {
            let done = usize::try_from(walk.done).unwrap_or(usize::MAX);
            return Ok(self.asked.iter().skip(done).take(self.page_size).cloned().collect());
        }
        self.batches.reader.page(walk.cursor.as_deref(), self.page_size).await
    }

    /// The orders of a page: of keys that an operator named only those that are an order's.
    async fn wanted(&mut self, walk: &Walk, keys: &[String]) -> Result<Vec<Wanted>, SourceError> {
        if !walk.is_partial {
            return Ok(keys.iter().map(|key| Wanted::new(&**key, None)).collect());
        }
        let known = self.batches.reader.known(keys).await?.into_iter();
        Ok(known
            .filter_map(|(key, is_known)| is_known.then(|| Wanted::new(key, None)))
            .collect())
    }

    /// Does what an operator asked for.
    async fn take_up(&mut self, text: String) -> Result<(), End> {
        let mut record = Record {
            request: text.clone(),
            ..self.appender.record.clone()
        };
        match serde_json::from_str::<ResyncRequest>(&text) {
            Ok(request) if self.batches.plan.orders.is_some() => {
                record.clock = record.clock.max(self.batches.orders(&[], &[], &record).await?.now);
                info!(walk = request.id, "walking over the orders, as an operator asked for");
                if request.keys.is_none() {
                    record.plan.clone_from(&self.batches.plan.digest);
                }
                record.walk = Some(Walk {
                    id: request.id,
                    is_partial: request.keys.is_some(),
                    ..Walk::new("resync")
                });
                self.asked = request.keys.unwrap_or_default();
            }
            Ok(_) => warn!("an operator asked for a walk, and no [orders] are captured"),
            Err(_) => warn!("an operator's request cannot be read; a newer release may have written it"),
        }
        self.store(&[], record, 100).await?;
        self.note_state();
        Ok(())
    }
}

/// Orders of the next page, after one of so many that had so many bytes and took so long.
fn next_page_size(orders: usize, bytes: usize, took: Duration) -> usize {
    if bytes > MOST_BYTES || took > SLOW_PAGE {
        (orders / 2).max(1)
    } else if bytes < MOST_BYTES / 4 && took < SLOW_PAGE / 4 {
        2 * orders
    } else {
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_grows_only_where_twice_as_many_orders_fit_by_far() {
        let ms = Duration::from_millis;
        for (orders, bytes, took, next) in [
            (500, 1 << 20, ms(101), 250),
            (500, MOST_BYTES + 1, ms(10), 250),
            (1, MOST_BYTES + 1, ms(900), 1),
            (250, 1 << 21, ms(10), 250),
            (250, 1 << 10, ms(60), 250),
            (250, 1 << 10, ms(10), 500),
        ] {
            assert_eq!(next_page_size(orders, bytes, took), next, "{orders} {bytes} {took:?}");
        }
    }
}
