//! The seam `Stream`: the laws that every implementation keeps, and what concerns one of them alone.
//!
//! `laws` knows only [`Stream`](orderstream::stream::Stream) and [`Store`]; an implementation passes by running all of
//! it (`conformance!`) over its own `Store`.

mod embedded_only;
mod laws;
mod redis_only;

use std::sync::Arc;

use async_trait::async_trait;
use orderstream::config::StreamConfig;
use orderstream::metrics::Metrics;
use orderstream::stream::redis::RedisStream;
use orderstream::stream::{Appended, NewEntry, Stream, StreamError, StreamId, Writer};

use crate::harness::embedded::{EmbeddedFile, row};
use crate::harness::redis::{RedisServer, stream_config};

/// Appends to a stream of one partition, where a flush fails as a whole or not at all.
#[async_trait]
pub trait TryAppend {
    async fn try_append(&mut self, entries: &[NewEntry]) -> Result<Vec<Appended>, StreamError>;
    async fn try_append_with_more(&mut self, entries: &[NewEntry]) -> Result<Vec<Appended>, StreamError>;
}

#[async_trait]
impl TryAppend for Box<dyn Writer> {
    async fn try_append(&mut self, entries: &[NewEntry]) -> Result<Vec<Appended>, StreamError> {
        whole(self.append(entries).await)
    }

    async fn try_append_with_more(&mut self, entries: &[NewEntry]) -> Result<Vec<Appended>, StreamError> {
        whole(self.append_with_more(entries).await)
    }
}

fn whole(mut outcomes: Vec<Appended>) -> Result<Vec<Appended>, StreamError> {
    let failed = outcomes.iter().filter(|outcome| matches!(outcome, Appended::Failed(_)));
    let failed = failed.count();
    assert!(
        failed == 0 || failed == outcomes.len(),
        "a part of a flush failed: {outcomes:?}"
    );
    match outcomes.pop() {
        Some(Appended::Failed(error)) => {
            drop(outcomes);
            Err(Arc::into_inner(error).expect("the outcomes share it with nothing else"))
        }
        last => {
            outcomes.extend(last);
            Ok(outcomes)
        }
    }
}

/// A store of one's own, and what happens to it from outside.
#[async_trait]
pub trait Store: Send + Sync {
    /// The stream that lives in it, seen through that configuration.
    fn open(&self, config: &StreamConfig) -> Arc<dyn Stream>;
    /// Everything in it is gone.
    async fn wipe(&self);
    /// One entry of the stream is gone, pending or not.
    async fn lose(&self, config: &StreamConfig, id: StreamId);
    /// Moves a group to another place.
    async fn move_group(&self, config: &StreamConfig, id: StreamId);
    /// Removes a group.
    async fn drop_group(&self, config: &StreamConfig);
}

#[async_trait]
impl Store for RedisServer {
    fn open(&self, config: &StreamConfig) -> Arc<dyn Stream> {
        Arc::new(RedisStream::new(&self.config(), config, Metrics::new()).unwrap())
    }

    async fn wipe(&self) {
        self.command::<()>(&["FLUSHALL"]).await;
    }

    async fn lose(&self, config: &StreamConfig, id: StreamId) {
        self.command::<()>(&["XDEL", &config.name, &id.to_string()]).await;
    }

    async fn move_group(&self, config: &StreamConfig, id: StreamId) {
        self.command::<()>(&["XGROUP", "SETID", &config.name, &config.group, &id.to_string()])
            .await;
    }

    async fn drop_group(&self, config: &StreamConfig) {
        self.command::<()>(&["XGROUP", "DESTROY", &config.name, &config.group])
            .await;
    }
}

#[async_trait]
impl Store for EmbeddedFile {
    fn open(&self, config: &StreamConfig) -> Arc<dyn Stream> {
        Arc::new(self.stream(config))
    }

    async fn wipe(&self) {
        self.stream(&stream_config());
        self.tamper(
            "DELETE FROM entries; DELETE FROM dead_letters; DELETE FROM dedupe; DELETE FROM consumer_groups;
             DELETE FROM consumers; DELETE FROM pending; DELETE FROM attempts;
             UPDATE logs SET last_id = 0, added = 0, length = 0, bytes = 0",
        );
    }

    async fn lose(&self, _: &StreamConfig, id: StreamId) {
        let row = row(id);
        self.tamper(&format!(
            "UPDATE consumer_groups SET read = read + 1 WHERE last_delivered < {row};
             UPDATE logs SET length = length - 1 WHERE log = 0; DELETE FROM entries WHERE id = {row}"
        ));
    }

    async fn move_group(&self, config: &StreamConfig, id: StreamId) {
        let (row, group) = (row(id), &config.group);
        self.tamper(&format!(
            "UPDATE consumer_groups SET last_delivered = {row}, read = (SELECT added FROM logs WHERE log = 0)
             - (SELECT COUNT(*) FROM entries WHERE id > {row}) WHERE name = '{group}'"
        ));
    }

