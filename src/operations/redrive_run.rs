//! Dead letters resolved: replayed, or discarded.
//!
//! Invariants: a dead letter is removed only after its event was appended, and the append has a
//! dedupe key of the dead letter's own, so an interrupted step may be repeated. Dead letters that
//! are written meanwhile (what fails again) are not part of the run. What the current code still
//! cannot decode stays a dead letter.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::api::{Carrier, Operation};
use super::context::{Operations, OperationsError};
use super::dead_letters::DeadLetterSummary;
use super::pager::{LARGE_PAGE, Pager, only};
use super::rate_limit::RateLimit;
use super::redrive::redrive;
use crate::stream::{Appended, Destination, Entry, NewEntry, Range, ReadOrder, StreamId};

/// Dead letters handled in one step.
const STEP: usize = 200;
/// Ids of one request.
const MAX_IDS: usize = 1000;

/// What is done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Their events are appended to the stream once more.
    Replay,
    /// They are removed.
    Discard,
}

/// Asks for a step of a replay of dead letters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplayDeadLetters(pub ResolveRequest);

/// Asks for a step that discards dead letters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiscardDeadLetters(pub ResolveRequest);

/// Which dead letters, and how.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// These; at most a thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<StreamId>,
    /// All of the one cause whose fingerprint begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// All.
    #[serde(default)]
    pub all: bool,
    /// Changes nothing, answers what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Dead letters a second, 1 to 10,000; 500 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<NonZeroU32>,
    /// The `next` of the step before; without it, a run begins.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::api::or_null"
    )]
    pub next: Option<IdRange>,
}

/// What is left of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdRange {
    /// The oldest id.
    pub from: StreamId,
    /// The newest id: the newest of all when the run began.
    pub to: StreamId,
}

/// What was done with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolutionOutcome {
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

/// What was done with one dead letter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Resolution {
    /// The dead letter.
    pub id: StreamId,
    /// Its event.
    pub event_id: Option<String>,
    /// Type that the event has, or would have, now.
    pub event_type: Option<String>,
    /// What was done with it.
    pub outcome: ResolutionOutcome,
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
    /// Dead letters read.
    pub looked_at: u64,
    /// Each of them.
    #[serde(rename = "letters")]
    pub dead_letters: Vec<Resolution>,
    /// What is left of the run; null at its end.
    pub next: Option<IdRange>,
}

impl Operation for ReplayDeadLetters {
    type Answer = ResolveStep;
    const PATH: &'static str = "/api/dead-letters/replay";
    const CARRIER: Carrier = Carrier::Body;

    async fn run(self, operations: &Operations) -> Result<ResolveStep, OperationsError> {
        operations.resolve(Action::Replay, self.0).await
    }
}

impl Operation for DiscardDeadLetters {
    type Answer = ResolveStep;
    const PATH: &'static str = "/api/dead-letters/discard";
    const CARRIER: Carrier = Carrier::Body;

    async fn run(self, operations: &Operations) -> Result<ResolveStep, OperationsError> {
        operations.resolve(Action::Discard, self.0).await
    }
}

/// The dead letters of one step.
#[derive(Default)]
pub(super) struct Selection {
    pub(super) dead_letters: Vec<Entry>,
    looked_at: u64,
    pub(super) next: Option<IdRange>,
}

impl Operations {
    /// Does one step of a run: at most 200 dead letters, about two seconds. The run is over where
    /// `next` is null.
    async fn resolve(&self, action: Action, request: ResolveRequest) -> Result<ResolveStep, OperationsError> {
        let this = self.clone();
        self.run_step(async move { this.resolve_step(action, &request).await })
            .await
    }

