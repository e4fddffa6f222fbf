//! The dead letter of a delivery that never gets into the stream.
//!
//! Owns what makes two of them the same one, for those at the door and those from the spool alike. Pure.

use time::OffsetDateTime;

use crate::stream::codec;
use crate::stream::{Destination, Fields, NewEntry};

/// A letter with these fields. Its key holds the digest: a second body under the same id is kept too.
#[must_use]
pub fn letter(event_id: &str, digest: [u8; 16], fields: Fields) -> NewEntry {
    NewEntry {
        destination: Destination::DeadLetters,
        dedupe_key: format!("{event_id}:{}", hex::encode(digest)),
        digest,
        fields,
    }
}

/// The letter of an entry that could have been appended, but for that error; it keeps all of its fields.
#[must_use]
pub fn of_entry(entry: NewEntry, error: &str, attempts: u32) -> NewEntry {
    let fields = codec::dead_letter_fields(entry.fields, error, attempts, OffsetDateTime::now_utc());
    letter(&entry.dedupe_key, entry.digest, fields)
}
