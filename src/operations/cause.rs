//! A cause of dead letters, named by the beginning of its fingerprint. Invariant: what is done to a cause is done only where
//! the beginning fits no other.

use super::dead_letters::{DeadLetter, DeadLetterGroup, DeadLetterGroups};
use super::fingerprint::FINGERPRINT_DIGITS;
use super::{Operations, OperationsError};
use crate::stream::StreamId;

impl DeadLetterGroups {
    /// How many dead letters have that cause, by the beginning of its fingerprint; of every cause, where none is given.
    ///
    /// # Errors
    /// The beginning fits no cause, or more than one. Where not all causes are known, one that fits none has none.
    pub fn count(&self, prefix: Option<&str>) -> Result<u64, OperationsError> {
        let fits = |group: &&DeadLetterGroup| prefix.is_none_or(|prefix| group.fingerprint.starts_with(prefix));
        let counts = Vec::from_iter(self.groups.iter().filter(fits).map(|group| group.count));
        match (prefix, counts.len()) {
            (Some(_), 0) if self.complete => Err(OperationsError::NoSuchCause),
            (Some(_), 2..) => Err(OperationsError::AmbiguousCause),
            _ => Ok(counts.iter().sum()),
        }
    }
}

impl Operations {
    /// The fingerprint that begins with `prefix`, among the newest dead letters up to `to`. Where there are more dead letters than
    /// are looked at, a whole fingerprint is taken as it is.
    ///
    /// # Errors
    /// No dead letter has one, or dead letters have more than one; or the stream does not answer.
    pub(super) async fn cause(&self, prefix: &str, to: StreamId) -> Result<String, OperationsError> {
        if prefix.is_empty() {
            return Err(OperationsError::NoSuchCause);
        }
        let mut pager = self.page_dead_letters(to, usize::MAX);
        let mut found: Option<String> = None;
        while let Some(page) = pager.page().await? {
            let errors = page.iter().map(|entry| DeadLetter::of(entry).fingerprint);
            for fingerprint in errors.filter(|fingerprint| fingerprint.starts_with(prefix)) {
                if fingerprint == prefix {
                    return Ok(fingerprint);
                }
                if found.as_ref().is_some_and(|found| *found != fingerprint) {
                    return Err(OperationsError::AmbiguousCause);
                }
                found = Some(fingerprint);
            }
        }
        let is_whole = prefix.len() == FINGERPRINT_DIGITS;
        match found {
            Some(found) => Ok(found),
            None if is_whole && !pager.is_at_end().await? => Ok(prefix.to_owned()),
            None => Err(OperationsError::NoSuchCause),
        }
    }
}
