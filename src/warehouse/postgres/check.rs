//! Can this program load here? Reads only.

use tokio_postgres::Client;

use super::error::Failure;
use super::migrations::{self, KNOWN};
use super::schema::Schema;

/// `server_version_num` of the oldest version that is supported.
const OLDEST: i32 = 140_000;

/// Answers in one line what was found.
pub(super) async fn inspect(client: &Client, schema: &Schema, server: &str) -> Result<String, Failure> {
    let row = client
        .query_typed_one(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int, \
                    pg_is_in_recovery() OR current_setting('transaction_read_only')::bool",
            &[],
        )
        .await?;
    let (product, number, read_only): (String, i32, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let unusable = |what: &str| Err(Failure::Operator(format!("{server}: {what}")));
    if number < OLDEST {
        return unusable(&format!("PostgreSQL {product} is too old; 14 or newer is needed"));
    }
    if read_only {
        return unusable("the server takes no writes: it is a standby or read-only; name the primary in the URL");
    }
    let name = schema.name();
    let installed = migrations::installed(client, schema).await?;
    migrations::refuse_newer(installed, schema)?;
    if installed.version < KNOWN {
        return unusable(&format!(
            "schema {name} is at version {} of {KNOWN}: let the role that owns it run `orderstream migrate`",
            installed.version
        ));
    }
    if !migrations::may_load(client, schema, None).await? {
        return unusable(&format!(
            "the role lacks rights on the tables of schema {name}: \
             let the role that owns it run `orderstream migrate`, which grants them"
        ));
    }
    Ok(format!(
        "PostgreSQL {product} at {server}, schema {name} version {}",
        installed.version
    ))
}
