//! Where a partition's keys lie, and which partition an entry belongs to. Pure.
//!
//! All keys of a partition are in one hash slot, so that one script may name several of them and a
//! node of a cluster has all or none. Names do not depend on how many partitions there are, and the
//! first P of them lie evenly over the slots, for every P: partition i has its slot in that 1/256 of
//! all slots that lies the bits of i, reversed, after the stream's own.

use crc16::{State, XMODEM};

/// Hash slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;
/// Parts of the slots that keys are spread over, and the slots of each.
const PARTS: u16 = 256;
const SLOTS_OF_A_PART: u16 = SLOTS / PARTS;

/// What a cluster hashes of a key: between the first `{` and the first `}` after it, else all.
fn hashed(key: &str) -> &str {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    tag.map_or(key, |(tag, _)| if tag.is_empty() { key } else { tag })
}

/// Whether a cluster hashes a part of the key only.
pub(super) fn has_tag(key: &str) -> bool {
    hashed(key).len() != key.len()
}

/// The hash slot of a key.
pub(super) fn slot(key: &str) -> u16 {
    State::<XMODEM>::calculate(hashed(key).as_bytes()) % SLOTS
}

/// Key of a partition's stream; side keys begin with [`tag`].
pub(super) fn stream_key(stream: &str, partition: u16) -> String {
    match partition {
        0 => stream.to_owned(),
        _ => tag(stream, partition),
    }
}

/// Beginning of a partition's side keys: a hash tag that leads to the slot of its stream.
pub(super) fn tag(stream: &str, partition: u16) -> String {
    if partition == 0 {
        return format!("{{{stream}}}");
    }
    let reversed = (partition & 0xFF).reverse_bits() >> 8;
    let wanted = (slot(stream) / SLOTS_OF_A_PART + reversed) % PARTS;
    let mut number = 0u32;
    loop {
        let key = format!("{{{stream}:{partition}.{number}}}");
        if slot(&key) / SLOTS_OF_A_PART == wanted {
            return key;
        }
        number += 1;
    }
}

/// The partition, of so many, of an entry with that spread (jump consistent hash of Lamping and
/// Veach): where `from` become `to`, (to - from) / to of the entries move, and only to new ones.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the algorithm's own: both sides are below 2^31 + 1, and the quotient is not negative"
)]
pub(super) fn partition(spread: u64, partitions: u16) -> u16 {
    let (mut key, mut last, mut next) = (spread, 0u64, 0u64);
    while next < u64::from(partitions.max(1)) {
        last = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((last + 1) as f64 * ((1u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as u64;
    }
    last as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::MOST_PARTITIONS;

    #[test]
    fn a_slot_is_what_clusters_say() {
        for (key, expected) in [
            ("123456789", 12_739),
            ("{123456789}:x", 12_739),
            ("x{123456789}{y}", 12_739),
            ("foo", 12_182),
            ("", 0),
        ] {
            assert_eq!(slot(key), expected, "{key}");
        }
        assert_eq!(
            slot("{}foo"),
            State::<XMODEM>::calculate(b"{}foo") % SLOTS,
            "an empty tag is none"
        );
        assert!(has_tag("a{b}") && !has_tag("a{}b") && !has_tag("a{b"));
    }

    #[test]
    fn names_are_pinned() {
        let names = [0, 1, 2, 3, 4].map(|partition| stream_key("orders_stream", partition));
        assert_eq!(
            names,
            [
                "orders_stream",
                "{orders_stream:1.204}",
                "{orders_stream:2.440}",
                "{orders_stream:3.426}",
                "{orders_stream:4.476}",
            ]
        );
    }

    #[test]
    fn side_keys_are_in_the_slot_of_their_stream() {
        for partition in 0..MOST_PARTITIONS {
            let side = format!("{}:attempts:g", tag("orders_stream", partition));
            assert_eq!(slot(&side), slot(&stream_key("orders_stream", partition)));
        }
    }

    #[test]
    fn partitions_lie_evenly_over_the_primaries() {
        for (name, most) in [("orders_stream", 137), ("s", 140), ("bestellungen.eu", 140)] {
            let slots = Vec::from_iter((0..MOST_PARTITIONS).map(|partition| slot(&stream_key(name, partition))));
            for primaries in 2..=16 {
                for partitions in 4 * primaries..=usize::from(MOST_PARTITIONS) {
                    let mut owned = vec![0; primaries];
                    for slot in &slots[..partitions] {
                        owned[usize::from(*slot) * primaries / usize::from(SLOTS)] += 1;
                    }
                    let busiest = *owned.iter().max().unwrap() * primaries;
                    assert!(
                        100 * busiest <= most * partitions,
                        "{name}: {partitions} over {primaries}: {owned:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn growth_moves_no_more_than_the_share_of_what_is_new() {
        let spreads = Vec::from_iter((0..20_000u64).map(|n| twox_hash::XxHash3_64::oneshot(&n.to_be_bytes())));
        for (from, to) in [(1, 2), (1, 4), (4, 8), (8, 12), (100, 128)] {
            let moved = spreads.iter().filter(|&&spread| {
                let (before, after) = (partition(spread, from), partition(spread, to));
                assert!(before < from && (after == before || (from..to).contains(&after)));
                before != after
            });
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            let share = moved.count() as f64 / spreads.len() as f64;
            let expected = f64::from(to - from) / f64::from(to);
            assert!((share - expected).abs() < 0.02, "{from} to {to}: {share}");
        }
        assert_eq!(partition(u64::MAX, 1), 0);
    }
}
