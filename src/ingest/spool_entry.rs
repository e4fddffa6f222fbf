//! The form of an entry in the spool: three fields that say where it belongs, and then its own.
//! Pure.

use bytes::Bytes;

use super::flush::{FLUSH_BYTES, Flush};
use super::quarantine;
use crate::stream::{Delivered, Destination, Entry, Fields, NewEntry, StreamId};

const DESTINATION: &str = "spool:destination";
const KEY: &str = "spool:key";
const DIGEST: &str = "spool:digest";

/// The entry as the spool stores it.
pub(super) fn encode(entry: &NewEntry) -> NewEntry {
    let destination = match entry.destination {
        Destination::Stream => "stream",
        Destination::DeadLetters => "dead_letters",
    };
    let mut fields = Fields(Vec::with_capacity(3 + entry.fields.0.len()));
    fields.push(DESTINATION, destination);
    fields.push(KEY, Bytes::copy_from_slice(entry.dedupe_key.as_bytes()));
    fields.push(DIGEST, Bytes::copy_from_slice(&entry.digest));
    fields.0.extend(entry.fields.0.iter().cloned());
    NewEntry {
        destination: Destination::Stream,
        dedupe_key: format!("{destination}:{}", entry.dedupe_key),
        digest: entry.digest,
        fields,
    }
}

/// The entry as it was given to the spool; its fields as they are where this release cannot read
/// it.
pub(super) fn decode(fields: Fields) -> Result<NewEntry, Fields> {
    let found = (|| {
        let [(first, destination), (second, key), (third, digest), own @ ..] = fields.0.as_slice() else {
            return None;
        };
        let destination = match &destination[..] {
            b"stream" => Destination::Stream,
            b"dead_letters" => Destination::DeadLetters,
            _ => return None,
        };
        let names_are_ours = first == DESTINATION && second == KEY && third == DIGEST;
        Some(NewEntry {
            destination,
            dedupe_key: String::from_utf8(key.to_vec()).ok().filter(|_| names_are_ours)?,
            digest: digest[..].try_into().ok()?,
            fields: Fields(own.to_vec()),
        })
    })();
    found.ok_or(fields)
}

/// Cuts a page of the spool into flushes. An entry that this release cannot read becomes a dead
/// letter.
pub(super) fn flushes(page: Vec<Delivered>) -> Vec<Flush<StreamId>> {
    let mut flushes: Vec<Flush<StreamId>> = Vec::new();
    let mut bytes = usize::MAX;
    for Entry { id, fields } in page.into_iter().map(|delivered| delivered.entry) {
        let entry = decode(fields).unwrap_or_else(|fields| {
            let entry = NewEntry {
                destination: Destination::DeadLetters,
                dedupe_key: id.to_string(),
                digest: [0; 16],
                fields,
            };
            quarantine::of_entry(entry, "this release cannot read it as an entry of the spool", 0)
        });
        let size = entry.fields.bytes();
        if bytes.saturating_add(size) > FLUSH_BYTES {
            flushes.push(Flush::empty());
            bytes = 0;
        }
        bytes += size;
        if let Some(flush) = flushes.last_mut() {
            flush.push(entry, id);
        }
    }
    flushes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_out_as_it_went_in() {
        for destination in [Destination::Stream, Destination::DeadLetters] {
            let mut fields = Fields::default();
            fields.push("event_id", "e-1");
            fields.push("raw", vec![0xFF, 0, b'\n']);
            fields.push("event_id", "twice");
            let entry = NewEntry {
                destination,
                dedupe_key: "key: ü".to_owned(),
                digest: *b"sixteen bytes ..",
                fields,
            };
            let found = decode(encode(&entry).fields).unwrap();
            assert_eq!(found.destination, destination);
            assert_eq!(found.dedupe_key, entry.dedupe_key);
            assert_eq!(found.digest, entry.digest);
            assert_eq!(found.fields, entry.fields);
        }
    }

    #[test]
    fn what_is_not_ours_keeps_its_fields() {
        let mut fields = Fields::default();
        fields.push("event_id", "e-1");
        assert_eq!(decode(fields.clone()).unwrap_err(), fields);
    }
}
