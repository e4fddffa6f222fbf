//! Whether the warehouse answers, which the report does not ask itself.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use time::OffsetDateTime;

use crate::nodes::WarehouseState;

/// What whoever asks it found last, and since when that is so; a cheap clone.
#[derive(Debug, Clone)]
pub struct Reach(Arc<ArcSwap<WarehouseState>>);

impl Reach {
    /// It was not reached yet.
    #[must_use]
    pub fn unknown() -> Self {
        Self(Arc::new(ArcSwap::from_pointee(WarehouseState::Away {
            since: OffsetDateTime::now_utc(),
            why: "it was not reached yet".to_owned(),
        })))
    }

    /// It answered.
    pub fn reached(&self) {
        if let WarehouseState::Away { .. } = **self.0.load() {
            self.set(WarehouseState::Reached {
                since: OffsetDateTime::now_utc(),
            });
        }
    }

    /// It did not, and why.
    pub fn missed(&self, why: &impl fmt::Display) {
        let since = match **self.0.load() {
            WarehouseState::Away { since, .. } => since,
            WarehouseState::Reached { .. } => OffsetDateTime::now_utc(),
        };
        let why = why.to_string();
        self.set(WarehouseState::Away { since, why });
    }

    /// How it was found last.
    #[must_use]
    pub fn state(&self) -> WarehouseState {
        WarehouseState::clone(&self.0.load())
    }

    /// How it was found last, else why it is not reached.
    pub(super) fn found(&self) -> Result<(), String> {
        match self.state() {
            WarehouseState::Reached { .. } => Ok(()),
            WarehouseState::Away { why, .. } => Err(why),
        }
    }

    fn set(&self, state: WarehouseState) {
        self.0.store(Arc::new(state));
    }
}
