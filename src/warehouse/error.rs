//! What can go wrong with the warehouse, and whose fault it is.

use crate::retryability::Retryability;

/// A failed call to the warehouse. Texts name code and constraint, never content (PostgreSQL's
/// DETAIL repeats rows).
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// It cannot be reached, or the connection broke.
    #[error("warehouse unreachable at {server}: {message}")]
    Unreachable {
        /// Address without credentials, or the file.
        server: String,
        /// What the transport said.
        message: String,
    },
    /// It answered with an error that says nothing about the data (deadlock, timeout, full disk,
    /// shutdown, ...).
    #[error("the warehouse cannot load for now: {code}: {message}")]
    Unavailable {
        /// `SQLSTATE 55P03`, `SQLITE_FULL`.
        code: String,
        /// What that means.
        message: String,
    },
    /// The data cannot be stored (a value out of range, a violated constraint).
    #[error("the warehouse rejects the data: {code}: {message}")]
    Rejected {
        /// `SQLSTATE 23502`, `SQLITE_CONSTRAINT`.
        code: String,
        /// What was violated; no values.
        message: String,
    },
    /// It refused the data by an error of which is not known whether the data is at fault (a
    /// trigger's exception).
    #[error("the warehouse refuses the data: {code}: {message}")]
    Refused {
        /// `SQLSTATE P0001`, `SQLITE_ERROR`.
        code: String,
        /// What refused it; no values.
        message: String,
    },
    /// The tables are missing or older than this program, which may bring them up to date itself.
    #[error(
        "{place}: the tables are at version {version} of {known}; `run` and `work` bring them up to date when they start, \
         `orderstream migrate` does so now"
    )]
    Outdated {
        /// Address without credentials, and schema; or the file.
        place: String,
        /// Schema version; 0 where there is none.
        version: u32,
        /// Version that this program brings.
        known: u32,
    },
    /// Some tables are gone: they were dropped. None is created again automatically, since its rows
    /// would be missing.
    #[error(
        "{place}: missing tables: {}; restore them from a backup, or move the rest aside, run `orderstream migrate`, copy \
         order_events back and run `orderstream rebuild` (docs/OPERATIONS.md, \"A table of the warehouse is gone\")",
        tables.join(", ")
    )]
    Incomplete {
        /// Address without credentials, and schema; or the file.
        place: String,
        /// Names of the tables.
        tables: Vec<&'static str>,
    },
    /// Wrong credentials, missing rights, missing or foreign tables, a damaged file: only the
    /// operator can repair it.
    #[error("the warehouse is not usable: {0}")]
    Unusable(String),
}

impl WarehouseError {
    /// How it is to be met. What only the operator can mend is waited for: the entries stay
    /// pending.
    #[must_use]
    pub fn retryability(&self) -> Retryability {
        match self {
            Self::Unreachable { .. }
            | Self::Unavailable { .. }
            | Self::Outdated { .. }
            | Self::Incomplete { .. }
            | Self::Unusable(_) => Retryability::Transient,
            Self::Rejected { .. } => Retryability::Poison,
            Self::Refused { .. } => Retryability::Unclear,
        }
    }
}

impl From<crate::postgres::InvalidUrl> for WarehouseError {
    fn from(error: crate::postgres::InvalidUrl) -> Self {
        Self::Unusable(error.to_string())
    }
}
