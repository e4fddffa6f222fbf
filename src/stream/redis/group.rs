//! The consumer group: created at 0 wherever it is missing.

use super::keys::Keys;
use super::server::Server;
use crate::stream::StreamError;

/// Whether the call failed only for want of the group.
pub(super) fn lacks_group(error: &StreamError) -> bool {
    matches!(error, StreamError::Refused { code, .. } if code == "NOGROUP")
}

/// Creates stream and group where they are missing; at 0, so that what was appended before is read
/// too.
pub(super) async fn ensure_group(server: &Server, keys: &Keys) -> Result<bool, StreamError> {
    let mut create = redis::cmd("XGROUP");
    create
        .arg("CREATE")
        .arg(&keys.stream)
        .arg(&keys.group)
        .arg("0")
        .arg("MKSTREAM");
    match server.query::<()>(&create).await {
        Ok(()) => {
            tracing::warn!(
                stream = keys.stream,
                group = keys.group,
                "the consumer group was missing: created at 0"
            );
            Ok(true)
        }
        Err(StreamError::Refused { code, .. }) if code == "BUSYGROUP" => Ok(false),
        Err(error) => Err(error),
    }
}

/// As [`ensure_group`], after a call that failed for want of the group.
pub(super) async fn restore_group(server: &Server, keys: &Keys) -> Result<(), StreamError> {
    if ensure_group(server, keys).await? {
        server.count_reconnect();
    }
    Ok(())
}
