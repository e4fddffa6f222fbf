//! The operations as requests: what each takes, what it answers, and its route.
//!
//! [`Operation`] is implemented once for each request, and three callers share it: the routes of
//! `/api` (`http/admin/operations.rs`), the client of a running process (`cli/remote.rs`), and
//! commands that open the stores themselves (`cli/backend.rs`).

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::Operations;
use super::error::OperationsError;

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

    /// Path of this request; that of [`Carrier::Path`] contains its id.
    fn path(&self) -> Cow<'static, str> {
        Self::PATH.into()
    }

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
