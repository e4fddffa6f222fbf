//! What an answer of the Admin API means: its data, or what to do next. Pure.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::budget::Cost;

/// Characters of Shopify's own words that an error repeats.
const WORDS: usize = 300;

/// Why one attempt brought no data.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The bucket lacks points: the same again after that time.
    Throttled(Duration),
    /// The token is refused.
    Unauthorized,
    /// It may succeed later.
    Again {
        why: String,
        /// What Shopify asks for.
        after: Option<Duration>,
        /// Whether it cannot have been carried out.
        is_undone: bool,
    },
    /// The token, the app or the shop is refused, for that reason.
    Denied(String),
    /// The shop is closed for now, for that reason.
    Closed(String),
    /// The query costs more than one may.
    TooCostly,
    /// Shopify's own words.
    Refused(String),
    /// A file or a setting is unusable.
    Unusable(String),
}

impl Attempt {
    /// A failure after which it is unknown whether the request was carried out.
    pub(super) fn again(why: String) -> Self {
        Self::Again {
            why,
            after: None,
            is_undone: false,
        }
    }
}

/// The body of an answer with status 200.
#[derive(Deserialize)]
pub(super) struct Reply {
    #[serde(default, rename = "data")]
    values: Value,
    #[serde(default)]
    errors: ReplyErrors,
    extensions: Option<Extensions>,
}

#[derive(Deserialize)]
struct Extensions {
    cost: Option<Cost>,
}

/// A list of errors; a text in some refusals.
#[derive(Deserialize)]
#[serde(untagged)]
enum ReplyErrors {
    List(Vec<ReplyError>),
    Text(String),
}

impl Default for ReplyErrors {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

#[derive(Deserialize)]
struct ReplyError {
    #[serde(default)]
    message: String,
    #[serde(default)]
    path: Vec<Value>,
    #[serde(default)]
    extensions: ErrorExtensions,
}

#[derive(Default, Deserialize)]
struct ErrorExtensions {
    code: Option<String>,
}

/// What was asked for, and the names of fields that the app may not read, which are null there.
pub(super) struct AnswerFields {
    pub(super) values: Value,
    pub(super) denied: Vec<String>,
}

impl Reply {
    pub(super) fn cost(&self) -> Option<&Cost> {
        self.extensions.as_ref()?.cost.as_ref()
    }

    pub(super) fn outcome(self) -> Result<AnswerFields, Attempt> {
        let until = self.cost().map_or(Duration::from_secs(1), Cost::until_restored);
        let errors = match self.errors {
            ReplyErrors::List(errors) => errors,
            ReplyErrors::Text(text) => return Err(Attempt::Refused(shortened(&text))),
        };
        let has = |code: &str| {
            errors
                .iter()
                .any(|error| error.extensions.code.as_deref() == Some(code))
        };
        if has("THROTTLED") {
            return Err(Attempt::Throttled(until));
        }
        if has("MAX_COST_EXCEEDED") {
            return Err(Attempt::TooCostly);
        }
        let is_denial = |error: &ReplyError| error.extensions.code.as_deref() == Some("ACCESS_DENIED");
        if !self.values.is_null() && errors.iter().all(is_denial) {
            let field = |error: &ReplyError| {
                let names = error.path.iter().filter_map(Value::as_str);
                names.collect::<Vec<_>>().join(".")
            };
            return Ok(AnswerFields {
                denied: errors.iter().map(field).collect(),
                values: self.values,
            });
        }
        if has("INTERNAL_SERVER_ERROR") {
            return Err(Attempt::again("Shopify reports an internal error".to_owned()));
        }
        let words = errors.iter().map(|error| error.message.as_str());
        Err(Attempt::Refused(
            match shortened(&words.collect::<Vec<_>>().join("; ")) {
                words if words.is_empty() => "it answers neither data nor errors".to_owned(),
                words => words,
            },
        ))
    }
}

fn shortened(words: &str) -> String {
    words.chars().take(WORDS).collect()
}

/// What a status other than 200 means. `retry_after` is the header's text.
pub(super) fn refused(status: u16, retry_after: Option<&str>) -> Attempt {
    let after = retry_after
        .and_then(|text| text.trim().parse::<f64>().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match status {
        401 => Attempt::Unauthorized,
        402 => Attempt::Closed("the shop is frozen for an unpaid bill (402): its owner has to settle it".to_owned()),
        403 => Attempt::Denied(
            "Shopify forbids it (403): see that the app is installed, has its scopes, and that the shop is open"
                .to_owned(),
        ),
        404 => Attempt::Denied("there is no such shop, or no such version of the API (404)".to_owned()),
        423 => Attempt::Closed("the shop is locked (423): its owner has to ask Shopify's support".to_owned()),
        408 | 429 | 430 | 500..=599 => Attempt::Again {
            why: format!("HTTP {status}"),
            after,
            is_undone: matches!(status, 429 | 430),
        },
        _ => Attempt::Refused(format!("HTTP {status}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(body: Value) -> Result<AnswerFields, Attempt> {
        serde_json::from_value::<Reply>(body).unwrap().outcome()
    }

    #[test]
    fn a_throttled_answer_waits_until_the_bucket_has_the_points() {
        let body = json!({
            "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
            "extensions": {"cost": {"requestedQueryCost": 202, "actualQueryCost": null, "throttleStatus":
                {"maximumAvailable": 2000.0, "currentlyAvailable": 2, "restoreRate": 100.0}}},
        });
        assert!(matches!(outcome(body), Err(Attempt::Throttled(wait)) if wait == Duration::from_secs(2)));
    }

    #[test]
    fn a_field_that_may_not_be_read_is_named_and_costs_nothing_else() {
        let denial = json!({"message": "Access denied for customer field.", "path": ["nodes", 0, "customer"],
            "extensions": {"code": "ACCESS_DENIED"}});
        let found = outcome(json!({"data": {"nodes": [{"customer": null}]}, "errors": [denial.clone()]})).unwrap();
        assert_eq!(found.denied, ["nodes.customer"]);
        assert_eq!(found.values["nodes"][0], json!({"customer": null}));
        assert!(matches!(
            outcome(json!({"data": null, "errors": [denial]})),
            Err(Attempt::Refused(_))
        ));
    }

    #[test]
    fn statuses_mean_what_shopify_documents() {
        assert!(matches!(refused(401, None), Attempt::Unauthorized));
        for status in [402, 423] {
            assert!(matches!(refused(status, None), Attempt::Closed(_)), "{status}");
        }
        for status in [403, 404] {
            assert!(matches!(refused(status, None), Attempt::Denied(_)), "{status}");
        }
        let Attempt::Again { after, is_undone, .. } = refused(429, Some("2.0")) else {
            panic!("429 is tried again");
        };
        assert!(is_undone && after == Some(Duration::from_secs(2)));
        assert!(matches!(
            refused(502, Some("soon")),
            Attempt::Again {
                after: None,
                is_undone: false,
                ..
            }
        ));
    }
}
