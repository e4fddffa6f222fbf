//! Dead letters resolved: sent through again, or discarded.
//!
//! Invariants: a dead letter goes only after its event was appended, and the append has a key of the dead letter's own, so that an
//! interrupted step may be repeated; dead letters that come in meanwhile (what fails again) are not met in the same run; what
//! the current code still cannot read stays a dead letter.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::dead_letters::DeadLetter;
use super::pager::{LARGE, Pager, only};
use super::rate_limit::RateLimit;
use super::redrive::redrive;
use super::{Operations, OperationsError};
use crate::stream::{Appended, Destination, Entry, NewEntry, Order, Range, StreamId};

/// Dead letters looked at in one step.
const STEP: usize = 200;
/// Ids of one request.
const IDS: usize = 1000;

/// What is to become of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Their events are appended to the stream once more.
    Replay,
    /// They are removed.
    Discard,
}

/// Which dead letters, and how.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// These; at most a thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<StreamId>,
    /// All of the one cause whose fingerprint begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// All.
    #[serde(default)]
    pub all: bool,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
    /// Dead letters a second, 1 to 10,000; 500 where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<NonZeroU32>,
    /// The `next` of the step before.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::serde_ext::or_null"
    )]
    pub next: Option<Bounds>,
}

/// Which dead letters a run has still before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The oldest.
    pub from: StreamId,
    /// The newest: the newest of all when the run began.
    pub to: StreamId,
}

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its event is in the stream again, and it is gone.
    Replayed,
    /// It is gone.
    Discarded,
    /// Dry run: it would be replayed.
    WouldReplay,
    /// Dry run: it would be discarded.
    WouldDiscard,
    /// It stays; the reason says why.
    Kept,
}

/// What became of one dead letter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Resolution {
    /// The dead letter.
    pub id: StreamId,
    /// Its event.
    pub event_id: Option<String>,
    /// Type that the event has, or would have, now.
    pub event_type: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One step of a run.
#[derive(Debug, Serialize, Deserialize)]
pub struct ResolveStep {
    /// Dead letters that were resolved, or would be.
    pub done: u64,
    /// Dead letters that stay.
    pub kept: u64,
    /// Dead letters looked at.
    pub looked_at: u64,
    /// One by one.
    #[serde(rename = "letters")]
    pub dead_letters: Vec<Resolution>,
    /// What is left of the run; null at its end.
    pub next: Option<Bounds>,
}

impl ResolveStep {
    fn add(&mut self, resolution: Resolution) {
        match resolution.outcome {
            Outcome::Kept => self.kept += 1,
            Outcome::Replayed | Outcome::Discarded | Outcome::WouldReplay | Outcome::WouldDiscard => self.done += 1,
        }
        self.dead_letters.push(resolution);
    }
}

impl Operations {
    /// Does one step of a run: at most 200 dead letters, about two seconds. The run is over where `next` is null.
    ///
    /// # Errors
    /// Neither or more than one of `ids`, `fingerprint` and `all` is given; at the beginning of a run, `fingerprint` fits
    /// no cause or more than one; or the stream does not do it: then some of the step may be done, and the step may be
    /// repeated.
    pub async fn resolve(&self, action: Action, request: &ResolveRequest) -> Result<ResolveStep, OperationsError> {
        let ways = [!request.ids.is_empty(), request.fingerprint.is_some(), request.all];
        if ways.into_iter().filter(|given| *given).count() != 1 {
            return Err(OperationsError::Invalid("give one of ids, fingerprint and all"));
        }
        if request.ids.len() > IDS {
            return Err(OperationsError::Invalid("at most 1000 ids at once"));
        }
        let (this, request) = (self.clone(), request.clone());
        self.act(async move { this.resolve_now(action, &request).await }).await
    }

