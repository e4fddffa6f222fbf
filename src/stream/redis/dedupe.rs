//! A flush with dedupe: reserves the ids, appends plainly what it reserved, and leaves the rest to
//! the script.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};

use super::append_call::Dedupe;
use super::chunk::chunks;
use super::keys::LogName;
use super::node::ConnectionGuard;
use super::node_writer::{NodeWriter, is_stored};
use super::reservation::{RELIED_ON, ServerClock};
use super::round_trip::read;
use super::search::stored_since;
use crate::stream::{Appended, NewEntry, StreamError};

/// Fields of an entry that is appended plainly; the script refuses one with many more.
const PLAIN_FIELDS: usize = 1000;
/// Pause between two looks at another's reservation.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

impl NodeWriter {
    /// With dedupe: first what could be reserved, then everything else, then the repeats of ids
    /// within the flush.
    pub(super) async fn append_once(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
        patience: Duration,
    ) -> Result<Vec<Appended>, StreamError> {
        let ticket = self.flushes.begin();
        let now = self.now(guard).await?;
        let dedupe = Dedupe { now, ticket: &ticket };
        let mut outcomes = vec![Appended::Full; entries.len()];
        let mut ids = HashSet::with_capacity(entries.len());
        let is_first = |&place: &usize| {
            let entry = entries.get(place);
            entry.is_some_and(|entry| ids.insert((entry.destination, &entry.dedupe_key)))
        };
        let (firsts, repeats): (Vec<_>, Vec<_>) = (0..entries.len()).partition(is_first);
        let began = Instant::now();
        let reserved = self.reserve(guard, entries, &firsts, &dedupe).await?;
        let is_reserved = HashSet::<usize>::from_iter(reserved.iter().copied());
        let mut rest = firsts;
        let plain = self.with_ample_room(entries, reserved);
        if began.elapsed() < RELIED_ON && !plain.is_empty() {
            let is_plain = HashSet::<usize>::from_iter(plain.iter().copied());
            rest.retain(|place| !is_plain.contains(place));
            let is_last = rest.is_empty() && repeats.is_empty();
            let open = self
                .append_plainly(guard, entries, &plain, Some(&dedupe), &mut outcomes, is_last)
                .await?;
            rest.extend(open);
        }
        self.append_rest(guard, entries, rest, &dedupe, patience, &mut outcomes)
            .await?;
        let has_repeats = !repeats.is_empty();
        self.append_rest(guard, entries, repeats, &dedupe, patience, &mut outcomes)
            .await?;
        if !has_repeats && began.elapsed() < RELIED_ON {
            for place in is_reserved {
                match (entries.get(place), outcomes.get(place)) {
                    (Some(entry), Some(outcome)) if !is_stored(outcome) => {
                        let partition = self.partition_at(entry);
                        self.unnoted.release(partition, &entry.dedupe_key);
                    }
                    _ => {}
                }
            }
        }
        self.unnoted.hold(ticket);
        Ok(outcomes)
    }

    /// The server's time, Unix milliseconds.
    async fn now(&mut self, guard: &mut ConnectionGuard) -> Result<u64, StreamError> {
        if self.clock.is_none() {
            let asked = redis::cmd("TIME").query_async(&mut guard.connection).await;
            self.clock = Some(ServerClock::of(asked.map_err(|error| guard.node.stream_error(&error))?));
        }
        Ok(self.clock.map_or(0, |clock| clock.now()))
    }

