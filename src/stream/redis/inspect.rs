//! What the server is and how it is configured, and what of that an operator should change.
//!
//! Managed servers deny CONFIG and parts of INFO: what they do not tell stays unknown and is no
//! error.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::future::join_all;
use redis::{Cmd, FromRedisValue, InfoDict};

use super::durability::Proof;
use super::node::PROMPT;
use super::partition::Partitions;
use super::server::Server;
use crate::config::Durability;
use crate::retryability::Retryability;
use crate::stream::{ServerReport, StreamError};

/// Oldest supported major version of Redis (Valkey calls itself 7.2 in `redis_version`).
const OLDEST_MAJOR: u32 = 7;

/// Settings as the server tells them.
#[derive(Default)]
struct Settings {
    eviction_policy: Option<String>,
    memory_limit: Option<u64>,
    append_only: Option<bool>,
    append_fsync: Option<String>,
    snapshots: Option<bool>,
    /// Replicas that are connected, and how many a write needs.
    replicas: Option<u64>,
    least_replicas: Option<u64>,
    needs_full_coverage: Option<bool>,
}

/// Of a cluster, what its nodes that own partitions or the dead letters tell.
///
/// # Errors
/// [`StreamError::Unusable`] where a server is too old, or cannot be as durable as is configured.
pub(super) async fn inspect(partitions: &Partitions) -> Result<ServerReport, StreamError> {
    let first = &partitions.at(0).server;
    let mut report = match partitions.servers.is_cluster() {
        true => inspect_cluster(partitions).await?,
        false => inspect_one(first, &[]).await?,
    };
    if let Some(of_whereabouts) = first.whereabouts_warnings().await {
        report.warnings.extend(of_whereabouts);
    }
    Ok(report)
}

/// A node that does not answer is a warning, as long as another one does.
async fn inspect_cluster(partitions: &Partitions) -> Result<ServerReport, StreamError> {
    let all = partitions.iter().map(|partition| &partition.server);
    let (mut of_each, mut silent) = (BTreeMap::<String, &Arc<Server>>::new(), Vec::new());
    for server in all.chain([&partitions.letters]) {
        match server.node().await {
            Ok(node) => {
                of_each.entry(node.address.clone()).or_insert(server);
            }
            Err(error) => silent.push(error),
        }
    }
    let slots = &partitions.used_slots();
    let answers = of_each.into_iter().map(|(address, server)| async move {
        let answer = tokio::time::timeout(PROMPT, inspect_one(server, slots)).await;
        let after = PROMPT;
        let answer = answer.unwrap_or_else(|_| {
            let server = address.clone();
            Err(StreamError::Timeout { server, after })
        });
        (address, answer)
    });
    let (mut merged, mut addresses) = (None::<ServerReport>, Vec::new());
    for (address, answer) in join_all(answers).await {
        match answer {
            Ok(mut report) => {
                name_server(&mut report.warnings, &address);
                match &mut merged {
                    Some(merged) => merged.warnings.append(&mut report.warnings),
                    None => merged = Some(report),
                }
            }
            Err(error) if error.retryability() == Retryability::Transient => silent.push(error),
            Err(error) => return Err(error),
        }
        addresses.push(address);
    }
    let Some(mut report) = merged else {
        return Err(silent
            .pop()
            .unwrap_or_else(|| StreamError::Unusable("the cluster has no node".to_owned())));
    };
    let warning = |error: StreamError| format!("A node of the cluster cannot be asked now: {error}.");
    report.warnings.extend(silent.into_iter().map(warning));
    report.address = format!("the cluster of {}", addresses.join(", "));
    Ok(report)
}

/// Of several servers each warning tells which one it is about.
fn name_server(warnings: &mut [String], address: &str) {
    for warning in warnings {
        *warning = format!("{address}: {warning}");
    }
}

