//! The stream on Redis Streams, and the only place that speaks Redis. Needs Redis 7.0 or Valkey.
//!
//! # Layout
//!
//! Names come from `ORDERSTREAM_STREAM`, `_DEAD_LETTER_STREAM` and `_GROUP`; times are milliseconds
//! of the server's clock.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `<stream>` | stream | entries; the group's pending list is Redis' own |
//! | `<dead letters>` | stream | dead letters; no group |
//! | `<log>:ids:<window>:<n>` | hash, 3 windows | dedupe keys of the nth window (`reservation.rs`) |
//! | `<stream>:attempts:<group>` | hash, 30 days | entry id → `<failed> <unfinished>` tries |
//! | `<stream>:audit` | stream, MAXLEN ~ 10,000 | what operators did |
//! | `<stream>:capture:<source>` | hash | version and record of a capture's checkpoint, and an operator's request |
//! | `<stream>:paused` | hash | group → since when it is paused |
//! | `<stream>:minutes` | hash, 1,440 fields | place of a minute in a day → its figures |
//! | `<stream>:partitions` | hash | numbers of partitions that processes have, and since when |
//! | `<stream>:nodes` | hash | node id → time and record of its last heartbeat |
//! | `<stream>:mark:<group>:<what>` | string, 60 s | an action that one process took for all |
//! | `<log>:probe` | string, 60 s | written to learn whether writes are taken |
//!
//! With `ORDERSTREAM_PARTITIONS` set, or in a cluster, a stream is that many logs of these, each with its side keys in
//! the hash slot of its log (`placing.rs`): `{<stream>}:...` for the first, whose audit and nodes
//! are those of all, and `{<stream>:i.s}:...` for a further one. `partition.rs` is one log,
//! `stream.rs` the calls that go to several, `merge.rs` one page or report of them. An id has the
//! number of its partition outside of these files and never in Redis.
//!
//! # Invariants
//!
//! - What takes more than one step is one script (`*.lua`; the head of each says what it does and
//!   takes), so that it happens as a whole or not at all. Its keys are in one hash slot, as those of
//!   every command are: a dead letter is written, then its entry acked.
//! - Only the id of a stored entry makes a duplicate. An append with an unknown outcome is sent
//!   again as it is: its reservation tells from when on the stream is to be searched for it.
//! - Ids of a window are looked up for the next one too, then the trimmer UNLINKs them; their expiry
//!   would block the server, and is for a stream that no process uses any more.
//! - A refusal of a call (`error.rs`) is certain not to have stored anything; a timeout is unknown.
//! - A confirmed append is as durable as `ORDERSTREAM_DURABILITY` asks for (`durability.rs`).
//! - A trim removes nothing that a group has not acked, and one-by-one deletions stay below every
//!   group's last-delivered id, since Redis would lose count of the lag otherwise.
//! - A call is bounded: 256 entries or 4 MiB of a flush, 500 ids, 2 to 24 entries of a read or range (a
//!   page is several calls and ends at 8 MiB), so that no script holds the server for more than a
//!   few milliseconds.
//! - Every wait is bounded (`server.rs`). A connection that failed, or leads to a replica, is
//!   closed and never goes back to the pool.
//! - Of several sentinels' answers the highest config-epoch counts, once that server calls itself a
//!   primary; of a cluster's maps that of the highest current epoch. No connection outlives the news
//!   that another server is the primary, and what it confirms then is taken for unknown.
//!
//! # Connections
//!
//! A writer holds one from flush to flush, a reader has its own outside the pool, since a read
//! blocks; everything else takes one from the pool for a call. Nothing connects before its first
//! call, and the group is created at 0 wherever it is missing (`group.rs`), so that processes start
//! and restart in any order. SIGHUP exchanges URL and pool; a connection that leads to the old
//! server is dropped at its next use.
//!
//! `url.rs` reads the URL, `node.rs` connects to one server, and `whereabouts.rs` knows which one it
//! is now. Behind sentinels (`sentinel.rs`) a role asks all of them each second, and whoever meets a
//! failure before it connects again. When they name another primary, the pool of the former one is
//! closed, a flush begins on the new one, and a read that blocks ends with an error, so that the
//! reader claims what was delivered to it before it goes on there.
//!
//! In a cluster (`cluster.rs`, `slot_map.rs`) each partition and the dead letters have a server of
//! their own, the owner of their hash slot: a `Server` (`server.rs`) is a handle of one, and
//! nothing above it knows how many there are. A node has one pool; a flush goes to each node at once
//! (`writer.rs`), and what a node refuses since the slot moves or has moved is sent on
//! (`redirect.rs`). The appender has a queue and writers for each node, so that one that hangs holds
//! up its own partitions only.
//!
//! # Losses
//!
//! Redis fails no call for what it lost. `loss_detector.rs` compares each report with the one
//! before, and with what was confirmed since; `group_monitor.rs` finds what a foreign command took
//! off the group, and makes it pending again.
//!
//! # Absent
//!
//! XAUTOCLAIM: its one idle threshold does not fit attempts, and it counts entries in flight as
//! delivered. Eviction: at the cap an append is refused. Reads from replicas. The client's own
//! support of sentinels and clusters: it asks the first sentinel that answers, sends a whole pipeline
//! again for one redirect, retries for longer than an append may take, and takes no timeouts.

mod admin;
mod append_call;
mod checkpointed;
mod chunk;
mod cluster;
mod dead_letters;
mod dedupe;
mod durability;
mod error;
mod group;
mod group_monitor;
mod inspect;
mod keys;
mod letter_bodies;
mod loss_detector;
mod merge;
mod node;
mod node_writer;
mod nodes;
mod pages;
mod partition;
mod placing;
mod reader;
mod redirect;
mod reply;
mod report;
mod reservation;
mod round_trip;
mod scripts;
mod search;
mod sentinel;
mod server;
mod slot_map;
mod stream;
mod url;
mod whereabouts;
mod writable;
mod writer;

pub use self::stream::RedisStream;
