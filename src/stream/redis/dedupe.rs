//! A flush with dedupe: reserves the ids, appends plainly what it reserved, and leaves the rest to
//! the script.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};

use super::append_call::Dedupe;
use super::chunk::{Chunk, chunks};
use super::reservation::{RELIED_ON, ServerClock};
use super::round_trip::read;
use super::search::stored_since;
use super::server::ConnectionGuard;
use super::writer::{RedisWriter, is_stored};
use crate::stream::{Appended, Destination, NewEntry, StreamError};

/// Fields of an entry that is appended plainly; the script refuses one with many more.
const PLAIN_FIELDS: usize = 1000;
/// Pause between two looks at another's reservation.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

impl RedisWriter {
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
        if self.has_ample_room(reserved.len()) && began.elapsed() < RELIED_ON && !reserved.is_empty() {
            rest.retain(|place| !is_reserved.contains(place));
            let chunk = Chunk::of(Destination::Stream, reserved, entries);
            let is_last = rest.is_empty() && repeats.is_empty();
            let open = self
                .append_plainly(guard, entries, &chunk, Some(&dedupe), &mut outcomes, is_last)
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
                    (Some(entry), Some(outcome)) if !is_stored(outcome) => self.unnoted.release(&entry.dedupe_key),
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
            self.clock = Some(ServerClock::of(
                asked.map_err(|error| self.server.stream_error(&error))?,
            ));
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
        let keys = Arc::clone(&self.keys);
        let id = |place: usize| {
            let entry = entries.get(place)?;
            let is_plain = entry.destination == Destination::Stream && entry.fields.0.len() <= PLAIN_FIELDS;
            is_plain.then_some((place, &entry.dedupe_key))
        };
        let asked = Vec::from_iter(places.iter().filter_map(|&place| id(place)));
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let [generation, before] = keys.generations(&keys.stream, dedupe.now);
        let reservation = dedupe.ticket.reservation(dedupe.now);
        let mut pipeline = Pipeline::with_capacity(asked.len() + 6);
        self.unnoted.note(&mut pipeline, &generation, &keys);
        let mut look = redis::cmd("HMGET");
        look.arg(&before);
        for (_, id) in &asked {
            let reserve = pipeline.cmd("HSETNX").arg(&generation);
            reserve.arg(id).arg(&reservation);
            look.arg(id);
        }
        pipeline.add_command(look).cmd("XLEN").arg(&keys.stream).cmd("TIME");
        let mut replies = self.query(guard, &mut pipeline).await?.into_iter();
        self.unnoted.clear();
        let taken = Vec::from_iter(replies.by_ref().take(asked.len()).map(|reply| read(reply) == Some(1u8)));
        let known: Option<Vec<Option<Value>>> = replies.next().and_then(read);
        let length = replies.next().and_then(read::<u64>);
        self.room = length.map(|length| (keys.maxlen.saturating_sub(length), Instant::now()));
        self.clock = replies.next().and_then(read).map(ServerClock::of);
        // Where it cannot be looked at, the script tells why.
        let unknown = known.unwrap_or_default().into_iter().map(|known| known.is_none());
        let free = asked.iter().zip(taken).zip(unknown);
        Ok(free
            .filter_map(|(((place, _), is_taken), is_unknown)| (is_taken && is_unknown).then_some(*place))
            .collect())
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
            let calls = chunks(entries, rest);
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
                let found = stored_since(&self.server, &self.keys, since, entries, &given_up).await;
                match found {
                    Ok(found) => {
                        for (place, id) in found {
                            if let Some(entry) = entries.get(place) {
                                self.unnoted.store(&entry.dedupe_key, id, entry.digest);
                            }
                        }
                    }
                    Err(error) => {
                        rest.retain(|place| !given_up.contains(place));
                        put_off(outcomes, &given_up, &error.to_string());
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
