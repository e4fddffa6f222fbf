//! The warehouse: what its tables hold after which events, whatever goes wrong on the way.

mod captured;
mod connections;
mod events;
mod laws;
mod migrations;
mod tables;
