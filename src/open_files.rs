//! The limit of open files, and the default cap of connections below it.
//!
//! The soft limit is often 1,024 where the hard one is far higher, for programs that use `select`;
//! this one does not.

use rlimit::Resource;
use tracing::warn;

/// Files that are no connection of the public listener: 64 connections of the private one, those to
/// the stores, SQLite's.
const OTHER_FILES: u64 = 124;
/// Connections by default where the limit allows more. An idle one takes about 20 kB.
const DEFAULT_CONNECTIONS: u64 = 5000;

/// Raises the soft limit to the hard one, and warns where so many connections would not fit below
/// it.
pub fn raise_limit(connections: usize) {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < (connections as u64).saturating_add(OTHER_FILES) => warn!(
            limit,
            connections,
            "ORDERSTREAM_MAX_CONNECTIONS is above what the limit of open files allows: raise it (ulimit -Hn, LimitNOFILE=), \
             or lower the setting"
        ),
        Ok(_) => {}
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
}

/// Connections of the public listener where none are configured: as many as the hard limit allows,
/// within reason.
#[must_use]
pub fn default_connections() -> usize {
    let limit = Resource::NOFILE.get().map_or(1024, |(_, hard)| hard);
    let connections = limit.saturating_sub(OTHER_FILES).clamp(16, DEFAULT_CONNECTIONS);
    usize::try_from(connections).unwrap_or(usize::MAX)
}
