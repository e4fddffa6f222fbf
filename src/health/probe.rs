//! Whether the warehouse answers, as the process that loads into it last found.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use time::OffsetDateTime;

use crate::nodes::WarehouseState;

/// What a role found wrong, as a sentence; a cheap clone.
#[derive(Debug, Clone, Default)]
pub struct Notice(Arc<ArcSwapOption<String>>);

impl Notice {
    /// Notes it; `None` where nothing is wrong.
    pub fn set(&self, text: Option<String>) {
        self.0.store(text.map(Arc::new));
    }

    /// What is wrong.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.0.load().as_deref().cloned()
    }
}

/// What was found last, and since when that holds; a cheap clone.
#[derive(Debug, Clone)]
pub struct WarehouseProbe {
    state: Arc<ArcSwap<WarehouseState>>,
    lost: Arc<ArcSwapOption<String>>,
    requests: Arc<ArcSwapOption<String>>,
}

impl WarehouseProbe {
    /// The state before the first answer.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            state: Arc::new(ArcSwap::from_pointee(WarehouseState::untried())),
            lost: Arc::default(),
            requests: Arc::default(),
        }
    }

    /// Notes an answer.
    pub fn reached(&self) {
        if let WarehouseState::Away { .. } = **self.state.load() {
            self.set(WarehouseState::Reached {
                since: OffsetDateTime::now_utc(),
            });
        }
    }

    /// Notes a failure, and why.
    pub fn missed(&self, why: &impl fmt::Display) {
        let (since, since_start) = match **self.state.load() {
            WarehouseState::Away { since, since_start, .. } => (since, since_start),
            WarehouseState::Reached { .. } => (OffsetDateTime::now_utc(), false),
        };
        self.set(WarehouseState::Away {
            since,
            why: why.to_string(),
            since_start,
        });
    }

    /// Notes which acked events are missing, and the remedy; `None` where none is known to be.
    pub fn lacks(&self, lost: Option<String>) {
        self.lost.store(lost.map(Arc::new));
    }

    /// Which acked events are missing, and the remedy.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.lost.load().as_deref().cloned()
    }

    /// Notes which privacy requests wait, and until when; `None` where none does.
    pub fn requests(&self, waiting: Option<String>) {
        self.requests.store(waiting.map(Arc::new));
    }

    /// Which privacy requests wait, and until when.
    #[must_use]
    pub fn waiting_requests(&self) -> Option<String> {
        self.requests.load().as_deref().cloned()
    }

    /// Whether the last attempt was answered.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        matches!(**self.state.load(), WarehouseState::Reached { .. })
    }

    /// The last state.
    #[must_use]
    pub fn state(&self) -> WarehouseState {
        WarehouseState::clone(&self.state.load())
    }

    fn set(&self, state: WarehouseState) {
        self.state.store(Arc::new(state));
    }
}
