//! Whether something answers that the report does not ask itself.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// What whoever asks it found last, for the report to say; a cheap clone.
#[derive(Debug, Clone)]
pub struct Reach(Arc<ArcSwapOption<String>>);

impl Reach {
    /// Nobody has reached it yet.
    #[must_use]
    pub fn unknown() -> Self {
        Self(Arc::new(ArcSwapOption::from_pointee(
            "it was not reached yet".to_owned(),
        )))
    }

    /// It answered.
    pub fn reached(&self) {
        self.0.store(None);
    }

    /// It did not, and why.
    pub fn missed(&self, why: &impl fmt::Display) {
        self.0.store(Some(Arc::new(why.to_string())));
    }

    /// How it was found last, else why it is not reached.
    pub(super) fn found(&self) -> Result<(), String> {
        self.0.load().as_deref().cloned().map_or(Ok(()), Err)
    }
}
