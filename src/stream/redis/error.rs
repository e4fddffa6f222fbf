//! What a failure of Redis means: one table from its error codes to [`StreamError`].
//!
//! Owns that table and the remedy that goes with each code. Must not copy a reply that could hold
//! content: only error lines of the server and of the transport are passed on.

use std::time::Duration;

use redis::{ErrorKind, RedisError};

use crate::stream::StreamError;

/// The code with which Redis refuses a call for want of memory. Nothing of such a call happened.
pub(super) const OUT_OF_MEMORY: &str = "OOM";

/// What an XADD is refused with once an entry had the greatest possible id, and the name that we
/// give that refusal.
const EXHAUSTED_TEXT: &str = "The stream has exhausted the last possible ID";
const EXHAUSTED: &str = "EXHAUSTED";

/// What the operator can do about an error code that refuses a command for reasons of the server's
/// own, all of them passing or curable; `None` for every other code.
fn remedy(code: &str) -> Option<&'static str> {
    match code {
        OUT_OF_MEMORY => Some("give Redis more memory (maxmemory) or shorten the dedupe window"),
        "MISCONF" => Some("Redis cannot write to its disk: free or repair it"),
        "READONLY" => Some("this is a replica: point the URL at the primary; after a failover this passes by itself"),
        "NOREPLICAS" => Some("too few replicas are connected for min-replicas-to-write"),
        "MASTERDOWN" => Some("this is a replica without its primary: point the URL at the primary"),
        "LOADING" => Some("Redis is reading its files after a start; this passes by itself"),
        "NOGROUP" => Some("the consumer group is gone; it is made again at the next read"),
        "BUSY" => Some("a script blocks Redis; SCRIPT KILL ends it"),
        "CLUSTERDOWN" => Some("the cluster, or a hash slot of it, has no primary now; a failover ends that by itself"),
        "TRYAGAIN" => Some("a hash slot moves to another node; this passes by itself"),
        "MOVED" | "ASK" => Some("this is a node of a cluster: REDIS_URL must begin with redis+cluster://"),
        "CROSSSLOT" => Some(
            "this server spreads keys over shards: set ORDERSTREAM_PARTITIONS, to 1 at the least, so that keys have hash tags",
        ),
        _ => None,
    }
}

/// Whether an error code speaks of the server or the user as a whole, not of one entry.
pub(super) fn is_the_servers(code: &str) -> bool {
    remedy(code).is_some() || matches!(code, "NOAUTH" | "WRONGPASS" | "NOPERM" | "WRONGTYPE" | EXHAUSTED)
}

/// Whether a call was refused for want of memory.
pub(super) fn is_out_of_memory(error: &StreamError) -> bool {
    matches!(error, StreamError::Refused { code, .. } if code == OUT_OF_MEMORY)
}

/// First word of an error line.
pub(super) fn code_of(line: &str) -> &str {
    // What Redis 7.0 says for NOPERM where a script's command is denied; 7.2 gives it its code.
    if line.starts_with("ERR The user executing the script") {
        return "NOPERM";
    }
    if line.contains(EXHAUSTED_TEXT) {
        return EXHAUSTED;
    }
    line.split_ascii_whitespace().next().unwrap_or_default()
}

/// A refusal of the server.
fn refused(server: &str, code: &str, line: &str) -> StreamError {
    let remedy = remedy(code).map(|text| format!(" ({text})")).unwrap_or_default();
    StreamError::Refused {
        code: code.to_owned(),
        message: format!("{server}: {line}{remedy}"),
    }
}

/// What a failed command or connection means. `limit` is the wait that a timeout exceeded.
pub(super) fn stream_error(server: &str, error: &RedisError, limit: Duration) -> StreamError {
    if error.is_timeout() {
        return StreamError::Timeout {
            server: server.to_owned(),
            after: limit,
        };
    }
    // The first of a pipeline's errors speaks for all.
    let errors = error.clone().into_server_errors();
    if let Some((_, error)) = errors.as_ref().and_then(|errors| errors.first()) {
        return server_error(server, error.code(), error.details().unwrap_or_default());
    }
    let kind = error.kind();
    if kind == ErrorKind::AuthenticationFailed {
        StreamError::Denied(format!(
            "{server} refused the credentials: check user and password of the URL (percent-encoded)"
        ))
    } else if kind == ErrorKind::InvalidClientConfig {
        StreamError::Unusable(format!("{server}: {error}"))
    } else if kind == ErrorKind::Parse || kind == ErrorKind::UnexpectedReturnType {
        // The error's own text may quote the reply.
        StreamError::Unusable(format!("{server} sent an answer that no supported version sends"))
    } else {
        StreamError::Unreachable {
            server: server.to_owned(),
            message: error.to_string(),
        }
    }
}

