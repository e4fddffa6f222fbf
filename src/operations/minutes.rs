//! The history of the last 24 hours, minute by minute, as the processes kept it beside the stream.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::api::Operation;
use super::context::{Operations, OperationsError};

/// Milliseconds.
const DAY: u64 = 24 * 3_600_000;

/// Asks for the history.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct GetMinutes {}

/// The history.
#[derive(Debug, Serialize, Deserialize)]
pub struct Minutes {
    /// The figures of each minute, oldest first, as `/api/live` has those of a second; minutes that
    /// no process observed are absent.
    pub minutes: Vec<Box<RawValue>>,
}

/// The beginning of a minute, Unix time in milliseconds.
#[derive(Deserialize)]
struct Begin {
    at: u64,
}

impl Operation for GetMinutes {
    type Answer = Minutes;
    const PATH: &'static str = "/api/history";

    async fn run(self, operations: &Operations) -> Result<Minutes, OperationsError> {
        let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
        let records = operations.stream.minutes().await?;
        let read = |record: String| {
            let Begin { at } = serde_json::from_str(&record).ok()?;
            // A clock that was ahead, or a day behind, wrote some that are of no use.
            let is_of_the_day = at <= now && now - at < DAY;
            Some((at, RawValue::from_string(record).ok()?)).filter(|_| is_of_the_day)
        };
        let mut minutes = Vec::from_iter(records.into_iter().filter_map(read));
        minutes.sort_by_key(|(at, _)| *at);
        Ok(Minutes {
            minutes: minutes.into_iter().map(|(_, minute)| minute).collect(),
        })
    }
}
