//! The format of a row: an entry's id as one integer, its fields as one blob, and a checksum over
//! both. Pure.
//!
//! Invariants: rows have the order of ids; decode(encode(x)) = x, bytes of any kind and repeated
//! names included; a row of which a bit has changed is never decoded.
//!
//! A row id is `ms << 20 | seq`, which lasts until the year 2248 with a million entries a
//! millisecond; further ones get the next millisecond. A blob is, for each name and each value in
//! turn, its length (LEB128) and its bytes.

use std::borrow::Cow;

use bytes::Bytes;
use crc32fast::Hasher;

use crate::stream::{Destination, Entry, Fields, StreamId};

const SEQ_BITS: u32 = 20;
const SEQ_MASK: u64 = (1 << SEQ_BITS) - 1;
/// Above it a row id would be negative.
const LAST_MS: u64 = (1 << (63 - SEQ_BITS)) - 1;

/// The first row id of that millisecond.
pub(super) fn row_at(ms: u64) -> i64 {
    i64::try_from(ms.min(LAST_MS) << SEQ_BITS).unwrap_or(i64::MAX)
}

/// The smallest row id at or above an id, which may be one that no row can have.
pub(super) fn row_from(id: StreamId) -> i64 {
    if id.ms > LAST_MS {
        return i64::MAX;
    }
    let seq = i64::try_from(id.seq.min(SEQ_MASK + 1)).unwrap_or(i64::MAX);
    row_at(id.ms).saturating_add(seq)
}

/// The largest row id at or below an id, which may be one that no row can have.
pub(super) fn row_up_to(id: StreamId) -> i64 {
    if id.ms > LAST_MS {
        return i64::MAX;
    }
    row_at(id.ms) | i64::try_from(id.seq.min(SEQ_MASK)).unwrap_or_default()
}

/// The row of an id; `None` where no row can have it.
pub(super) fn row_of(id: StreamId) -> Option<i64> {
    (id.ms <= LAST_MS && id.seq <= SEQ_MASK).then(|| row_from(id))
}

/// The id of a row.
pub(super) fn id_of(row: i64) -> StreamId {
    let row = u64::try_from(row).unwrap_or_default();
    StreamId::new(row >> SEQ_BITS, row & SEQ_MASK)
}

/// Fields ready to be stored: all but the row id is known.
pub(super) struct PackedFields {
    pub(super) blob: Vec<u8>,
    checksum: Hasher,
}

impl PackedFields {
    pub(super) fn new(fields: &Fields) -> Self {
        let parts = || fields.0.iter().flat_map(|(name, value)| [name.as_bytes(), value]);
        let mut blob = Vec::with_capacity(parts().map(|part| part.len() + 3).sum());
        for part in parts() {
            push_length(&mut blob, part.len());
            blob.extend_from_slice(part);
        }
        let mut checksum = Hasher::new();
        checksum.update(&blob);
        Self { blob, checksum }
    }

    /// The checksum of the blob in that row.
    pub(super) fn checksum(&self, log: Destination, row: i64) -> u32 {
        seal(self.checksum.clone(), log, row)
    }
}

/// The checksum covers the place of the row too: an entry that turns up elsewhere is damaged.
fn seal(mut fields: Hasher, log: Destination, row: i64) -> u32 {
    fields.update(&row.to_le_bytes());
    fields.update(&[match log {
        Destination::Stream => 0,
        Destination::DeadLetters => 1,
    }]);
    fields.finalize()
}

/// The entry of a row; `None` where the row is not what was written.
pub(super) fn unpack(log: Destination, row: i64, blob: &[u8], checksum: i64) -> Option<Entry> {
    let mut found = Hasher::new();
    found.update(blob);
    if i64::from(seal(found, log, row)) != checksum {
        return None;
    }
    let mut rest = Bytes::copy_from_slice(blob);
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let name = String::from_utf8(take(&mut rest)?.into()).ok()?;
        fields.push((Cow::Owned(name), take(&mut rest)?));
    }
    Some(Entry {
        id: id_of(row),
        fields: Fields(fields),
    })
}

fn push_length(blob: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = u8::try_from(length & 0x7F).unwrap_or_default();
        length >>= 7;
        if length == 0 {
            return blob.push(low);
        }
        blob.push(low | 0x80);
    }
}

fn take(rest: &mut Bytes) -> Option<Bytes> {
    let mut length = 0_usize;
    for (at, byte) in rest.iter().take(8).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let end = length.checked_add(at + 1)?;
            if end > rest.len() {
                return None;
            }
            return Some(rest.split_to(end).slice(at + 1..));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_have_the_order_of_ids() {
        let id = StreamId::new;
        assert_eq!(id_of(row_from(id(1_767_225_600_123, 7))), id(1_767_225_600_123, 7));
        assert_eq!(id_of(row_from(id(5, SEQ_MASK)) + 1), id(6, 0));
        assert_eq!(row_of(id(5, SEQ_MASK + 1)), None);
        assert_eq!(row_from(id(5, u64::MAX)), row_at(6));
        assert_eq!(row_up_to(id(5, u64::MAX)), row_at(6) - 1);
        assert_eq!(row_of(id(LAST_MS + 1, 0)), None);
        assert_eq!(row_from(id(u64::MAX, 0)), i64::MAX);
        assert_eq!(row_up_to(id(u64::MAX, 0)), i64::MAX);
        assert_eq!(id_of(i64::MAX), id(LAST_MS, SEQ_MASK));
        assert!(row_at(time::OffsetDateTime::now_utc().unix_timestamp().unsigned_abs() * 1000) > 0);
    }

    fn fields() -> impl Strategy<Value = Fields> {
        let value = prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 0..40),
            1 => (0_usize..40_000).prop_map(|length| vec![7; length]),
        ];
        prop::collection::vec((".{0,8}", value), 0..12).prop_map(|fields| {
            let fields = fields
                .into_iter()
                .map(|(name, value)| (Cow::Owned(name), Bytes::from(value)));
            Fields(fields.collect())
        })
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_back(fields in fields(), row in 0..i64::MAX) {
            let packed = PackedFields::new(&fields);
            let checksum = i64::from(packed.checksum(Destination::Stream, row));
            let entry = unpack(Destination::Stream, row, &packed.blob, checksum).unwrap();
            prop_assert_eq!(entry.id, id_of(row));
            prop_assert_eq!(entry.fields, fields);
        }

        #[test]
        fn a_flipped_bit_is_noticed(fields in fields(), row in 0..i64::MAX, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut packed = PackedFields::new(&fields);
            let checksum = i64::from(packed.checksum(Destination::Stream, row));
            prop_assert_eq!(unpack(Destination::DeadLetters, row, &packed.blob, checksum), None);
            prop_assert_eq!(unpack(Destination::Stream, row ^ (1_i64 << bit), &packed.blob, checksum), None);
            prop_assert_eq!(unpack(Destination::Stream, row, &packed.blob, checksum ^ (1_i64 << bit)), None);
            if !packed.blob.is_empty() {
                let at = at.index(packed.blob.len());
                packed.blob[at] ^= 1_u8 << bit;
                prop_assert_eq!(unpack(Destination::Stream, row, &packed.blob, checksum), None);
            }
        }
    }
}