    async fn resolve_now(&self, action: Action, request: &ResolveRequest) -> Result<ResolveStep, OperationsError> {
        let mut rate_limit = RateLimit::new(request.rate);
        let step = if request.dry_run { STEP } else { rate_limit.step(STEP) };
        let (dead_letters, looked_at, next) = self.selected(request, step).await?;
        let mut resolved = ResolveStep {
            done: 0,
            kept: 0,
            looked_at,
            dead_letters: Vec::new(),
            next,
        };
        let mut outcome = Ok(());
        for portion in dead_letters.chunks(rate_limit.portion()) {
            let resolutions = match (action, request.dry_run) {
                (Action::Replay, true) => Ok(self.judge(portion)),
                (Action::Replay, false) => self.replay_dead_letters(portion).await,
                (Action::Discard, dry_run) => self.discard_dead_letters(portion, dry_run).await,
            };
            match resolutions {
                Ok(resolutions) => resolutions.into_iter().for_each(|one| resolved.add(one)),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            if !request.dry_run {
                rate_limit.pay(portion.len()).await;
            }
        }
        // The first step of a run is written down even where it found nothing.
        let is_noted = request.next.is_none() || resolved.done + resolved.kept > 0;
        if !request.dry_run && is_noted {
            self.record(action.name(), &request.what(), resolved.done, resolved.kept)
                .await;
        }
        outcome.map(|()| resolved)
    }

    /// The dead letters of one step, how many were looked at, and what is left.
    async fn selected(
        &self,
        request: &ResolveRequest,
        step: usize,
    ) -> Result<(Vec<Entry>, u64, Option<Bounds>), OperationsError> {
        if !request.ids.is_empty() {
            return self.named(request, step).await;
        }
        let Some(bounds) = self.bounds(request).await? else {
            return match request.fingerprint {
                Some(_) => Err(OperationsError::NoSuchCause),
                None => Ok((Vec::new(), 0, None)),
            };
        };
        // Within the bounds of a run nothing is added, so a prefix that is unique at its beginning stays so.
        if let (Some(prefix), None) = (&request.fingerprint, request.next) {
            self.cause(prefix, bounds.to).await?;
        }
        let range = Range {
            from: bounds.from,
            to: bounds.to,
            ..Range::all(Destination::DeadLetters, Order::OldestFirst, step)
        };
        // One page: its bytes are all that is in memory.
        let mut pager = Pager::new(&*self.stream, range, step);
        let mut dead_letters = pager.page().await?.unwrap_or_default();
        let looked_at = dead_letters.len() as u64;
        if let Some(wanted) = &request.fingerprint {
            dead_letters.retain(|dead_letter| DeadLetter::of(dead_letter).fingerprint.starts_with(wanted));
        }
        let next = pager.rest().map(|rest| Bounds {
            from: rest.from,
            ..bounds
        });
        Ok((dead_letters, looked_at, next))
    }

    /// As [`Self::selected`], by id.
    async fn named(
        &self,
        request: &ResolveRequest,
        step: usize,
    ) -> Result<(Vec<Entry>, u64, Option<Bounds>), OperationsError> {
        let from = request.next.map_or(StreamId::MIN, |next| next.from);
        let ids = BTreeSet::from_iter(request.ids.iter().copied().filter(|id| *id >= from));
        let mut dead_letters = Vec::new();
        let (mut looked_at, mut bytes) = (0, 0);
        let mut rest = ids.iter();
        while looked_at < step as u64 && bytes < LARGE {
            let Some(id) = rest.next() else { break };
            looked_at += 1;
            let found = self.stream.range(only(Destination::DeadLetters, *id)).await?.entries;
            bytes += found
                .iter()
                .map(|dead_letter| dead_letter.fields.bytes())
                .sum::<usize>();
            dead_letters.extend(found);
        }
        let next = rest
            .next()
            .zip(ids.last())
            .map(|(from, to)| Bounds { from: *from, to: *to });
        Ok((dead_letters, looked_at, next))
    }

    async fn bounds(&self, request: &ResolveRequest) -> Result<Option<Bounds>, OperationsError> {
        if request.next.is_some() {
            return Ok(request.next);
        }
        let newest = Range::all(Destination::DeadLetters, Order::NewestFirst, 1);
        let newest = self.stream.range(newest).await?.entries;
        Ok(newest.first().map(|dead_letter| Bounds {
            from: StreamId::MIN,
            to: dead_letter.id,
        }))
    }

    /// What a replay would come to.
    fn judge(&self, dead_letters: &[Entry]) -> Vec<Resolution> {
        let judge = |dead_letter: &Entry| match redrive(dead_letter, self.keep_raw, self.body_limit) {
            Ok(revived) => Resolution {
                event_type: Some(revived.event_type),
                ..resolution(dead_letter, Outcome::WouldReplay)
            },
            Err(reason) => kept(dead_letter, reason),
        };
        dead_letters.iter().map(judge).collect()
    }

    async fn replay_dead_letters(&self, dead_letters: &[Entry]) -> Result<Vec<Resolution>, OperationsError> {
        let mut resolutions = Vec::with_capacity(dead_letters.len());
        let mut ready = Vec::with_capacity(dead_letters.len());
        let mut entries = Vec::with_capacity(dead_letters.len());
        for dead_letter in dead_letters {
            match redrive(dead_letter, self.keep_raw, self.body_limit) {
                Ok(revived) => {
                    ready.push((dead_letter, revived.event_type));
                    entries.push(NewEntry {
                        destination: Destination::Stream,
                        dedupe_key: dedupe_key(dead_letter.id),
                        digest: [0; 16],
                        fields: revived.fields,
                    });
                }
                Err(reason) => resolutions.push(kept(dead_letter, reason)),
            }
        }
        let outcomes = self.stream.writer().append(&entries).await?;
        let mut gone = Vec::with_capacity(ready.len());
        for ((dead_letter, event_type), outcome) in ready.into_iter().zip(outcomes) {
            resolutions.push(match outcome {
                Appended::Accepted(_) | Appended::Duplicate(_) => {
                    gone.push(dead_letter.id);
                    Resolution {
                        event_type: Some(event_type),
                        ..resolution(dead_letter, Outcome::Replayed)
                    }
                }
                // A step that is repeated has the same digest, so that this is none of ours.
                Appended::Conflict(_) => kept(dead_letter, "its dedupe key stands for something else".to_owned()),
                Appended::Full => kept(dead_letter, "the stream is at its cap".to_owned()),
                Appended::Refused(reason) | Appended::TooLarge(reason) | Appended::Unavailable(reason) => {
                    kept(dead_letter, reason)
                }
            });
        }
        self.stream.remove_dead_letters(&gone).await?;
        Ok(resolutions)
    }

    async fn discard_dead_letters(
        &self,
        dead_letters: &[Entry],
        dry_run: bool,
    ) -> Result<Vec<Resolution>, OperationsError> {
        if dry_run {
            let would = dead_letters
                .iter()
                .map(|dead_letter| resolution(dead_letter, Outcome::WouldDiscard));
            return Ok(would.collect());
        }
        let ids = Vec::from_iter(dead_letters.iter().map(|dead_letter| dead_letter.id));
        self.stream.remove_letters(&ids).await?;
        let gone = dead_letters
            .iter()
            .map(|dead_letter| resolution(dead_letter, Outcome::Discarded));
        Ok(gone.collect())
    }
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Replay => "dead-letters replay",
            Self::Discard => "dead-letters discard",
        }
    }
}

impl ResolveRequest {
    /// For the record.
    fn what(&self) -> String {
        match (&self.fingerprint, self.ids.as_slice()) {
            (Some(fingerprint), _) => format!("fingerprint {fingerprint}"),
            (None, []) => "all".to_owned(),
            (None, [id]) => format!("id {id}"),
            (None, [first, .., last]) => format!("{} ids from {first} to {last}", self.ids.len()),
        }
    }
}

/// Of the dead letter, not of the event, which was appended before and is to be again. No event's id, which is a key beside
/// this one, holds a control character.
fn dedupe_key(dead_letter: StreamId) -> String {
    format!("letter\n{dead_letter}")
}

fn resolution(dead_letter: &Entry, outcome: Outcome) -> Resolution {
    let DeadLetter {
        id,
        event_id,
        event_type,
        ..
    } = DeadLetter::of(dead_letter);
    Resolution {
        id,
        event_id,
        event_type,
        outcome,
        reason: None,
    }
}

fn kept(dead_letter: &Entry, reason: String) -> Resolution {
    Resolution {
        reason: Some(reason),
        ..resolution(dead_letter, Outcome::Kept)
    }
}