/// What an error line means that a script passed on.
pub(super) fn line_error(server: &str, line: &str) -> StreamError {
    let detail = line.split_once(' ').map_or("", |(_, detail)| detail);
    server_error(server, code_of(line), detail)
}

/// The stream has had the greatest possible id.
pub(super) fn exhausted(server: &str) -> StreamError {
    StreamError::UnusableKey(format!(
        "{server}: an entry of the stream had the greatest possible id, so that it takes none ever again (set another \
         ORDERSTREAM_STREAM, and run a second `orderstream work` on this one until it is empty: docs/OPERATIONS.md)"
    ))
}

/// What an error line of the server means: its code, and the rest.
pub(super) fn server_error(server: &str, code: &str, detail: &str) -> StreamError {
    match code {
        "NOAUTH" | "WRONGPASS" => StreamError::Denied(format!(
            "{server}: {code} {detail} (check user and password of the URL)"
        )),
        "NOPERM" => StreamError::Denied(format!(
            "{server}: {detail} (grant the user this command and key, see ACL SETUSER)"
        )),
        "WRONGTYPE" => StreamError::UnusableKey(format!(
            "{server}: a key of the stream or the dead letters holds something else (rename that key, or choose another \
             ORDERSTREAM_STREAM or ORDERSTREAM_DEAD_LETTER_STREAM)"
        )),
        EXHAUSTED => exhausted(server),
        "ERR" if detail.starts_with(EXHAUSTED_TEXT) => exhausted(server),
        // Both come in the place of any answer, before a command is looked at.
        "BUSYGROUP" => refused(server, code, detail),
        "ERR" if detail.starts_with("max number of clients") => refused(server, code, detail),
        _ if remedy(code).is_some() => refused(server, code, &format!("{code} {detail}")),
        _ => StreamError::Unusable(format!("{server}: {code} {detail}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retryability::Retryability;

    fn error_of(line: &str) -> StreamError {
        let error = redis::parse_redis_value(format!("-{line}\r\n").as_bytes())
            .and_then(redis::Value::extract_error)
            .unwrap_err();
        stream_error("redis:6379", &error, Duration::from_secs(1))
    }

    #[test]
    fn a_refusal_is_known_not_to_have_happened() {
        for line in [
            "LOADING Redis is loading the dataset in memory",
            "BUSY Redis is busy running a script.",
            "READONLY You can't write against a read only replica.",
            "MASTERDOWN Link with MASTER is down",
            "CLUSTERDOWN Hash slot not served",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "MOVED 3999 127.0.0.1:6381",
            "ASK 3999 127.0.0.1:6381",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Redis is configured to save RDB snapshots",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "NOREPLICAS Not enough good replicas to write.",
            "ERR max number of clients reached",
        ] {
            let error = error_of(line);
            assert!(matches!(error, StreamError::Refused { .. }), "{line}: {error:?}");
            assert!(error.is_refused());
            assert_eq!(error.retryability(), Retryability::Transient);
            assert!(error.to_string().contains("redis:6379"));
        }
    }

    #[test]
    fn what_only_the_operator_can_mend_is_told_apart() {
        for line in ["NOAUTH Authentication required.", "WRONGPASS invalid", "NOPERM no"] {
            assert!(matches!(error_of(line), StreamError::Denied(_)), "{line}");
        }
        for line in [
            "WRONGTYPE Operation against a key",
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ] {
            let error = error_of(line);
            assert!(matches!(error, StreamError::UnusableKey(_)), "{line}");
            assert!(error.is_refused());
            assert!(error.to_string().contains("ORDERSTREAM_STREAM"), "{error}");
        }
        assert!(matches!(
            error_of("ERR unknown command 'XADD'"),
            StreamError::Unusable(_)
        ));
    }
}
