//! The only place with the shop's SQL: sessions, what its catalog says, and reads of orders.

mod advice;
mod catalog;
mod guess;
mod lines;
mod prepare;
mod reader;
mod session;
mod slot;

pub(super) use self::advice::{advise_on_fields, advise_on_query, advise_on_server};
pub(super) use self::catalog::{Catalog, inspect, inspect_tables, make_publication, publication};
pub(super) use self::guess::guess;
pub(super) use self::prepare::preparation;
pub(super) use self::reader::OrderReader;
pub(super) use self::session::SourceSession;
pub(super) use self::slot::{CANARY, drop_slot, is_synced, send_canary, slot};
