//! The receiver: takes messages off the replication connection, answers the server, and tells it
//! what is stored.
//!
//! Invariants: the server hears of this process every 2 s, however long the messages wait; it is never told a position that is not stored.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::postgres::{Replication, ReplicationMessage, SourceError};

/// Messages that wait to be worked on.
pub(super) const MESSAGES: usize = 64;
/// How often the server hears of this process. It gives up after 60 s, or what the URL's `options`
/// say.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// What comes from the server.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A message of `pgoutput`.
    Message(Bytes),
    /// Everything below was sent.
    SentUpTo(u64),
}

/// Receives until the connection ends; `stored` is what the server may forget.
pub(super) async fn receive(
    connection: &mut Replication,
    messages: &mpsc::Sender<Incoming>,
    stored: &mut watch::Receiver<u64>,
) -> SourceError {
    let mut tick = interval(SIGN_OF_LIFE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut receiver = Receiver {
        connection,
        stored,
        received: 0,
        tick,
    };
    loop {
        if let Err(error) = receiver.next(messages).await {
            return error;
        }
    }
}

struct Receiver<'a> {
    connection: &'a mut Replication,
    stored: &'a mut watch::Receiver<u64>,
    received: u64,
    tick: Interval,
}

impl Receiver<'_> {
    async fn next(&mut self, messages: &mpsc::Sender<Incoming>) -> Result<(), SourceError> {
        let ended = || SourceError::Unreachable("the capture ended".to_owned());
        let place = loop {
            tokio::select! {
                biased;
                _ = self.tick.tick() => self.confirm().await?,
                place = messages.reserve() => break place.map_err(|_| ended())?,
            }
        };
        let message = loop {
            tokio::select! {
                biased;
                _ = self.tick.tick() => self.confirm().await?,
                changed = self.stored.changed() => {
                    changed.map_err(|_| ended())?;
                    self.confirm().await?;
                }
                message = self.connection.next() => break message?,
            }
        };
        match message {
            ReplicationMessage::Payload(bytes) => place.send(Incoming::Message(bytes)),
            ReplicationMessage::Keepalive { wal_end, wants_reply } => {
                self.received = self.received.max(wal_end.into());
                if wants_reply {
                    self.confirm().await?;
                }
                place.send(Incoming::SentUpTo(wal_end.into()));
            }
            ReplicationMessage::Ended => {
                return Err(SourceError::Unreachable("the server ended the stream".to_owned()));
            }
        }
        Ok(())
    }

    async fn confirm(&mut self) -> Result<(), SourceError> {
        let stored = *self.stored.borrow_and_update();
        self.connection.confirm(self.received.into(), stored.into()).await
    }
}
