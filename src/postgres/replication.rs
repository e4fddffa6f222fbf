//! The streaming replication protocol, which tokio-postgres lacks: simple queries and CopyBoth,
//! over `postgres-protocol`. `handshake.rs` connects.
//!
//! Owns one connection with `replication=database`. Invariants: [`Replication::next`] may be
//! cancelled and loses nothing; the only thing that is read ahead is what one read of the socket
//! brought; no error text holds a password.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, SystemTime};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{DataRowBody, ErrorFields, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::error::SourceError;

/// Position in the WAL.
pub(crate) type Lsn = tokio_postgres::types::PgLsn;

/// CopyBothResponse, which `postgres-protocol` does not know.
const COPY_BOTH: u8 = b'W';
const COPY_ROW: u8 = b'd';
/// From 2000-01-01, which PostgreSQL counts from, back to 1970-01-01, seconds.
const EPOCH: Duration = Duration::from_secs(946_684_800);

/// What the walsender sends.
#[derive(Debug)]
pub(crate) enum ReplicationMessage {
    /// One message of the output plugin.
    Payload(Bytes),
    /// The server's position, and whether it wants an answer at once.
    Keepalive {
        /// End of the WAL that was sent or skipped.
        wal_end: Lsn,
        /// Whether the server will end the connection without an answer.
        wants_reply: bool,
    },
    /// The server ended the stream.
    Ended,
}

/// The answer to IDENTIFY_SYSTEM.
#[derive(Debug, Clone)]
pub(crate) struct SystemIdentity {
    /// System identifier of the cluster.
    pub(crate) system: String,
    /// Its current timeline.
    pub(crate) timeline: u32,
    /// End of its WAL that is flushed to disk.
    pub(crate) wal_end: Lsn,
}

pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A connection in replication mode to one database.
pub(crate) struct Replication {
    pub(super) wire: Box<dyn Wire>,
    pub(super) received: BytesMut,
    pub(super) parameters: HashMap<String, String>,
}

