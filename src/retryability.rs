//! Retryability of a failure.
//!
//! Owns the four answers. Each error enum maps itself onto them with an exhaustive match, and
//! `worker/retry_policy.rs` turns them into what happens to an entry. No error is classified
//! elsewhere.

/// What a failure says about trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retryability {
    /// The surroundings are at fault (connection, timeout, deadlock, full disk): the same call may
    /// succeed later.
    Transient,
    /// The entry itself is at fault: no retry without a change will help.
    Poison,
    /// The entry or the surroundings (a trigger's exception): the entry, where it fails alone while
    /// others are loaded.
    Unclear,
    /// This program is at fault: it is reported loudly and treated like a poison entry, so that it
    /// cannot stop the rest.
    Bug,
}

impl Retryability {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Poison => "poison",
            Self::Unclear => "unclear",
            Self::Bug => "bug",
        }
    }
}
