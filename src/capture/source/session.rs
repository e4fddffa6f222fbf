//! A session with the shop's database.

use std::time::Duration;

use bytes::BytesMut;
use deadpool_postgres::Connect as _;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Config, TargetSessionAttrs};
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use crate::capture::plan::quoted;
use crate::postgres::{Connector, SourceError, Target};

/// A session, which ends when it is dropped.
pub(in crate::capture) struct SourceSession {
    pub(super) client: Client,
    /// As SQL has it.
    role: String,
    connection: JoinHandle<()>,
}

impl SourceSession {
    /// Connects.
    ///
    /// # Errors
    /// The source cannot be reached, or refuses the role.
    pub(in crate::capture) async fn connect(target: &Target, within: Duration) -> Result<Self, SourceError> {
        Self::connect_by(target, target.config(), within).await
    }

    /// Connects to a standby among the hosts of the URL.
    ///
    /// # Errors
    /// As [`Self::connect`]; or none is a standby.
    pub(super) async fn connect_to_standby(target: &Target, within: Duration) -> Result<Self, SourceError> {
        let mut config = target.config().clone();
        config.target_session_attrs(TargetSessionAttrs::ReadOnly);
        Self::connect_by(target, &config, within).await
    }

    async fn connect_by(target: &Target, config: &Config, within: Duration) -> Result<Self, SourceError> {
        let connector = Connector::new(target);
        let connecting = tokio::time::timeout(within, connector.connect(config));
        let too_late = |_| SourceError::Unreachable(format!("{}: no answer within {within:?}", target.server()));
        let (client, connection) = connecting
            .await
            .map_err(too_late)?
            .map_err(|error| match error.into() {
                SourceError::Unreachable(cause) => SourceError::Unreachable(format!("{}: {cause}", target.server())),
                error @ (SourceError::Refused { .. } | SourceError::Misconfigured(_)) => error,
            })?;
        let role = quoted(config.get_user().unwrap_or_default());
        Ok(Self {
            client,
            role,
            connection,
        })
    }

    /// The error of a statement.
    pub(super) fn error(&self, error: Error) -> SourceError {
        SourceError::from(error).of_role(&self.role)
    }

    /// Runs SQL whose parameters are texts, in unnamed statements.
    pub(super) async fn rows(&self, sql: &str, params: &[(&str, Type)]) -> Result<Vec<Row>, SourceError> {
        let texts = Vec::from_iter(params.iter().map(|(text, kind)| (AsText(text), kind.clone())));
        let params = Vec::from_iter(
            texts
                .iter()
                .map(|(text, kind)| (text as &(dyn ToSql + Sync), kind.clone())),
        );
        let rows = self.client.query_typed(sql, &params).await;
        rows.map_err(|error| self.error(error))
    }
}

impl Drop for SourceSession {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A parameter of any type, sent as its text.
#[derive(Debug)]
struct AsText<'a>(&'a str);

impl ToSql for AsText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

/// A type by its number, of which nothing else is of interest.
pub(super) fn type_of(oid: u32) -> Type {
    Type::from_oid(oid).unwrap_or_else(|| Type::new("key".to_owned(), oid, Kind::Simple, "public".to_owned()))
}

/// The text of an array of texts.
pub(super) fn array<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let mut array = String::from("{");
    for item in items {
        if array.len() > 1 {
            array.push(',');
        }
        array.push('"');
        for c in item.chars() {
            if matches!(c, '"' | '\\') {
                array.push('\\');
            }
            array.push(c);
        }
        array.push('"');
    }
    array.push('}');
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_holds_whatever_a_key_may_be() {
        assert_eq!(array(["1", "a\"b\\c", ""]), r#"{"1","a\"b\\c",""}"#);
        assert_eq!(array([]), "{}");
    }
}
