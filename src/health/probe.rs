//! Whether the warehouse answers, which the report does not ask itself.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use time::OffsetDateTime;

use crate::nodes::WarehouseState;

/// What whoever asks it found last, and since when that is so; a cheap clone.
#[derive(Debug, Clone)]
pub struct WarehouseProbe {
    state: Arc<ArcSwap<WarehouseState>>,
    lost: Arc<ArcSwapOption<String>>,
}

impl WarehouseProbe {
    /// It was not reached yet.
    #[must_use]
    pub fn unknown() -> Self {
        let state = WarehouseState::Away {
            since: OffsetDateTime::now_utc(),
            why: "it was not reached yet".to_owned(),
        };
        Self {
            state: Arc::new(ArcSwap::from_pointee(state)),
            lost: Arc::default(),
        }
    }

    /// It answered.
    pub fn reached(&self) {
        if let WarehouseState::Away { .. } = **self.state.load() {
            self.set(WarehouseState::Reached {
                since: OffsetDateTime::now_utc(),
            });
        }
    }

    /// It did not, and why.
    pub fn missed(&self, why: &impl fmt::Display) {
        let since = match **self.state.load() {
            WarehouseState::Away { since, .. } => since,
            WarehouseState::Reached { .. } => OffsetDateTime::now_utc(),
        };
        let why = why.to_string();
        self.set(WarehouseState::Away { since, why });
    }

    /// What it lacks of what was acked, and what to do; `None` where nothing is known to be missing.
    pub fn lacks(&self, lost: Option<String>) {
        self.lost.store(lost.map(Arc::new));
    }

    /// What it lacks of what was acked.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.lost.load().as_deref().cloned()
    }

    /// Whether it answered last.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        matches!(**self.state.load(), WarehouseState::Reached { .. })
    }

    /// How it was found last.
    #[must_use]
    pub fn state(&self) -> WarehouseState {
        WarehouseState::clone(&self.state.load())
    }

    fn set(&self, state: WarehouseState) {
        self.state.store(Arc::new(state));
    }
}
