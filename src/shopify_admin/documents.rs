//! The GraphQL documents, in `queries/`.

use serde::Deserialize;

/// Where the next page of a list begins.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageCursor {
    has_next_page: bool,
    end_cursor: Option<String>,
}

impl PageCursor {
    /// `after` of the next page; `None` after the last.
    pub(super) fn next(self) -> Option<String> {
        self.end_cursor.filter(|_| self.has_next_page)
    }
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub struct QueryDocument {
    /// Its name, as Shopify reports it.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

impl QueryDocument {
    /// Whether it changes anything, so that sending it twice may change it twice.
    #[must_use]
    pub fn is_mutation(&self) -> bool {
        self.text.trim_start().starts_with("mutation")
    }
}

macro_rules! documents {
    ($($(#[$doc:meta])* $id:ident $name:literal $file:literal;)*) => {
        $($(#[$doc])* pub const $id: QueryDocument = QueryDocument { name: $name, text: include_str!(concat!("queries/", $file, ".graphql")) };)*

        /// Every document that is sent as it stands.
        pub const ALL: &[QueryDocument] = &[$($id),*];
    };
}

documents! {
    /// Shop, scopes and versions.
    IDENTITY "Identity" "identity";
    /// Ids and times of the orders that a search finds: `query`, `after`.
    WINDOW "Window" "window";
    /// Number of orders that a search finds: `query`.
    COUNT "Count" "count";
    /// Refunds of orders in full: `ids`.
    ORDERS_BY_ID "Orders" "orders_by_id";
    /// More lines of one of them: `id`, `after`.
    ORDER_LINES "OrderLines" "order_lines";
    /// Events of deletion: `q`, `after`.
    DELETIONS "Deletions" "deletions";
    /// Webhook subscriptions of this app: `after`.
    SUBSCRIPTIONS "Subscriptions" "subscriptions";
    /// Creates a subscription: `topic`, `s`.
    SUBSCRIBE "Subscribe" "subscribe";
    /// Changes a subscription: `id`, `s`.
    RESUBSCRIBE "Re" "resubscribe";
    /// A report of Shopify's: `q`.
    ANALYTICS "Analytics" "analytics";
    /// Starts a bulk operation: `q`.
    BULK_RUN "Run" "bulk_run";
    /// State of a bulk operation: `id`.
    BULK_POLL "Poll" "bulk_poll";
    /// Bulk operations of this app, newest first: `after`.
    BULK_LIST "BulkList" "bulk_list";
}

/// Text of a bulk operation over whole orders, in which `SEARCH` stands for the search.
pub const BULK_ORDERS: &str = include_str!("queries/bulk_orders.graphql");