    async fn resolve_step(&self, action: Action, request: &ResolveRequest) -> Result<ResolveStep, OperationsError> {
        let mut rate_limit = RateLimit::new(request.rate);
        let count = if request.dry_run { STEP } else { rate_limit.step(STEP) };
        let selection = self.select(request, count).await?;
        let mut resolutions = Vec::with_capacity(selection.dead_letters.len());
        let mut outcome = Ok(());
        for portion in selection.dead_letters.chunks(rate_limit.portion()) {
            let resolved = match (action, request.dry_run) {
                (Action::Replay, dry_run) => self.replay_dead_letters(portion, dry_run).await,
                (Action::Discard, dry_run) => self.discard_dead_letters(portion, dry_run).await,
            };
            match resolved {
                Ok(resolved) => resolutions.extend(resolved),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            if !request.dry_run {
                rate_limit.pay(portion.len()).await;
            }
        }
        let kept = resolutions
            .iter()
            .filter(|one| one.outcome == ResolutionOutcome::Kept)
            .count() as u64;
        let done = resolutions.len() as u64 - kept;
        // The first step of a run is recorded even where it found nothing.
        if !request.dry_run && (request.next.is_none() || !resolutions.is_empty()) {
            self.record(action.name(), &request.what(), done, kept).await;
        }
        outcome?;
        Ok(ResolveStep {
            done,
            kept,
            looked_at: selection.looked_at,
            dead_letters: resolutions,
            next: selection.next,
        })
    }

    /// The dead letters of one step, at most `count`.
    pub(super) async fn select(&self, request: &ResolveRequest, count: usize) -> Result<Selection, OperationsError> {
        let selectors = [!request.ids.is_empty(), request.fingerprint.is_some(), request.all];
        if selectors.into_iter().filter(|given| *given).count() != 1 {
            return Err(OperationsError::Invalid("give one of ids, fingerprint and all"));
        }
        if request.ids.len() > MAX_IDS {
            return Err(OperationsError::Invalid("at most 1000 ids at once"));
        }
        if !request.ids.is_empty() {
            return self.select_by_id(request, count).await;
        }
        let Some(bounds) = self.bounds(request).await? else {
            return match request.fingerprint {
                Some(_) => Err(OperationsError::NoSuchCause),
                None => Ok(Selection::default()),
            };
        };
        // Within the bounds of a run nothing is added, so a prefix that is unique at its beginning
        // stays so.
        if let (Some(prefix), None) = (&request.fingerprint, request.next) {
            self.cause(prefix, bounds.to).await?;
        }
        let range = Range {
            from: bounds.from,
            to: bounds.to,
            ..Range::all(Destination::DeadLetters, ReadOrder::OldestFirst, count)
        };
        // One page: its bytes are all that is in memory.
        let mut pager = Pager::new(&*self.stream, range, count);
        let mut dead_letters = pager.page().await?.unwrap_or_default();
        let looked_at = dead_letters.len() as u64;
        if let Some(prefix) = &request.fingerprint {
            dead_letters.retain(|entry| DeadLetterSummary::of(entry).fingerprint.starts_with(prefix));
        }
        Ok(Selection {
            dead_letters,
            looked_at,
            next: pager.rest().map(|rest| IdRange {
                from: rest.from,
                ..bounds
            }),
        })
    }

    async fn select_by_id(&self, request: &ResolveRequest, count: usize) -> Result<Selection, OperationsError> {
        let from = request.next.map_or(StreamId::MIN, |next| next.from);
        let ids = BTreeSet::from_iter(request.ids.iter().copied().filter(|id| *id >= from));
        let (mut selection, mut bytes) = (Selection::default(), 0);
        let mut rest = ids.iter();
        while selection.looked_at < count as u64 && bytes < LARGE_PAGE {
            let Some(id) = rest.next() else { break };
            selection.looked_at += 1;
            let found = self.stream.range(only(Destination::DeadLetters, *id)).await?.entries;
            bytes += found.iter().map(|entry| entry.fields.bytes()).sum::<usize>();
            selection.dead_letters.extend(found);
        }
        let left = rest.next().zip(ids.last());
        selection.next = left.map(|(from, to)| IdRange { from: *from, to: *to });
        Ok(selection)
    }

    async fn bounds(&self, request: &ResolveRequest) -> Result<Option<IdRange>, OperationsError> {
        if request.next.is_some() {
            return Ok(request.next);
        }
        let newest = Range::all(Destination::DeadLetters, ReadOrder::NewestFirst, 1);
        let newest = self.stream.range(newest).await?.entries;
        Ok(newest.first().map(|entry| IdRange {
            from: StreamId::MIN,
            to: entry.id,
        }))
    }

    async fn replay_dead_letters(
        &self,
        dead_letters: &[Entry],
        dry_run: bool,
    ) -> Result<Vec<Resolution>, OperationsError> {
        let mut resolutions = Vec::with_capacity(dead_letters.len());
        let (mut ready, mut entries) = (Vec::new(), Vec::new());
        for dead_letter in dead_letters {
            match redrive(dead_letter, &self.intake) {
                Ok(redriven) => {
                    let mut resolution = resolution(dead_letter, ResolutionOutcome::WouldReplay);
                    resolution.event_type = Some(redriven.event_type);
                    ready.push(resolution);
                    entries.push(NewEntry {
                        destination: Destination::Stream,
                        dedupe_key: dedupe_key(dead_letter.id),
                        digest: [0; 16],
                        spread: redriven.spread,
                        fields: redriven.fields,
                    });
                }
                Err(reason) => resolutions.push(resolution(dead_letter, ResolutionOutcome::Kept).because(reason)),
            }
        }
        if dry_run {
            resolutions.extend(ready);
            return Ok(resolutions);
        }
        let outcomes = self.stream.writer().append(&entries).await;
        Appended::answered(&outcomes)?;
        let mut appended = Vec::with_capacity(ready.len());
        for (mut resolution, outcome) in ready.into_iter().zip(outcomes) {
            resolution.outcome = ResolutionOutcome::Kept;
            resolutions.push(match outcome {
                Appended::Accepted(_) | Appended::Duplicate(_) => {
                    appended.push(resolution.id);
                    resolution.outcome = ResolutionOutcome::Replayed;
                    resolution
                }
                // A repeated step has the same digest, so this is another program's entry.
                Appended::Conflict(_) => resolution
                    .because("another entry has its dedupe key, which only a foreign program writes".to_owned()),
                Appended::Full => resolution.because("the stream is at its cap".to_owned()),
                Appended::Refused(reason) | Appended::TooLarge(reason) | Appended::Unavailable(reason) => {
                    resolution.because(reason)
                }
                Appended::Failed(error) => resolution.because(error.to_string()),
            });
        }
        self.stream.remove(Destination::DeadLetters, &appended).await?;
        Ok(resolutions)
    }

    async fn discard_dead_letters(
        &self,
        dead_letters: &[Entry],
        dry_run: bool,
    ) -> Result<Vec<Resolution>, OperationsError> {
        let outcome = match dry_run {
            true => ResolutionOutcome::WouldDiscard,
            false => ResolutionOutcome::Discarded,
        };
        if !dry_run {
            let ids = Vec::from_iter(dead_letters.iter().map(|entry| entry.id));
            self.stream.remove(Destination::DeadLetters, &ids).await?;
        }
        Ok(dead_letters.iter().map(|entry| resolution(entry, outcome)).collect())
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
    /// For the audit log.
    fn what(&self) -> String {
        match (&self.fingerprint, self.ids.as_slice()) {
            (Some(fingerprint), _) => format!("fingerprint {fingerprint}"),
            (None, []) => "all".to_owned(),
            (None, [id]) => format!("id {id}"),
            (None, [first, .., last]) => format!("{} ids from {first} to {last}", self.ids.len()),
        }
    }
}

/// Of the dead letter, not of the event, which was appended before and is appended again. Event
/// ids, which are keys too, hold no control character.
fn dedupe_key(dead_letter: StreamId) -> String {
    format!("letter\n{dead_letter}")
}

fn resolution(entry: &Entry, outcome: ResolutionOutcome) -> Resolution {
    let dead_letter = DeadLetterSummary::of(entry);
    Resolution {
        id: dead_letter.id,
        event_id: dead_letter.event_id,
        event_type: dead_letter.event_type,
        outcome,
        reason: None,
    }
}

impl Resolution {
    fn because(self, reason: String) -> Self {
        Self {
            reason: Some(reason),
            ..self
        }
    }
}