    /// Reserves the ids of those entries that may go to the stream plainly. Answers the places of
    /// those that nobody knew or had reserved; learns the room below the cap on the way.
    async fn reserve(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
        places: &[usize],
        dedupe: &Dedupe<'_>,
    ) -> Result<Vec<usize>, StreamError> {
        let is_plain = |place: &usize| {
            let entry = entries.get(*place);
            entry.is_some_and(|entry| {
                matches!(self.partitions.log_of(entry), LogName::Partition(_)) && entry.fields.0.len() <= PLAIN_FIELDS
            })
        };
        let plain = Vec::from_iter(places.iter().copied().filter(is_plain));
        let asked = self.by_partition(entries, &plain);
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let ids =
            |places: &[usize]| Vec::from_iter(places.iter().filter_map(|place| Some(&entries.get(*place)?.dedupe_key)));
        let partitions = Arc::clone(&self.partitions);
        let reservation = dedupe.ticket.reservation(dedupe.now);
        let mut pipeline = Pipeline::with_capacity(plain.len() + 2 * asked.len() + 4);
        let notes = self.unnoted.note(&mut pipeline, &partitions, dedupe.now);
        for (&partition, places) in &asked {
            let keys = &partitions.at(partition).keys;
            let [generation, before] = keys.generations(LogName::Partition(partition), dedupe.now);
            let ids = ids(places);
            for id in &ids {
                let reserve = pipeline.cmd("HSETNX").arg(&generation);
                reserve.arg(id).arg(&reservation);
            }
            pipeline.cmd("HMGET").arg(&before).arg(&ids);
            pipeline.cmd("XLEN").arg(&keys.stream);
        }
        pipeline.cmd("TIME");
        let mut replies = self.query(guard, &mut pipeline, notes, None).await?.into_iter();
        self.unnoted.clear();
        let mut free = Vec::with_capacity(plain.len());
        for (&partition, places) in &asked {
            let taken = Vec::from_iter(
                replies
                    .by_ref()
                    .take(places.len())
                    .map(|reply| read(reply) == Some(1u8)),
            );
            let known: Option<Vec<Option<Value>>> = replies.next().and_then(read);
            let length = replies.next().and_then(read::<u64>);
            self.saw_length(partition, length);
            // Where it cannot be looked at, the script tells why.
            let unknown = known.unwrap_or_default().into_iter().map(|known| known.is_none());
            let answers = places.iter().zip(taken).zip(unknown);
            free.extend(
                answers.filter_map(|((place, is_taken), is_unknown)| (is_taken && is_unknown).then_some(*place)),
            );
        }
        self.clock = replies.next().and_then(read).map(ServerClock::of);
        Ok(free)
    }

    /// Calls the script until each of those entries has an outcome: waits for other flushes'
    /// reservations, and searches the stream for what a flush that was given up may have stored.
    async fn append_rest(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
        mut rest: Vec<usize>,
        dedupe: &Dedupe<'_>,
        patience: Duration,
        outcomes: &mut [Appended],
    ) -> Result<(), StreamError> {
        let until = Instant::now() + patience;
        while !rest.is_empty() {
            let calls = chunks(entries, rest, self.partitions.count());
            let open = self
                .call_until_answered(guard, entries, calls, Some(dedupe), outcomes)
                .await?;
            rest = open.iter().map(|(place, _)| *place).collect();
            if !rest.is_empty() {
                // The next call would ask in vain, and wait for it.
                std::mem::replace(&mut self.proven, Ok(()))?;
            }
            let given_up = Vec::from_iter(
                open.iter()
                    .filter(|(_, since)| since.is_some())
                    .map(|(place, _)| *place),
            );
            if let Some(since) = open.iter().filter_map(|(_, since)| *since).min() {
                for (partition, places) in self.by_partition(entries, &given_up) {
                    let (server, keys) = (
                        &self.partitions.at(partition).server,
                        &self.partitions.at(partition).keys,
                    );
                    match stored_since(server, &keys.stream, since, entries, &places).await {
                        Ok(found) => {
                            for (place, id) in found {
                                if let Some(entry) = entries.get(place) {
                                    self.unnoted.store(partition, &entry.dedupe_key, id, entry.digest);
                                }
                            }
                        }
                        Err(error) => {
                            rest.retain(|place| !places.contains(place));
                            put_off(outcomes, &places, &error.to_string());
                        }
                    }
                }
            } else if !rest.is_empty() {
                if Instant::now() >= until {
                    put_off(outcomes, &rest, "another writer is appending an event of this id");
                    break;
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        }
        Ok(())
    }
}

/// These entries are to be appended later.
fn put_off(outcomes: &mut [Appended], places: &[usize], reason: &str) {
    for &place in places {
        if let Some(slot) = outcomes.get_mut(place) {
            *slot = Appended::Unavailable(reason.to_owned());
        }
    }
}
