//! Whether an append would be taken now, asked without leaving an entry.
//!
//! A key of ours is written, and the XADD of `writable.lua` has the id that no entry may have: it meets every refusal that an
//! append meets (rights, memory, disk), and is then refused for its id. One refusal comes after
//! that one, and is looked for by itself: a stream that has had the greatest possible id takes no
//! entry ever again.

use redis::{Pipeline, RedisResult, Value, from_redis_value};

use super::durability::Proof;
use super::keys::{Keys, LogName, PROBE_LIFETIME, millis};
use super::node::{ConnectionGuard, breaks_connection};
use super::server::Server;
use super::{error, scripts};
use crate::stream::{StreamError, StreamId};

/// The id of that XADD, which its refusal names.
const NO_ID: &str = "0-0";

pub(super) async fn confirm(server: &Server, keys: &Keys) -> Result<(), StreamError> {
    // Whether it is able to prove what is stored; the proof itself may take a second, and the
    // answer here is prompt.
    let (mut guard, _) = Proof::acquire(server).await?;
    let answers = ask(server, &mut guard, keys).await;
    let confirmed = answers.and_then(|(length, newest, refusal)| match refusal {
        Some(line) if !line.contains(NO_ID) => Err(error::line_error(&guard.node.address, &line)),
        _ if newest == Some(StreamId::MAX) => Err(error::exhausted(&guard.node.address)),
        _ if length >= keys.maxlen => Err(StreamError::Full(keys.maxlen)),
        _ => Ok(()),
    });
    if confirmed.as_ref().is_err_and(breaks_connection) {
        server.discard(guard);
    }
    confirmed
}

/// A key of ours, and the script.
async fn ask(
    server: &Server,
    guard: &mut ConnectionGuard,
    keys: &Keys,
) -> Result<(u64, Option<StreamId>, Option<String>), StreamError> {
    let mut script = scripts::WRITABLE.key(&keys.stream);
    script.arg(NO_ID);
    let mut pipeline = Pipeline::new();
    let probe = keys.probe(LogName::Partition(keys.partition));
    let write = pipeline.cmd("SET").arg(probe).arg("");
    write.arg("PX").arg(millis(PROBE_LIFETIME));
    pipeline.add_command(script.command);
    pipeline.ignore_errors();
    let mut is_loaded = false;
    let answers = loop {
        let sent = pipeline.query_async(&mut guard.connection).await;
        let mut answers: Vec<RedisResult<Value>> = sent.map_err(|error| guard.node.stream_error(&error))?;
        if !is_loaded && answers.iter().any(scripts::is_unknown_script) {
            let loaded = scripts::WRITABLE.load(guard).await;
            loaded.map_err(|error| guard.node.stream_error(&error))?;
            is_loaded = true;
            continue;
        }
        if server.has_redirect(&answers) {
            let commands = Vec::from_iter(pipeline.cmd_iter());
            server.follow(&guard.node, &commands, &mut answers).await?;
        }
        break answers.into_iter().collect::<RedisResult<Vec<Value>>>();
    };
    let answer = answers.and_then(|mut answers| Ok(from_redis_value(answers.pop().unwrap_or(Value::Nil))?));
    answer.map_err(|error| {
        server.note_refusal(&error);
        guard.node.stream_error(&error)
    })
}
