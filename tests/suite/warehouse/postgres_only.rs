//! What concerns PostgreSQL alone: connections, roles, locks, crashes of the server.

mod connections;
mod outages;
mod roles;