impl Replication {
    /// Sends a command, or SQL that a walsender takes, and collects the rows of its answer as text.
    pub(crate) async fn query(&mut self, command: &str) -> Result<Vec<Vec<Option<String>>>, SourceError> {
        let mut message = BytesMut::new();
        frontend::query(command, &mut message)?;
        self.send(&message).await?;
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            let message = match self.message().await {
                Ok(message) => message,
                Err(error @ SourceError::Refused { .. }) => {
                    refused = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Message::DataRow(row) = &message {
                rows.push(columns(row)?);
            } else if matches!(message, Message::ReadyForQuery(_)) {
                return refused.map_or(Ok(rows), Err);
            }
        }
    }

    /// Which cluster this is, and how far its WAL goes.
    pub(crate) async fn identify(&mut self) -> Result<SystemIdentity, SourceError> {
        let rows = self.query("IDENTIFY_SYSTEM").await?;
        let text = |n: usize| rows.first()?.get(n)?.as_deref();
        let identity = || {
            Some(SystemIdentity {
                system: text(0)?.to_owned(),
                timeline: text(1)?.parse().ok()?,
                wal_end: text(2)?.parse().ok()?,
            })
        };
        identity().ok_or_else(|| unexpected("another answer to IDENTIFY_SYSTEM"))
    }

    /// The history file of a timeline; of the first there is none.
    pub(crate) async fn timeline_history(&mut self, timeline: u32) -> Result<String, SourceError> {
        if timeline <= 1 {
            return Ok(String::new());
        }
        let rows = self.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = rows.into_iter().next().and_then(|row| row.into_iter().nth(1).flatten());
        content.ok_or_else(|| unexpected("another answer to TIMELINE_HISTORY"))
    }

    /// Major version of the server.
    pub(crate) fn server_version(&self) -> u32 {
        let version = self.parameters.get("server_version");
        let major = version.and_then(|version| version.split(['.', ' ', 'b', 'r', 'd']).next()?.parse().ok());
        major.unwrap_or_default()
    }

    /// Starts to stream with START_REPLICATION; only [`Self::next`] and [`Self::confirm`] are of
    /// use afterwards.
    ///
    /// # Errors
    /// The server's: 55006 where another process has the slot.
    pub(crate) async fn start(&mut self, command: &str) -> Result<(), SourceError> {
        let mut message = BytesMut::new();
        frontend::query(command, &mut message)?;
        self.send(&message).await?;
        loop {
            if self.frame().await?.first() == Some(&COPY_BOTH) {
                return Ok(());
            }
        }
    }

    /// The next message of the stream; may be cancelled.
    ///
    /// # Errors
    /// The connection broke, or the server ended it with an error.
    pub(crate) async fn next(&mut self) -> Result<ReplicationMessage, SourceError> {
        loop {
            let mut frame = self.frame().await?;
            if frame.first() != Some(&COPY_ROW) {
                if let Some(Message::CopyDone | Message::CommandComplete(_)) = Message::parse(&mut frame)? {
                    return Ok(ReplicationMessage::Ended);
                }
                continue;
            }
            let mut content = frame.freeze().slice(5..);
            match content.try_get_u8() {
                // Start, end, time of sending.
                Ok(b'w') if content.len() >= 24 => {
                    content.advance(24);
                    return Ok(ReplicationMessage::Payload(content));
                }
                Ok(b'k') if content.len() >= 17 => {
                    let wal_end = content.get_u64().into();
                    content.advance(8);
                    let wants_reply = content.get_u8() == 1;
                    return Ok(ReplicationMessage::Keepalive { wal_end, wants_reply });
                }
                _ => return Err(unexpected("an unknown message of the walsender")),
            }
        }
    }

    /// Tells the server what was received, and up to where it may forget the WAL.
    pub(crate) async fn confirm(&mut self, received: Lsn, stored: Lsn) -> Result<(), SourceError> {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(EPOCH);
        let mut status = BytesMut::with_capacity(39);
        status.put_u8(COPY_ROW);
        status.put_u32(4 + 34);
        status.put_u8(b'r');
        for lsn in [received.max(stored), stored, stored] {
            status.put_u64(lsn.into());
        }
        status.put_u64(u64::try_from(now.saturating_sub(EPOCH).as_micros()).unwrap_or_default());
        status.put_u8(0);
        self.send(&status).await
    }

    /// Ends the stream in order, so that the server frees the slot at once.
    pub(crate) async fn finish(mut self) {
        let mut message = BytesMut::new();
        frontend::copy_done(&mut message);
        frontend::terminate(&mut message);
        // The server notices the end of the connection too.
        let _ = tokio::time::timeout(Duration::from_secs(2), async {
            self.send(&message).await?;
            while self.wire.read_buf(&mut self.received).await? > 0 {
                self.received.clear();
            }
            Ok::<_, SourceError>(())
        })
        .await;
    }

    pub(super) async fn send(&mut self, message: &[u8]) -> Result<(), SourceError> {
        self.wire.write_all(message).await?;
        Ok(self.wire.flush().await?)
    }

    /// The next message; an error of the server as such.
    pub(super) async fn message(&mut self) -> Result<Message, SourceError> {
        let mut frame = self.frame().await?;
        Message::parse(&mut frame)?.ok_or_else(|| unexpected("half a message"))
    }

    /// The next whole message, tag and length included. An error of the server is an error.
    async fn frame(&mut self) -> Result<BytesMut, SourceError> {
        loop {
            if let Some(&[tag, a, b, c, d]) = self.received.first_chunk::<5>() {
                let length = u32::from_be_bytes([a, b, c, d]) as usize + 1;
                if self.received.len() >= length {
                    let mut frame = self.received.split_to(length);
                    if tag == b'E'
                        && let Some(Message::ErrorResponse(body)) = Message::parse(&mut frame)?
                    {
                        return Err(refusal(body.fields())?);
                    }
                    return Ok(frame);
                }
                self.received.reserve(length - self.received.len());
            }
            if self.wire.read_buf(&mut self.received).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

fn columns(row: &DataRowBody) -> io::Result<Vec<Option<String>>> {
    let whole = row.buffer();
    let text =
        |range: std::ops::Range<usize>| String::from_utf8_lossy(whole.get(range).unwrap_or_default()).into_owned();
    row.ranges().map(|range| Ok(range.map(text))).collect()
}

fn refusal(mut fields: ErrorFields<'_>) -> io::Result<SourceError> {
    let (mut code, mut message) = (String::new(), String::new());
    while let Some(field) = fields.next()? {
        let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = value(),
            b'M' => message = value(),
            _ => {}
        }
    }
    if code == "08P01" {
        // What PgBouncer says to `replication=database`.
        return Ok(SourceError::Misconfigured(format!(
            "{message}: a pooler stands between; ORDERSTREAM_CAPTURE_DATABASE_URL must lead to PostgreSQL itself, a \
             pooler may stand in ORDERSTREAM_CAPTURE_READ_URL"
        )));
    }
    Ok(SourceError::refused(&code, &message))
}

pub(super) fn unexpected(what: &str) -> SourceError {
    SourceError::Misconfigured(format!(
        "the server sent {what}: it is no PostgreSQL, or a pooler stands between"
    ))
}
