//! The schema in PostgreSQL: its state, one migration under an advisory lock, and the rights that
//! loading needs.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::check;
use super::error::PostgresError;
use super::schema::Schema;
use crate::warehouse::Migrated;
use crate::warehouse::migration::{Installed, Migration, SchemaFault, SchemaStore, migrate};

/// Longest a whole run may take on our side.
pub(super) const LIMIT: Duration = Duration::from_secs(15 * 60);

/// A statement may rewrite a large table; a lock that loads need may be waited for only briefly.
const SESSION: &str = "SET LOCAL statement_timeout = '10min'; SET LOCAL lock_timeout = '30s'; \
                       SET LOCAL idle_in_transaction_session_timeout = '1min'; SET LOCAL synchronous_commit = on";

/// Runs what is missing, and where `reader` is another role than ours gives it the rights that
/// loading needs.
pub(super) async fn run(client: &mut Client, schema: &Schema, reader: Option<&str>) -> Result<Migrated, PostgresError> {
    check::refuse_encoding(client).await?;
    let mut store = SchemaSession { client, schema };
    let migrated = migrate(&mut store).await?;
    if let Some(reader) = reader
        && !may_load(store.client, schema, Some(reader)).await?
    {
        store.client.batch_execute(&grants(schema, reader)).await?;
    }
    Ok(migrated)
}

/// A schema, and a connection to it.
pub(super) struct SchemaSession<'a> {
    pub(super) client: &'a mut Client,
    pub(super) schema: &'a Schema,
}

#[async_trait]
impl SchemaStore for SchemaSession<'_> {
    type Failure = PostgresError;

    fn fault(&self, fault: SchemaFault) -> PostgresError {
        PostgresError::Schema {
            schema: self.schema.name().to_owned(),
            fault,
        }
    }

    async fn installed(&self) -> Result<Installed, PostgresError> {
        installed(self.client, self.schema).await
    }

    async fn relations(&self) -> Result<Vec<String>, PostgresError> {
        let names = "SELECT c.relname::text FROM pg_catalog.pg_class c \
                     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1";
        let rows = self
            .client
            .query_typed(names, &[(&self.schema.name(), Type::TEXT)])
            .await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    async fn apply(&mut self, step: &'static Migration) -> Result<(), PostgresError> {
        let transaction = self
            .client
            .build_transaction()
            // Whoever waited for the lock must see what its holder committed, whatever the role's
            // default is.
            .isolation_level(IsolationLevel::ReadCommitted)
            .read_only(false)
            .start()
            .await?;
        transaction.batch_execute(SESSION).await?;
        apply(&transaction, self.schema, step).await?;
        Ok(transaction.commit().await?)
    }
}

async fn apply(transaction: &Transaction<'_>, schema: &Schema, step: &Migration) -> Result<(), PostgresError> {
    let lock = format!("orderstream:{}", schema.name());
    transaction
        .query_typed(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            &[(&lock, Type::TEXT)],
        )
        .await?;
    // Another process may have been here while this one waited.
    if installed(transaction.client(), schema).await?.version >= step.version {
        return Ok(());
    }
    // `CREATE SCHEMA IF NOT EXISTS` wants the right to create schemas even where there is nothing
    // to do.
    let exists = transaction
        .query_typed(
            "SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1",
            &[(&schema.name(), Type::TEXT)],
        )
        .await?;
    if exists.is_empty() {
        transaction.batch_execute(&schema.sql("CREATE SCHEMA {schema}")).await?;
    }
    transaction.batch_execute(&schema.sql(step.postgres)).await?;
    transaction
        .execute_typed(
            &schema.sql(
                "INSERT INTO {schema}.schema_migrations (version, name, compatible_from) \
                 VALUES ($1::bigint, $2, $3::bigint)",
            ),
            &[
                (&i64::from(step.version), Type::INT8),
                (&step.name, Type::TEXT),
                (&i64::from(step.compatible_from), Type::INT8),
            ],
        )
        .await?;
    let (version, name) = (step.version, step.name);
    tracing::info!(schema = schema.name(), version, name, "schema migrated");
    Ok(())
}

async fn installed(client: &Client, schema: &Schema) -> Result<Installed, PostgresError> {
    // Not `to_regclass`: it may answer from what the session remembers of before it waited for the
    // lock.
    let there = client
        .query_typed(
            "SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = 'schema_migrations'",
            &[(&schema.name(), Type::TEXT)],
        )
        .await?;
    if there.is_empty() {
        return Ok(Installed::default());
    }
    let row = client
        .query_typed_one(
            &schema.sql(
                "SELECT COALESCE(max(version), 0)::bigint, COALESCE(max(compatible_from), 0)::bigint \
                 FROM {schema}.schema_migrations",
            ),
            &[],
        )
        .await?;
    let number =
        |column: usize| Ok::<u32, PostgresError>(u32::try_from(row.try_get::<_, i64>(column)?).unwrap_or(u32::MAX));
    Ok(Installed {
        version: number(0)?,
        compatible_from: number(1)?,
    })
}

/// Whether that role (ours where `None`) has every right that loading needs.
pub(super) async fn may_load(client: &Client, schema: &Schema, role: Option<&str>) -> Result<bool, PostgresError> {
    let row = client
        .query_typed_one(
            "SELECT bool_and(COALESCE(has_schema_privilege(who, n.oid, 'USAGE') \
                                       AND has_table_privilege(who, c.oid, need.privilege), false)) \
             FROM COALESCE($2::name, current_user) AS who \
             CROSS JOIN (VALUES ('schema_migrations', 'SELECT'), ('order_events', 'SELECT'), ('order_events', 'INSERT'), \
                          ('orders', 'SELECT'), ('orders', 'INSERT'), ('orders', 'UPDATE'), \
                          ('order_items', 'SELECT'), ('order_items', 'INSERT'), ('order_items', 'UPDATE'), \
                          ('order_items', 'DELETE'), \
                          ('order_refunds', 'SELECT'), ('order_refunds', 'INSERT'), ('order_refunds', 'UPDATE'), \
                          ('order_refund_items', 'INSERT'), ('order_refund_items', 'UPDATE'), \
                          ('order_transactions', 'SELECT'), ('order_transactions', 'INSERT'), \
                          ('order_transactions', 'UPDATE'), \
                          ('order_sale_rows', 'SELECT'), ('order_sale_rows', 'INSERT'), \
                          ('order_sale_rows', 'DELETE'), ('forgotten', 'SELECT'), \
                          ('reconciliations', 'SELECT'), ('reconciliations', 'INSERT'), \
                          ('reconcile_locks', 'SELECT'), ('reconcile_locks', 'INSERT'), \
                          ('reconcile_locks', 'UPDATE'), ('reconcile_locks', 'DELETE') \
                  ) AS need(relation, privilege) \
             LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = $1 \
             LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = need.relation",
            &[(&schema.name(), Type::TEXT), (&role, Type::TEXT)],
        )
        .await?;
    Ok(row.try_get(0)?)
}

fn grants(schema: &Schema, role: &str) -> String {
    let role = role.replace('"', "\"\"");
    schema.sql(&format!(
        "GRANT USAGE ON SCHEMA {{schema}} TO \"{role}\"; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {{schema}} TO \"{role}\""
    ))
}