/// `slots`: those that the stream uses, where the server is a node of a cluster.
async fn inspect_one(server: &Server, slots: &[u16]) -> Result<ServerReport, StreamError> {
    let info: Option<InfoDict> = unless_denied(server, redis::cmd("INFO").arg("everything")).await?;
    let mut config = redis::cmd("CONFIG");
    config.arg("GET");
    for name in [
        "maxmemory-policy",
        "maxmemory",
        "appendonly",
        "appendfsync",
        "save",
        "min-replicas-to-write",
        "cluster-require-full-coverage",
    ] {
        config.arg(name);
    }
    let config: Option<HashMap<String, String>> = unless_denied(server, &config).await?;
    let product = product(server, info.as_ref())?;
    let settings = settings(info.as_ref(), &config.unwrap_or_default());
    Proof::acquire(server).await?;
    let mut warnings = warnings(&settings);
    if server.may_change() {
        warnings.extend(failover_warnings(&settings, server.durability()));
    }
    if !slots.is_empty() {
        let nodes: Option<String> = unless_denied(server, redis::cmd("CLUSTER").arg("NODES")).await?;
        warnings.extend(cluster_warnings(&settings, nodes.as_deref(), slots, &server.address()));
    }
    Ok(ServerReport {
        product,
        address: server.address(),
        warnings,
        fsync: fsync(&settings),
        eviction_policy: settings.eviction_policy,
        memory_limit: settings.memory_limit,
    })
}

