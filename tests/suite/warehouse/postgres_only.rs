//! What concerns PostgreSQL alone: connections, roles, locks, crashes of the server.

mod compression;
mod connections;
mod dbt_views;
mod outages;
mod roles;
