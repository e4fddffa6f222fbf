//! Can this program load here? Reads only.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::PostgresError;
use super::migrations::{self, SchemaSession};
use super::schema::Schema;
use crate::warehouse::migration;

/// `server_version_num` of the oldest version that is supported.
const OLDEST: i32 = 140_000;

/// Answers in one line what was found.
pub(super) async fn inspect(client: &mut Client, schema: &Schema, server: &str) -> Result<String, PostgresError> {
    let row = client
        .query_typed_one(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int, \
                    pg_is_in_recovery() OR current_setting('transaction_read_only')::bool",
            &[],
        )
        .await?;
    let (product, number, read_only): (String, i32, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let unusable = |what: &str| Err(PostgresError::Operator(format!("{server}: {what}")));
    if number < OLDEST {
        return unusable(&format!("PostgreSQL {product} is too old; 14 or newer is needed"));
    }
    if read_only {
        return unusable("the server takes no writes: it is a standby or read-only; name the primary in the URL");
    }
    refuse_encoding(client).await?;
    let name = schema.name();
    let version = migration::inspect(&SchemaSession { client, schema }).await?;
    if !migrations::may_load(client, schema, None).await? {
        return unusable(&format!(
            "the role lacks rights on the tables of schema {name}: \
             let the role that owns it run `orderstream migrate`, which grants them"
        ));
    }
    Ok(format!(
        "PostgreSQL {product} at {server}, schema {name} version {version}"
    ))
}

/// Fails where the database cannot hold every text: most names and titles would be refused one by
/// one.
pub(super) async fn refuse_encoding(client: &Client) -> Result<(), PostgresError> {
    let row = client
        .query_typed_one(
            "SELECT current_setting('server_encoding'), current_database()::text",
            &[],
        )
        .await?;
    let (encoding, database): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(PostgresError::Operator(format!(
        "the encoding of database {database} is {encoding}, which cannot hold every text; UTF8 is needed: make one with \
         CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
    )))
}

/// Succeeds where this connection's role can make the schema, or change what is there.
pub(super) async fn refuse_unless_migrator(
    client: &Client,
    schema: &Schema,
    server: &str,
) -> Result<(), PostgresError> {
    let row = client
        .query_typed_one(
            "SELECT current_user::text, \
                    CASE WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE') \
                         ELSE has_schema_privilege(n.oid, 'CREATE') \
                              AND COALESCE(pg_has_role(c.relowner, 'USAGE'), true) END \
             FROM (VALUES ($1::text)) AS wanted(name) \
             LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.name \
             LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'schema_migrations'",
            &[(&schema.name(), Type::TEXT)],
        )
        .await?;
    let (role, may): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    if may {
        return Ok(());
    }
    Err(PostgresError::Operator(format!(
        "{server}: the tables of schema {} are missing or older than this program, and role {role} lacks the rights to \
         change that: let the role that owns it run `orderstream migrate`, or name it in \
         ORDERSTREAM_MIGRATE_DATABASE_URL",
        schema.name()
    )))
}
