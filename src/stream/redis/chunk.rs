//! The script calls of a flush: which entries go in which.
//!
//! Owns the size of a call. Pure.

use super::error;
use crate::stream::{Appended, Destination, NewEntry};

/// Entries of one script call: about 2 ms of the server's time.
const CHUNK_ENTRIES: usize = 256;
/// Bytes of one script call, likewise.
const CHUNK_BYTES: usize = 4 << 20;
/// Above that Redis reads an argument into a buffer of its own (`PROTO_MBULK_BIG_ARG`), keeps a
/// buffer of that size with the connection for up to seconds, and counts it as used memory.
const LARGE: usize = 32 << 10;

/// Entries of one destination that go in one script call, by their place in the flush.
pub(super) struct Chunk {
    pub(super) destination: Destination,
    pub(super) places: Vec<usize>,
    pub(super) bytes: usize,
    /// One of them is large.
    pub(super) is_large: bool,
}

impl Chunk {
    /// Those entries, of one destination, as one.
    pub(super) fn of(destination: Destination, places: Vec<usize>, entries: &[NewEntry]) -> Self {
        let chosen = || places.iter().filter_map(|&place| entries.get(place));
        Self {
            destination,
            bytes: chosen().map(size).sum(),
            is_large: chosen().any(is_large),
            places,
        }
    }

    /// Whether any of its entries was refused for want of memory.
    pub(super) fn lacks_memory(&self, outcomes: &[Appended]) -> bool {
        self.places.iter().any(|place| is_refused(outcomes, *place))
    }

    /// Those entries in smaller calls: halves, and each large one alone. None where the call had
    /// one entry only.
    pub(super) fn halves(&self, entries: &[NewEntry], outcomes: &[Appended]) -> Vec<Self> {
        if self.places.len() == 1 {
            return Vec::new();
        }
        let refused = self.places.iter().copied().filter(|place| is_refused(outcomes, *place));
        let (large, mut first): (Vec<_>, Vec<_>) = refused.partition(|&place| entries.get(place).is_some_and(is_large));
        let second = first.split_off(first.len() / 2);
        let calls = [first, second]
            .into_iter()
            .chain(large.into_iter().map(|place| vec![place]));
        let calls = calls.filter(|places| !places.is_empty());
        calls
            .map(|places| Self::of(self.destination, places, entries))
            .collect()
    }
}

fn is_refused(outcomes: &[Appended], place: usize) -> bool {
    match outcomes.get(place) {
        Some(Appended::Refused(line)) => error::code_of(line) == error::OUT_OF_MEMORY,
        _ => false,
    }
}

/// Puts these entries of a flush into script calls, each of one destination and of bounded size.
pub(super) fn chunks(entries: &[NewEntry], places: impl IntoIterator<Item = usize>) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    let chosen = places
        .into_iter()
        .filter_map(|place| Some((place, entries.get(place)?)));
    for (place, entry) in chosen {
        let bytes = size(entry);
        let open = chunks.iter_mut().rfind(|chunk| chunk.destination == entry.destination);
        match open {
            Some(chunk) if chunk.places.len() < CHUNK_ENTRIES && chunk.bytes + bytes <= CHUNK_BYTES => {
                chunk.places.push(place);
                chunk.bytes += bytes;
                chunk.is_large |= is_large(entry);
            }
            _ => chunks.push(Chunk {
                destination: entry.destination,
                places: vec![place],
                bytes,
                is_large: is_large(entry),
            }),
        }
    }
    chunks
}

/// Bytes of an entry in a call: its fields, and each one's two lengths as the protocol writes them.
fn size(entry: &NewEntry) -> usize {
    entry.fields.bytes() + 32 * entry.fields.0.len()
}

/// Whether an entry that finds no memory says nothing about a smaller one.
pub(super) fn is_large(entry: &NewEntry) -> bool {
    size(entry) > LARGE
}
