//! Figures against their levels. Pure.

use std::time::Duration;

use super::report::{Check, Status};
use crate::config::Levels;

/// How near a stream is to its cap.
pub(super) fn filled(name: &'static str, (length, maxlen): (u64, u64), levels: Levels) -> Check {
    let tenths = length.saturating_mul(1000) / maxlen.max(1);
    let levels = Levels {
        warning: levels.warning.saturating_mul(10),
        critical: levels.critical.saturating_mul(10),
    };
    Check::new(
        name,
        level(tenths, levels),
        format!("{length} of at most {maxlen} entries"),
    )
}

pub(super) fn counted(name: &'static str, value: Option<u64>, levels: Levels, what: &str) -> Check {
    match value {
        Some(value) => Check::new(name, level(value, levels), format!("{value} {what}")),
        None => Check::unknown(name, "not known"),
    }
}

/// A time in one unit, as a person says it.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

pub(super) fn level(value: u64, levels: Levels) -> Status {
    if value > levels.critical {
        Status::Critical
    } else if value >= levels.warning {
        Status::Warning
    } else {
        Status::Healthy
    }
}
