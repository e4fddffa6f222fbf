//! Spans of time, by which orders are searched for.

use serde::Deserialize;
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

use super::client::AdminClient;
use super::documents;
use super::error::AdminError;

/// From `since` on, before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderSpan {
    /// Whole seconds.
    pub since: OffsetDateTime,
    /// Whole seconds.
    pub until: OffsetDateTime,
}

impl OrderSpan {
    /// Of whole seconds, none of which is left out.
    #[must_use]
    pub fn new(since: OffsetDateTime, until: OffsetDateTime) -> Self {
        let whole = |at: OffsetDateTime| at.replace_nanosecond(0).unwrap_or(at).to_offset(UtcOffset::UTC);
        Self {
            since: whole(since),
            until: whole(until),
        }
    }

    /// Shopify's search for it, by `created_at` or `updated_at`.
    pub(super) fn search(self, field: &str) -> String {
        let text = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
        format!("{field}:>='{}' AND {field}:<'{}'", text(self.since), text(self.until))
    }

    /// Its halves, which are longer than 0; `None` where they would be shorter than `shortest`.
    #[must_use]
    pub fn halves(self, shortest: Duration) -> Option<[Self; 2]> {
        let length = (self.until - self.since).whole_seconds();
        let middle = self.since + Duration::seconds(length / 2);
        let half = |since, until| Self { since, until };
        let is_long = length > 1 && length / 2 >= shortest.whole_seconds();
        is_long.then(|| [half(self.since, middle), half(middle, self.until)])
    }

    /// How many orders Shopify finds by that field.
    ///
    /// # Errors
    /// Shopify does not answer as it should.
    pub async fn count(self, client: &AdminClient, field: &str) -> Result<u64, AdminError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct CountAnswer {
            orders_count: OrdersCount,
        }
        #[derive(Deserialize)]
        struct OrdersCount {
            count: u64,
        }
        let query = json!({ "query": self.search(field) });
        let answer: CountAnswer = client.query(documents::COUNT, query).await?;
        Ok(answer.orders_count.count)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn halves_make_the_whole_and_a_second_has_none() {
        let halves = |span: OrderSpan| span.halves(Duration::ZERO);
        let span = OrderSpan::new(datetime!(2026-01-01 00:00:00.9 UTC), datetime!(2026-01-01 01:00 +01:00));
        assert_eq!(halves(span), None, "it is empty");
        let span = OrderSpan::new(datetime!(2026-01-01 00:00 UTC), datetime!(2026-01-01 00:00:03 UTC));
        let [first, second] = halves(span).unwrap();
        assert_eq!(
            (first.since, first.until, second.until),
            (span.since, second.since, span.until)
        );
        assert_eq!(
            span.search("updated_at"),
            "updated_at:>='2026-01-01T00:00:00Z' AND updated_at:<'2026-01-01T00:00:03Z'"
        );
        assert_eq!(halves(first), None);
        assert_eq!(span.halves(Duration::seconds(2)), None);
    }
}
