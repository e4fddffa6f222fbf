//! Connections to PostgreSQL, for the warehouse and for capture: what a URL means (`url.rs`), TLS
//! (`tls.rs`), sessions of the driver (`connector.rs`), and the replication protocol, which the
//! driver lacks (`handshake.rs`, `replication.rs`).

mod connector;
mod error;
mod handshake;
mod replication;
mod tls;
mod url;

pub(crate) use self::connector::Connector;
pub(crate) use self::error::SourceError;
pub(crate) use self::replication::{Lsn, Replication, ReplicationMessage};
pub(crate) use self::url::{InvalidUrl, Target};
