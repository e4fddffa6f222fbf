//! How long stores keep what no figure needs.

use std::time::Duration;

use super::layers::LayeredValues;
use super::settings as s;

/// Ages at which rows of `order_events` and dead letters lose their body, or rows go; `None`: never.
#[derive(Debug, Clone, Copy)]
pub struct RetentionConfig {
    /// Of the original body.
    pub raw: Option<Duration>,
    /// Of the body of a dead letter.
    pub letter_bodies: Option<Duration>,
    /// Of events whose order did not change since.
    pub events: Option<Duration>,
}

impl RetentionConfig {
    pub(super) fn of(values: &LayeredValues) -> Self {
        Self {
            raw: values.duration_given(&s::RETAIN_RAW),
            letter_bodies: values.duration_given(&s::RETAIN_LETTER_BODIES),
            events: values.duration_given(&s::RETAIN_EVENTS),
        }
    }
}
