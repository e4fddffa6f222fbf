//! What concerns PostgreSQL alone: plans, connections, roles, locks, crashes of the server.

mod compression;
mod connections;
mod dbt_views;
mod outages;
mod plans;
mod roles;
