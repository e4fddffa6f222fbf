//! The form of an entry in the spool: fields that say where it belongs, and then its own. Pure.

use bytes::Bytes;

use super::flush::{FLUSH_BYTES, Flush};
use super::quarantine;
use crate::stream::{Delivered, Destination, Entry, Fields, NewEntry, StreamId, spread_of_key};

const DESTINATION: &str = "spool:destination";
const KEY: &str = "spool:key";
const DIGEST: &str = "spool:digest";
/// Releases before partitions do not write it, and take it for a field of the entry's own: it goes
/// with the entry into the stream, where nothing reads it. So it is text, as all fields there.
const SPREAD: &str = "spool:spread";

/// The entry as the spool stores it.
pub(super) fn encode(entry: &NewEntry) -> NewEntry {
    let destination = match entry.destination {
        Destination::Stream => "stream",
        Destination::DeadLetters => "dead_letters",
    };
    let mut fields = Fields(Vec::with_capacity(4 + entry.fields.0.len()));
    fields.push(DESTINATION, destination);
    fields.push(KEY, Bytes::copy_from_slice(entry.dedupe_key.as_bytes()));
    fields.push(DIGEST, Bytes::copy_from_slice(&entry.digest));
    fields.push(SPREAD, format!("{:016x}", entry.spread));
    fields.0.extend(entry.fields.0.iter().cloned());
    NewEntry {
        destination: Destination::Stream,
        dedupe_key: format!("{destination}:{}", entry.dedupe_key),
        digest: entry.digest,
        spread: entry.spread,
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
        let dedupe_key = String::from_utf8(key.to_vec()).ok().filter(|_| names_are_ours)?;
        let (spread, own) = match own {
            [(name, spread), rest @ ..] if name == SPREAD => {
                let spread = std::str::from_utf8(spread).ok()?;
                (u64::from_str_radix(spread, 16).ok()?, rest)
            }
            _ => (spread_of_key(&dedupe_key), own),
        };
        Some(NewEntry {
            destination,
            dedupe_key,
            digest: digest[..].try_into().ok()?,
            spread,
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
                spread: 0,
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
                spread: 7,
                fields,
            };
            let found = decode(encode(&entry).fields).unwrap();
            assert_eq!(found.destination, destination);
            assert_eq!(found.dedupe_key, entry.dedupe_key);
            assert_eq!((found.digest, found.spread), (entry.digest, 7));
            assert_eq!(found.fields, entry.fields);
        }
    }

    #[test]
    fn an_entry_of_an_earlier_release_spreads_by_its_key() {
        let mut fields = Fields::default();
        for (name, value) in [
            (DESTINATION, "stream"),
            (KEY, "k"),
            (DIGEST, "sixteen bytes .."),
            ("event_id", "e"),
        ] {
            fields.push(name, value);
        }
        let found = decode(fields).unwrap();
        assert_eq!(found.spread, spread_of_key("k"));
        assert_eq!(found.fields.0.len(), 1);
    }

    /// It takes the first three fields by their places, and what follows for the entry's own.
    #[test]
    fn an_earlier_release_can_drain_an_entry() {
        let mut fields = Fields::default();
        fields.push("event_id", "e-1");
        let entry = NewEntry {
            destination: Destination::Stream,
            dedupe_key: "k".to_owned(),
            digest: *b"sixteen bytes ..",
            spread: u64::MAX,
            fields: fields.clone(),
        };
        let encoded = encode(&entry).fields;
        let names = Vec::from_iter(encoded.0.iter().map(|(name, _)| &**name));
        assert_eq!(names, [DESTINATION, KEY, DIGEST, SPREAD, "event_id"]);
        assert_eq!(encoded.get(SPREAD).unwrap(), "ffffffffffffffff");
        assert_eq!(encoded.0[4..], fields.0);
    }

    #[test]
    fn what_is_not_ours_keeps_its_fields() {
        let mut fields = Fields::default();
        fields.push("event_id", "e-1");
        assert_eq!(decode(fields.clone()).unwrap_err(), fields);
    }
}
