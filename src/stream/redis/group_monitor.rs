//! Finds entries that a foreign command took off our group, and makes them pending again: those
//! that were pending with a consumer when XGROUP DELCONSUMER removed it, and those unread when
//! XGROUP SETID moved the group past them.
//!
//! Redis fails no call for such a loss, and its counters do not show it: acks are not counted, and
//! `entries-read` is unknown after SETID until the next read at the end of the stream sets it to
//! what it would be without a loss. What shows it, once a second, is the state of the look before:
//!
//! - A consumer with pending entries is not in the group any more. The service removes none that
//!   has any, and leaves a mark for each that it removes (`remove_silent.lua`), since its last
//!   entries may have been acked after the look.
//! - `INFO commandstats` counts another call of XGROUP SETID, and the group's last delivered id is
//!   a later one. The service calls it only here.
//! - The last delivered id is behind the newest one: the group would read nothing any more. It is
//!   set back.
//!
//! Then every entry of that part of the stream that is pending with nobody becomes pending. Some
//! may have been acked within the last second, which Redis does not know: they are loaded again,
//! and that is harmless, as after a replay. Of the processes that see it, the first to set a mark
//! in Redis does it.
//!
//! Not found: what happens while no process of the service runs, within the first second of one, or
//! to a consumer that came since the look before; XGROUP SETID where the user may not call INFO;
//! what was trimmed before the look, which takes `ORDERSTREAM_RETAIN_ACKED=0`. A group that was
//! made anew is no loss: it reads everything again.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::Mutex;

use super::group::lacks_group;
use super::keys::{Keys, millis};
use super::scripts;
use super::server::Server;
use crate::stream::admin::{LONG_IDLE, REPLAY_CONSUMER};
use crate::stream::{Restored, StreamError, StreamId};

/// Entries of one script call: a few milliseconds of the server's time.
const PAGE: usize = 500;
/// How long a mark stays: every process has looked by then.
pub(super) const MARK_LIFETIME: Duration = Duration::from_secs(60);

/// What the look before found; shared by nobody, since one role looks.
pub(super) struct GroupMonitor {
    before: Mutex<Option<GroupState>>,
    /// Tells the marks of this process from those of others.
    token: u64,
}

/// Answer of `group_state.lua`.
type GroupStateReply = (
    u64,
    Option<String>,
    Option<u64>,
    Option<u64>,
    StreamId,
    StreamId,
    Vec<(String, Option<StreamId>)>,
);

#[derive(Debug, Clone, PartialEq, Eq)]
struct GroupState {
    /// The server's clock, Unix milliseconds.
    at: u64,
    run: Option<String>,
    /// Groups made on this server, and calls of XGROUP SETID.
    made: Option<u64>,
    moved: Option<u64>,
    newest: StreamId,
    last_delivered: StreamId,
    /// The oldest entry that is pending with each.
    consumers: HashMap<String, Option<StreamId>>,
}

/// A part of the stream in which entries may be pending with nobody that nobody acked.
#[derive(Debug, PartialEq, Eq)]
struct Loss {
    /// What happened.
    cause: String,
    /// The name that the processes know it by.
    mark: String,
    first: StreamId,
    last: StreamId,
}

impl GroupMonitor {
    pub(super) fn new() -> Self {
        Self {
            before: Mutex::new(None),
            token: rand::random(),
        }
    }

    /// Looks at the group, and restores what it lost since the look before. After an error the next
    /// call does it.
    pub(super) async fn restore(&self, server: &Server, keys: &Keys) -> Result<Vec<Restored>, StreamError> {
        let mut before = self.before.lock().await;
        let mut script = scripts::GROUP_STATE.key(&keys.stream);
        let answer: Option<GroupStateReply> = server.run(script.arg(&keys.group)).await?;
        let now = answer.map(GroupState::from);
        let mut restored = Vec::new();
        if let Some(now) = &now {
            let losses = before.as_ref().map(|before| losses(before, now)).unwrap_or_default();
            let since = before.as_ref().map_or(0, |before| before.at);
            for loss in losses {
                if self.is_first(server, keys, &loss, since).await? {
                    let entries = make_pending(server, keys, &loss).await?;
                    restored.push(Restored {
                        cause: loss.cause,
                        entries,
                    });
                }
            }
            if now.last_delivered > now.newest {
                set_back(server, keys, now.newest).await?;
            }
        }
        *before = now;
        Ok(restored)
    }

    /// Whether no other process saw to it.
    async fn is_first(&self, server: &Server, keys: &Keys, loss: &Loss, since: u64) -> Result<bool, StreamError> {
        let mut script = scripts::TAKE_MARK.key(format!("{}{}", keys.marks, loss.mark));
        script.arg(since).arg(self.token).arg(millis(MARK_LIFETIME));
        Ok(server.run::<u8>(&script).await? == 1)
    }
}

