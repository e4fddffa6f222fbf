//! The operations as requests: what each takes, what it answers, and its route.
//!
//! [`Operation`] is implemented once for each request, and three callers share it: the routes of
//! `/api` (`http/admin/operations.rs`), the client of a running process (`cli/remote.rs`), and
//! commands that open the stores themselves (`cli/backend.rs`).

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::context::{Operations, OperationsError};

/// How a request travels over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// `GET`, with its fields as the query.
    Query,
    /// `GET`, with its one field `id` in the path.
    Path,
    /// `POST`, as a JSON body.
    Body,
}

/// A request that an operator may send, here or over the admin API.
pub trait Operation: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What is answered, as JSON.
    type Answer: Serialize + DeserializeOwned + Send;
    /// Route on the private listener, in axum's form: `/api/events/{id}`.
    const PATH: &'static str;
    /// How the request travels.
    const CARRIER: Carrier = Carrier::Query;

    /// Carries the request out over the stores.
    ///
    /// # Errors
    /// What is named does not exist, the request is invalid, or a store does not answer.
    fn run(self, operations: &Operations) -> impl Future<Output = Result<Self::Answer, OperationsError>> + Send;
}

/// Does something with every operation, such as making its route.
pub trait Visitor {
    /// Called once for each of them.
    fn visit<O: Operation>(&mut self);
}

/// For `deserialize_with`: an object or null. A derived struct also reads an array, by position:
/// within a request it must not.
pub(super) fn or_null<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let object = Option::<Map<String, Value>>::deserialize(deserializer)?;
    object
        .map(|object| serde_json::from_value(Value::Object(object)).map_err(D::Error::custom))
        .transpose()
}
