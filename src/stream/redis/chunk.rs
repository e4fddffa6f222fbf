//! The script calls of a flush: which entries go in which.
//!
//! Owns the size of a call. Pure.

use super::error;
use super::keys::LogName;
use crate::stream::{Appended, NewEntry};

/// Entries of one script call: about 2 ms of the server's time.
const CHUNK_ENTRIES: usize = 256;
/// Bytes of one script call, likewise.
const CHUNK_BYTES: usize = 4 << 20;
/// Arguments of one script call. ElastiCache Serverless refuses 4,000.
const CHUNK_ARGUMENTS: usize = 3900;
/// Those of the call itself.
const OWN_ARGUMENTS: usize = 12;
/// Above that Redis reads an argument into a buffer of its own (`PROTO_MBULK_BIG_ARG`), keeps a
/// buffer of that size with the connection for up to seconds, and counts it as used memory.
const LARGE: usize = 32 << 10;

/// Entries of one log that go in one script call, by their place in the flush.
pub(super) struct Chunk {
    pub(super) log: LogName,
    pub(super) places: Vec<usize>,
    pub(super) bytes: usize,
    /// What the call has, [`arguments`] of each entry included.
    pub(super) arguments: usize,
    /// One of them is large.
    pub(super) is_large: bool,
}

impl Chunk {
    /// Those entries, of one log, as one.
    fn of(log: LogName, places: Vec<usize>, entries: &[NewEntry]) -> Self {
        let chosen = || places.iter().filter_map(|&place| entries.get(place));
        Self {
            log,
            bytes: chosen().map(size).sum(),
            arguments: OWN_ARGUMENTS + chosen().map(arguments).sum::<usize>(),
            is_large: chosen().any(is_large),
            places,
        }
    }

    fn has_room_for(&self, entry: &NewEntry) -> bool {
        self.places.len() < CHUNK_ENTRIES
            && self.bytes + size(entry) <= CHUNK_BYTES
            && self.arguments + arguments(entry) <= CHUNK_ARGUMENTS
    }

    /// Whether any of its entries was refused for want of memory.
    pub(super) fn lacks_memory(&self, outcomes: &[Appended]) -> bool {
        lack_memory(&self.places, outcomes)
    }

    /// Those entries in smaller calls ([`halves`]).
    pub(super) fn halves(&self, entries: &[NewEntry], outcomes: &[Appended]) -> Vec<Self> {
        let calls = halves(&self.places, entries, outcomes).into_iter();
        calls.map(|places| Self::of(self.log, places, entries)).collect()
    }
}

/// Whether any of these entries was refused for want of memory.
pub(super) fn lack_memory(places: &[usize], outcomes: &[Appended]) -> bool {
    places.iter().any(|place| is_refused(outcomes, *place))
}

/// Those of these entries that were refused for want of memory, for smaller calls: halves, and each
/// large one alone. None where the call had one entry only.
pub(super) fn halves(places: &[usize], entries: &[NewEntry], outcomes: &[Appended]) -> Vec<Vec<usize>> {
    if places.len() == 1 {
        return Vec::new();
    }
    let refused = places.iter().copied().filter(|place| is_refused(outcomes, *place));
    let (large, mut first): (Vec<_>, Vec<_>) = refused.partition(|&place| entries.get(place).is_some_and(is_large));
    let second = first.split_off(first.len() / 2);
    let calls = [first, second]
        .into_iter()
        .chain(large.into_iter().map(|place| vec![place]));
    calls.filter(|places| !places.is_empty()).collect()
}

fn is_refused(outcomes: &[Appended], place: usize) -> bool {
    match outcomes.get(place) {
        Some(Appended::Refused(line)) => error::code_of(line) == error::OUT_OF_MEMORY,
        _ => false,
    }
}

/// Puts these entries of a flush into script calls, each of one log and of bounded size; the stream
/// has so many `partitions`.
pub(super) fn chunks(entries: &[NewEntry], places: impl IntoIterator<Item = usize>, partitions: u16) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    let chosen = places
        .into_iter()
        .filter_map(|place| Some((place, entries.get(place)?)));
    for (place, entry) in chosen {
        let log = LogName::of(entry, partitions);
        let open = chunks.iter_mut().rfind(|chunk| chunk.log == log);
        match open.filter(|chunk| chunk.has_room_for(entry)) {
            Some(chunk) => {
                chunk.places.push(place);
                chunk.bytes += size(entry);
                chunk.arguments += arguments(entry);
                chunk.is_large |= is_large(entry);
            }
            None => chunks.push(Chunk::of(log, vec![place], entries)),
        }
    }
    chunks
}

/// Bytes of an entry in a call: its fields, and each one's two lengths as the protocol writes them.
fn size(entry: &NewEntry) -> usize {
    entry.fields.bytes() + 32 * entry.fields.0.len()
}

/// Its id, its digest, the number of its fields, and these.
fn arguments(entry: &NewEntry) -> usize {
    3 + 2 * entry.fields.0.len()
}

/// Whether an entry that finds no memory says nothing about a smaller one.
pub(super) fn is_large(entry: &NewEntry) -> bool {
    size(entry) > LARGE
}