impl From<GroupStateReply> for GroupState {
    fn from((at, run, made, moved, newest, last_delivered, consumers): GroupStateReply) -> Self {
        Self {
            at,
            run,
            made,
            moved,
            newest,
            last_delivered,
            consumers: consumers.into_iter().collect(),
        }
    }
}

/// What was lost between two looks. Nothing where the server is another one or runs anew, or a
/// group was made meanwhile: ours may be, and then it reads everything again.
fn losses(before: &GroupState, now: &GroupState) -> Vec<Loss> {
    if before.run != now.run || before.made != now.made {
        return Vec::new();
    }
    let gone = before
        .consumers
        .iter()
        .filter(|(name, _)| !now.consumers.contains_key(*name));
    let removed = gone.filter_map(|(name, oldest)| {
        Some(Loss {
            cause: format!("consumer {name:?} was removed while entries were pending with it (XGROUP DELCONSUMER)"),
            mark: format!("consumer:{name}"),
            first: (*oldest)?,
            last: now.last_delivered,
        })
    });
    let mut losses = Vec::from_iter(removed);
    let is_set = now.last_delivered > now.newest || before.moved.zip(now.moved).is_some_and(|(old, new)| new > old);
    if let Some(first) = before
        .last_delivered
        .successor()
        .filter(|_| is_set && now.last_delivered > before.last_delivered)
    {
        let (from, to) = (before.last_delivered, now.last_delivered);
        losses.push(Loss {
            cause: format!("the group was moved from {from} on, and stood at {to} then (XGROUP SETID)"),
            mark: "setid".to_owned(),
            first,
            last: to,
        });
    }
    losses
}

async fn make_pending(server: &Server, keys: &Keys, loss: &Loss) -> Result<u64, StreamError> {
    let (mut made, mut next) = (0, Some(loss.first));
    while let Some(first) = next.filter(|first| *first <= loss.last) {
        let mut script = scripts::REDELIVER.key(&keys.stream);
        script.arg(&keys.group).arg(REPLAY_CONSUMER);
        script.arg(millis(LONG_IDLE));
        script.arg(first).arg(loss.last).arg(PAGE);
        let (page, last): (u64, Option<StreamId>) = server.run(&script).await?;
        made += page;
        next = last.and_then(StreamId::successor);
    }
    Ok(made)
}

/// What is appended from now on has a later id.
async fn set_back(server: &Server, keys: &Keys, newest: StreamId) -> Result<(), StreamError> {
    let mut set = redis::cmd("XGROUP");
    set.arg("SETID").arg(&keys.stream).arg(&keys.group).arg(newest);
    match server.query::<()>(&set).await {
        Err(error) if !lacks_group(&error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    /// At 50 of 80, with entries pending for `a` from 40 on, and none for `b`.
    fn state() -> GroupState {
        GroupState {
            at: 1,
            run: Some("r".to_owned()),
            made: Some(1),
            moved: Some(0),
            newest: id(80),
            last_delivered: id(50),
            consumers: [("a".to_owned(), Some(id(40))), ("b".to_owned(), None)].into(),
        }
    }

    fn found(change: impl FnOnce(&mut GroupState)) -> Vec<(StreamId, StreamId)> {
        let mut now = state();
        change(&mut now);
        let losses = losses(&state(), &now);
        losses.into_iter().map(|loss| (loss.first, loss.last)).collect()
    }

    #[test]
    fn ordinary_operation_is_no_loss() {
        assert_eq!(found(|_| {}), []);
        assert_eq!(found(|now| now.last_delivered = id(70)), [], "others read");
        assert_eq!(
            found(|now| now.consumers = [("a".to_owned(), None)].into()),
            [],
            "a acked, b is gone"
        );
        assert_eq!(found(|now| now.moved = Some(1)), [], "of another group");
        let anew = |now: &mut GroupState| {
            now.consumers.clear();
            now.made = Some(2);
        };
        assert_eq!(found(anew), [], "the group was made anew");
        let elsewhere = |now: &mut GroupState| {
            now.consumers.clear();
            now.run = Some("another".to_owned());
        };
        assert_eq!(found(elsewhere), [], "another server");
        let back = |now: &mut GroupState| (now.moved, now.last_delivered) = (Some(1), id(10));
        assert_eq!(found(back), [], "what it was moved back over is read again");
    }

    #[test]
    fn what_is_taken_off_the_group_is_found() {
        let removed = |now: &mut GroupState| {
            now.consumers.remove("a");
            now.last_delivered = id(55);
        };
        assert_eq!(found(removed), [(id(40), id(55))]);
        let moved = |now: &mut GroupState| (now.moved, now.last_delivered) = (Some(1), id(80));
        let first = StreamId::new(50, 1);
        assert_eq!(found(moved), [(first, id(80))]);
        let beyond = |now: &mut GroupState| (now.moved, now.last_delivered) = (None, id(900));
        assert_eq!(found(beyond), [(first, id(900))], "INFO is denied");
    }
}
