//! `capture`: the changes of a shop's own PostgreSQL, by the real binary on a real server with
//! `wal_level = logical`. The oracle is the shop's tables, read by plain SQL.

mod bounds;
mod convergence;
mod definitions;
mod events;
mod failover;
mod faults;
mod gaps;
mod observed;
mod schemas;
mod setup;
mod shop;
mod values;
mod visibility;
