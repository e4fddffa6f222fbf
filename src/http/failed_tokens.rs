//! Rate limit and log of refused bearer tokens, by address.
//!
//! Addresses and log lines a minute are bounded. A delayed refusal keeps its connection only until
//! a newcomer needs the place.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::connection_state::Awaited;

const WINDOW: Duration = Duration::from_secs(60);
/// Refusals of one address within the window that are answered at once.
const PROMPT: u32 = 10;
/// How long each further one is held back.
const DELAY: Duration = Duration::from_secs(1);
/// Addresses that are remembered.
const ADDRESSES: usize = 4096;
/// Lines of the log in one window.
const LINES: u32 = 20;

/// Refusals by address; a cheap clone.
#[derive(Debug, Clone, Default)]
pub(super) struct FailedTokens(Arc<Mutex<FailureCounts>>);

#[derive(Debug, Default)]
struct FailureCounts {
    by_address: HashMap<IpAddr, CountWindow>,
    lines: Option<CountWindow>,
}

/// Events since the start of a window.
#[derive(Debug, Clone, Copy)]
struct CountWindow {
    since: Instant,
    count: u32,
}

impl CountWindow {
    fn count(window: Option<Self>, now: Instant) -> Self {
        match window.filter(|window| now < window.since + WINDOW) {
            Some(window) => Self {
                count: window.count.saturating_add(1),
                ..window
            },
            None => Self { since: now, count: 1 },
        }
    }
}

impl FailedTokens {
    /// Counts one for `path`, and waits where its address had many.
    pub(super) async fn count(&self, connection: Option<&Connection>, path: &'static str) {
        let Some(connection) = connection else { return };
        let address = connection.peer.ip().to_canonical();
        let (failures, is_logged) = self.counted(address, Instant::now());
        if is_logged {
            tracing::warn!(%address, path, failures, "a bearer token is missing or unknown");
        }
        if failures > PROMPT {
            connection.state.awaits(Awaited::Delay);
            tokio::time::sleep(DELAY).await;
            connection.state.awaits(Awaited::Nothing);
        }
    }

    /// How many it is within the window, and whether to log it: the first, and the one from which
    /// on they are delayed.
    fn counted(&self, address: IpAddr, now: Instant) -> (u32, bool) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.by_address.len() >= ADDRESSES {
            counts.by_address.retain(|_, window| now < window.since + WINDOW);
        }
        if counts.by_address.len() >= ADDRESSES {
            // Bounds the memory that a distributed flood takes.
            counts.by_address.clear();
        }
        let window = CountWindow::count(counts.by_address.get(&address).copied(), now);
        counts.by_address.insert(address, window);
        if ![1, PROMPT + 1].contains(&window.count) {
            return (window.count, false);
        }
        let lines = CountWindow::count(counts.lines, now);
        counts.lines = Some(lines);
        (window.count, lines.count <= LINES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn the_first_and_the_eleventh_are_logged() {
        let failed = FailedTokens::default();
        let now = Instant::now();
        for number in 1..=30 {
            let is_logged = [1, 11].contains(&number);
            assert_eq!(failed.counted(address(1), now), (number, is_logged));
        }
        assert_eq!(failed.counted(address(2), now), (1, true));
        assert_eq!(failed.counted(address(1), now + WINDOW), (1, true));
    }

    #[test]
    fn many_addresses_take_no_more_room_and_no_more_lines() {
        let failed = FailedTokens::default();
        let now = Instant::now();
        let count = u32::try_from(3 * ADDRESSES).unwrap();
        let logged = (0..count).filter(|number| failed.counted(address(*number), now).1);
        assert_eq!(logged.count(), LINES as usize);
        assert!(failed.0.lock().unwrap().by_address.len() <= ADDRESSES);
    }
}
