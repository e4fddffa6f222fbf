//! What a dead letter has beside the fields of its entry, and how the entry is had back from it. Pure.

use crate::event::NamedOrder;
use crate::stream::Fields;

/// What a dead letter has after the fields of its entry.
pub const DEAD_LETTER_TRAILER: [&str; 6] = [
    "original_stream",
    "original_id",
    "failed_at",
    "error",
    "attempts",
    "consumer",
];

/// What a dead letter is found by, behind the fields of its entry: `order_id` and `shop`, where they can be read and the
/// entry has no such field of its own. Where its own is the last one, it is repeated: so [`entry_fields`] takes off what
/// was put there, and nothing else.
pub(in crate::stream) fn found_by(entry: &Fields) -> Vec<(&'static str, String)> {
    let order = entry.get("payload").map(|payload| NamedOrder::of_payload(payload));
    let order = order.unwrap_or_default();
    let own = |name| {
        let text = std::str::from_utf8(entry.get(name)?).ok()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    let is_repeated = entry
        .0
        .last()
        .is_some_and(|(name, _)| name == "order_id" || name == "shop");
    let mut found = Vec::new();
    for (name, told) in [("order_id", order.order_id), ("shop", order.shop)] {
        let own = own(name);
        if own.is_none() || is_repeated {
            found.extend(own.or(told).map(|value| (name, value)));
        }
    }
    found
}

/// The fields of the entry that became this letter. Fields of a letter's names that were the entry's own stay.
#[must_use]
pub fn entry_fields(letter: &Fields) -> Fields {
    let mut fields = letter.clone();
    let own = fields.0.len().saturating_sub(DEAD_LETTER_TRAILER.len());
    if !fields
        .0
        .iter()
        .skip(own)
        .map(|(name, _)| &**name)
        .eq(DEAD_LETTER_TRAILER)
    {
        return fields;
    }
    fields.0.truncate(own);
    for name in ["shop", "order_id"] {
        let Some(last) = fields.0.pop_if(|(last, _)| last == name) else {
            continue;
        };
        // Letters of earlier releases have none of them.
        let is_told = found_by(&fields)
            .iter()
            .any(|(told, value)| *told == name && value.as_bytes() == last.1);
        if !is_told {
            fields.0.push(last);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(own: &[(&'static str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in own {
            fields.push(name, (*value).to_owned());
        }
        fields
    }

    #[test]
    fn a_letter_is_found_by_its_order_and_gives_its_entry_back() {
        let payload = ("payload", r#"{"order_id":7,"shop":"a.myshopify.com","items":"damaged""#);
        let (order_id, shop) = (("order_id", "7"), ("shop", "a.myshopify.com"));
        for (own, added) in [
            (&[payload][..], &["order_id", "shop"][..]),
            (&[payload, shop, ("topic", "t")], &["order_id"]),
            (&[order_id, payload], &["shop"]),
            (&[order_id, shop, payload], &[]),
            (&[payload, order_id], &["order_id", "shop"]),
            (&[payload, ("shop", "b.myshopify.com")], &["order_id", "shop"]),
            (&[("payload", "{}"), order_id, shop], &["order_id", "shop"]),
            (&[("payload", "{}"), ("shop", "")], &[]),
            (&[("payload", "not JSON")], &[]),
            (&[("payload", "{}"), ("error", "its own")], &[]),
        ] {
            let own = fields(own);
            let found = found_by(&own);
            assert_eq!(Vec::from_iter(found.iter().map(|(name, _)| *name)), added);
            let mut letter = own.clone();
            let ended = DEAD_LETTER_TRAILER.map(|name| (name, "x".to_owned()));
            for (name, value) in found.into_iter().chain(ended) {
                letter.push(name, value);
            }
            assert_eq!(entry_fields(&letter), own);
            assert_eq!(entry_fields(&own), own, "nothing of its own is taken off");
        }
    }
}
