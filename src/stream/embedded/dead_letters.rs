//! Dead letters that workers write: the letter, the ack and the end of the record in one transaction.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::append::{Limits, Logs};
use super::group;
use super::row::{Packed, row_of};
use super::writer_handle::Session;
use crate::stream::codec;
use crate::stream::{Appended, DeadLetter, Destination, Fields};

/// The fields of a letter: the entry's, what it is found by, and what became of it.
pub(super) fn fields(letter: &DeadLetter, stream: &str) -> Fields {
    let failed_at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let mut fields = letter.entry.fields.clone();
    for (name, value) in codec::found_by(&fields) {
        fields.push(name, value);
    }
    fields.push("original_stream", stream.to_owned());
    fields.push("original_id", letter.entry.id.to_string());
    fields.push("failed_at", failed_at);
    fields.push("error", letter.error.clone());
    fields.push("attempts", letter.attempts.to_string());
    fields.push("consumer", letter.consumer.clone());
    fields
}

/// Answers false, and changes nothing, at the cap.
pub(super) fn write(
    session: &Session<'_>,
    name: &str,
    id: crate::stream::StreamId,
    letter: &Packed,
    limits: Limits,
) -> rusqlite::Result<bool> {
    if let Some(id) = row_of(id) {
        // An entry that stands in the stream and is not pending was settled: by this call before its answer got lost, or
        // by another consumer. One that is gone from the stream too was lost, and the letter is all that is left.
        let (is_pending, is_there) = group::whereabouts(session, name, id)?;
        if !is_pending && is_there {
            return Ok(true);
        }
    }
    let mut logs = Logs::open(session, Limits { bytes: None, ..limits })?;
    if logs.append(Destination::DeadLetters, letter)? == Appended::Full {
        return Ok(false);
    }
    logs.close()?;
    if let Some(id) = row_of(id) {
        group::settle(session, name, id)?;
    }
    Ok(true)
}