/// `None` where the server does not know the command or the user may not call it.
async fn unless_denied<T: FromRedisValue>(server: &Server, command: &Cmd) -> Result<Option<T>, StreamError> {
    match server.query(command).await {
        Ok(answer) => Ok(Some(answer)),
        Err(StreamError::Denied(_) | StreamError::Unusable(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn product(server: &Server, info: Option<&InfoDict>) -> Result<String, StreamError> {
    let field = |name: &str| info.and_then(|info| info.get::<String>(name));
    let Some(version) = field("redis_version") else {
        return Ok("redis (version unknown)".to_owned());
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < OLDEST_MAJOR) {
        return Err(StreamError::Unusable(format!(
            "{} is Redis {version}; Redis 7.0 or Valkey is needed at least",
            server.address()
        )));
    }
    Ok(match field("valkey_version") {
        Some(valkey) => format!("valkey {valkey}"),
        None => format!("redis {version}"),
    })
}

fn settings(info: Option<&InfoDict>, config: &HashMap<String, String>) -> Settings {
    let informed = |name: &str| info.and_then(|info| info.get::<String>(name));
    let configured = |name: &str| config.get(name).cloned();
    Settings {
        eviction_policy: configured("maxmemory-policy").or_else(|| informed("maxmemory_policy")),
        memory_limit: configured("maxmemory")
            .or_else(|| informed("maxmemory"))
            .and_then(|limit| limit.parse().ok()),
        append_only: configured("appendonly")
            .map(|on| on == "yes")
            .or_else(|| informed("aof_enabled").map(|on| on == "1")),
        append_fsync: configured("appendfsync"),
        snapshots: configured("save").map(|points| !points.is_empty()),
        replicas: info.and_then(|info| info.get("connected_slaves")),
        least_replicas: configured("min-replicas-to-write").and_then(|count| count.parse().ok()),
        needs_full_coverage: configured("cluster-require-full-coverage").map(|needs| needs == "yes"),
    }
}

fn fsync(settings: &Settings) -> Option<String> {
    match settings.append_only {
        Some(true) => settings.append_fsync.clone(),
        Some(false) => Some("off".to_owned()),
        None => None,
    }
}

fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(policy) = settings
        .eviction_policy
        .as_deref()
        .filter(|policy| *policy != "noeviction")
    {
        warnings.push(format!(
            "Redis may evict the stream or its dedupe keys when memory is full (maxmemory-policy is {policy}): \
             set maxmemory-policy to noeviction."
        ));
    }
    match (settings.append_only, settings.snapshots) {
        (Some(false), Some(false)) => warnings.push(
            "Redis keeps nothing over a restart, accepted events included: set appendonly to yes and appendfsync to \
             always or everysec."
                .to_owned(),
        ),
        (Some(false), _) => warnings.push(
            "Redis has no append-only file, so a crash loses what was accepted since its last snapshot: set appendonly \
             to yes and appendfsync to always or everysec."
                .to_owned(),
        ),
        (Some(true), _) if settings.append_fsync.as_deref() == Some("no") => warnings.push(
            "Redis leaves it to the kernel when accepted events reach the disk: set appendfsync to always or everysec."
                .to_owned(),
        ),
        _ => {}
    }
    warnings
}

/// Where sentinels or a cluster choose the primary.
fn failover_warnings(settings: &Settings, durability: Durability) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.replicas == Some(0) {
        warnings.push("The primary has no replica connected, so that no failover is possible now.".to_owned());
    }
    if settings.least_replicas == Some(0) && durability == Durability::Received {
        warnings.push(
            "A primary that is cut off goes on confirming events, which the failover then loses: set \
             ORDERSTREAM_DURABILITY to replicated:1, or min-replicas-to-write to 1 on every server."
                .to_owned(),
        );
    }
    warnings
}

/// Of a node of a cluster; `nodes` is its answer to CLUSTER NODES.
fn cluster_warnings(settings: &Settings, nodes: Option<&str>, slots: &[u16], address: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.needs_full_coverage == Some(true) {
        warnings.push(
            "One shard without a primary stops all others (cluster-require-full-coverage is yes): set it to no on every \
             node."
                .to_owned(),
        );
    }
    for (slot, state) in open_slots(nodes.unwrap_or_default()) {
        if slots.contains(&slot) {
            warnings.push(format!(
                "Hash slot {slot}, which the stream uses, is {state}, so that repeats of events are refused until it has \
                 moved: where no resharding runs, end it with `redis-cli --cluster fix {address}`."
            ));
        }
    }
    warnings
}

/// Slots that the node which answered CLUSTER NODES moves key by key: `[93->-ID]` goes to that node,
/// `[93-<-ID]` comes from it. A node tells its own only (Redis' documentation of CLUSTER NODES).
fn open_slots(nodes: &str) -> impl Iterator<Item = (u16, &'static str)> {
    let marks = nodes.split_whitespace().filter_map(|word| word.strip_prefix('['));
    marks.filter_map(|mark| {
        let (slot, rest) = mark.split_once('-')?;
        let state = if rest.starts_with('>') {
            "migrating"
        } else {
            "importing"
        };
        Some((slot.parse().ok()?, state))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_name_what_is_wrong_and_the_remedy() {
        let sound = || Settings {
            eviction_policy: Some("noeviction".to_owned()),
            memory_limit: Some(0),
            append_only: Some(true),
            append_fsync: Some("everysec".to_owned()),
            snapshots: Some(true),
            replicas: Some(1),
            least_replicas: Some(0),
            needs_full_coverage: None,
        };
        assert_eq!(warnings(&sound()), Vec::<String>::new());
        assert_eq!(warnings(&Settings::default()), Vec::<String>::new());
        let evicting = Settings {
            eviction_policy: Some("allkeys-lru".to_owned()),
            ..sound()
        };
        assert!(warnings(&evicting)[0].contains("noeviction"));
        let volatile = Settings {
            append_only: Some(false),
            snapshots: Some(false),
            ..sound()
        };
        assert!(warnings(&volatile)[0].contains("appendonly"));
        assert_eq!(fsync(&volatile).as_deref(), Some("off"));
        assert_eq!(
            failover_warnings(&sound(), Durability::Replicated(1)),
            Vec::<String>::new()
        );
        assert!(failover_warnings(&sound(), Durability::Received)[0].contains("replicated:1"));
        let alone = Settings {
            replicas: Some(0),
            least_replicas: Some(1),
            ..sound()
        };
        assert!(failover_warnings(&alone, Durability::Received)[0].contains("no replica"));
    }

    #[test]
    fn slots_of_the_stream_that_are_open_are_named_with_the_command_that_ends_it() {
        let nodes = "a 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5460 [93->-b] [5500-<-b] [7->-b]\n\
                     b 127.0.0.1:3@4 master - 0 0 2 connected 5461-16383\n";
        let warned = cluster_warnings(&Settings::default(), Some(nodes), &[93, 5500, 6000], "127.0.0.1:1");
        assert_eq!(warned.len(), 2, "{warned:?}");
        assert!(
            warned[0].contains("slot 93, which the stream uses, is migrating"),
            "{warned:?}"
        );
        assert!(
            warned[1].contains("slot 5500, which the stream uses, is importing"),
            "{warned:?}"
        );
        assert!(
            warned
                .iter()
                .all(|text| text.contains("redis-cli --cluster fix 127.0.0.1:1`"))
        );
        assert_eq!(
            cluster_warnings(&Settings::default(), None, &[93], ""),
            Vec::<String>::new()
        );
    }
}
