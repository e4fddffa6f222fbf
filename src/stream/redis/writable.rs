//! Whether an append would be taken now, asked without leaving an entry.
//!
//! The XADD of `writable.lua` has the id that no entry may have: it meets every refusal that an
//! append meets (rights, memory, disk), and is then refused for its id. One refusal comes after
//! that one, and is looked for by itself: a stream that has had the greatest possible id takes no
//! entry ever again.

use super::durability::Proof;
use super::keys::{Keys, PROBE_LIFETIME, millis};
use super::node::breaks_connection;
use super::server::Server;
use super::{error, scripts};
use crate::stream::{StreamError, StreamId};

/// The id of that XADD, which its refusal names.
const NO_ID: &str = "0-0";

pub(super) async fn confirm(server: &Server, keys: &Keys) -> Result<(), StreamError> {
    // Whether it is able to prove what is stored; the proof itself may take a second, and the
    // answer here is prompt.
    let (mut guard, _) = Proof::acquire(server).await?;
    let mut script = scripts::WRITABLE.key(&keys.probe);
    script.key(&keys.stream).arg(millis(PROBE_LIFETIME)).arg(NO_ID);
    let answer = script.invoke_async(&mut guard.connection).await;
    let answer: Result<(u64, Option<StreamId>, Option<String>), StreamError> =
        answer.map_err(|error| server.stream_error(&error));
    let confirmed = answer.and_then(|(length, newest, refusal)| match refusal {
        Some(line) if !line.contains(NO_ID) => Err(error::line_error(&server.address(), &line)),
        _ if newest == Some(StreamId::MAX) => Err(error::exhausted(&server.address())),
        _ if length >= keys.maxlen => Err(StreamError::Full(keys.maxlen)),
        _ => Ok(()),
    });
    if confirmed.as_ref().is_err_and(breaks_connection) {
        server.discard(guard);
    }
    confirmed
}