    async fn drop_group(&self, config: &StreamConfig) {
        let id = format!("(SELECT id FROM consumer_groups WHERE name = '{}')", config.group);
        self.tamper(&format!(
            "DELETE FROM pending WHERE group_id = {id}; DELETE FROM consumers WHERE group_id = {id};
             DELETE FROM consumer_groups WHERE id = {id}"
        ));
    }
}

/// Runs every law over a store.
macro_rules! conformance {
    ($name:ident, $store:expr) => {
        mod $name {
            laws! {
                $store;
                what_is_appended_is_read_in_order_and_acked
                a_duplicate_answers_with_the_first_id
                concurrent_duplicates_become_one_entry
                without_dedupe_everything_is_appended
                at_the_cap_an_append_is_refused_and_nothing_evicted
                an_empty_flush_is_fine
                concurrent_readers_get_disjoint_entries
                a_cancelled_read_returns_soon_and_loses_nothing
                a_waiting_read_wakes_for_an_append
                a_store_that_comes_back_empty_is_used_again
                own_pending_entries_are_claimed_page_by_page
                a_claim_of_ones_own_leaves_alone_what_is_in_hand
                stale_entries_go_to_one_claimer
                a_stale_claim_leaves_out_the_callers_own
                pending_entries_that_are_gone_are_reported_once
                only_the_owner_refreshes
                what_is_gone_is_told_once_and_stays_in_hand
                attempts_stay_on_record_until_the_ack
                a_dead_letter_is_written_then_its_entry_acked
                records_outlive_their_group_and_letters_wait_for_it
                silent_consumers_go_unless_they_hold_entries
                a_stream_without_groups_is_never_trimmed
                nothing_goes_as_long_as_our_group_is_missing
                acked_entries_are_trimmed_down_to_what_is_retained
                near_the_cap_retained_entries_go_too
                acked_entries_behind_an_old_pending_one_are_removed_singly
                nothing_goes_before_the_slower_group_acked_it
                a_group_that_was_moved_back_still_gets_its_entries
                trimming_never_takes_what_a_group_needs
                the_report_tells_lag_pending_and_ages
                dead_letters_are_counted_as_they_come_and_go
                a_lag_is_known_or_honestly_unknown
                a_range_shows_any_part_from_either_end
                the_server_introduces_itself
                resolved_letters_go_and_make_room
                old_letters_lose_their_bodies_and_nothing_else
                letters_that_come_while_bodies_are_taken_are_kept
                letters_that_go_while_bodies_are_taken_stay_gone
                a_domain_keeps_the_first_number_of_its_shop
                read_entries_become_pending_again_and_are_claimed_as_stale
                each_group_tells_how_far_it_came_with_an_entry
                notes_come_back_newest_first
                a_pause_is_of_one_group_and_outlives_its_process
                a_day_of_minutes_is_kept
                every_node_sees_the_records_of_all
                a_record_that_is_not_renewed_is_forgotten
                who_leaves_takes_its_consumers_unless_they_hold_entries
                the_consumer_of_a_replay_is_shown_nowhere
                entries_and_record_are_stored_together
                a_request_stays_until_the_checkpoint_is_removed
                a_checkpointed_append_leaves_room_to_others
            }
        }
    };
}

macro_rules! laws {
    ($store:expr; $($law:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $law() {
            super::laws::$law(&$store).await;
        })*
    };
}

/// A stream of four partitions. The entries of the laws have one spread, and so are in the first.
pub struct FourPartitions(RedisServer);

impl FourPartitions {
    async fn start() -> Self {
        Self(RedisServer::start().await)
    }
}

#[async_trait]
impl Store for FourPartitions {
    /// Each partition has the caps of that configuration.
    fn open(&self, config: &StreamConfig) -> Arc<dyn Stream> {
        self.0.open(&StreamConfig {
            partitions: Some(4),
            maxlen: 4 * config.maxlen,
            retain_acked: 4 * config.retain_acked,
            ..config.clone()
        })
    }

    async fn wipe(&self) {
        self.0.wipe().await;
    }

    async fn lose(&self, config: &StreamConfig, id: StreamId) {
        self.0.lose(config, id).await;
    }

    async fn move_group(&self, config: &StreamConfig, id: StreamId) {
        self.0.move_group(config, id).await;
    }

    async fn drop_group(&self, config: &StreamConfig) {
        for log in [
            "orders_stream",
            "{orders_stream:1.204}",
            "{orders_stream:2.440}",
            "{orders_stream:3.426}",
        ] {
            let group = StreamConfig {
                name: log.to_owned(),
                ..config.clone()
            };
            self.0.drop_group(&group).await;
        }
    }
}

conformance!(redis, crate::harness::redis::RedisServer::start().await);
conformance!(redis_of_four_partitions, super::FourPartitions::start().await);
conformance!(embedded, crate::harness::embedded::EmbeddedFile::new());
