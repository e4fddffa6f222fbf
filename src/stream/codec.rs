//! Entry fields ↔ event: the public format of the stream. Pure.
//!
//! Owns names and order of the fields (contract: every reader and plain producer knows the first
//! four). Invariant: decode(encode(x)) = x. Every field is UTF-8 text, `raw` included: a client
//! that decodes replies (redis-py with `decode_responses=True`) fails on a whole reply that holds
//! one binary value.
//!
//! `raw` is a body, compressed and made text; `raw_encoding` lists what was done to it, in that
//! order, and is `zstd+base64` or `redacted+zstd+base64`. In Python:
//! `zstandard.decompress(base64.b64decode(fields["raw"]))`.

mod dead_letter;
mod decode;
mod encode;
mod raw;

pub use self::dead_letter::{
    DEAD_LETTER_TRAILER, Quarantine, REUSED_ID, dead_letter_fields, entry_fields, quarantine_fields,
};
pub(super) use self::dead_letter::{dead_letter_of, found_by};
pub use self::decode::{DecodeError, appended_at, decode, mend};
pub(super) use self::encode::FIELDS;
pub use self::encode::{encode, push_raw};
pub use self::raw::{Raw, UnpackError, Unpacker};

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use time::OffsetDateTime;

    use super::*;
    use crate::event::{
        AddedLine, Amount, Attribute, Details, Discount, Fulfillment, Id, Item, OrderEdit, OrderEvent, Provenance,
        Refund, RefundLine, ShippingLine, TaxLine, Text, Timestamp, Transaction, Utm,
    };
    use crate::stream::{Entry, Fields, StreamId};

    fn entry(fields: &[(&'static str, &str)]) -> Entry {
        let mut entry = Entry {
            id: StreamId::new(1_767_225_600_123, 4),
            fields: Fields::default(),
        };
        for (name, value) in fields {
            entry.fields.push(name, (*value).to_owned());
        }
        entry
    }

    #[test]
    fn a_plain_producers_entry_is_read() {
        let entry = entry(&[
            ("event_type", "order.created"),
            ("event_id", "e-1"),
            ("timestamp", "2026-01-31T21:30:02.123456"),
            (
                "payload",
                r#"{"order_id": 5400000000001, "customer_id": 7, "total_amount": 19.99, "currency": "EUR", "items": [{"sku": "A", "qty": 2, "price": 9.995, "colour": "red"}], "more": {"a": [1]}}"#,
            ),
        ]);
        let record = decode(&entry).unwrap();
        assert_eq!(record.event.event_type.as_str(), "order.created");
        assert_eq!(record.event.event_id.as_str(), "e-1");
        assert_eq!(record.event.timestamp.as_str(), "2026-01-31T21:30:02.123456");
        assert_eq!(record.event.order_id.as_str(), "5400000000001");
        assert_eq!(record.event.customer_id.as_ref().unwrap().as_str(), "7");
        assert_eq!(record.event.total_amount.unwrap().to_string(), "19.99");
        assert!(record.event.is_whole());
        assert_eq!(record.stream_id, "1767225600123-4");
        assert_eq!(record.received_at, time::macros::datetime!(2026-01-01 00:00:00.123 UTC));
        assert_eq!(record.provenance, Provenance::default());
    }

    #[test]
    fn an_entry_tells_when_it_was_received_whatever_its_id_says() {
        let payload = r#"{"event_type":"a.b","event_id":"e","timestamp":"2026-01-01T00:00:00Z","order_id":1}"#;
        let of_id = time::macros::datetime!(2026-01-01 00:00:00.123 UTC);
        for (told, received_at) in [
            (
                "2025-12-31T23:00:00.5Z",
                time::macros::datetime!(2025-12-31 23:00:00.5 UTC),
            ),
            ("2025-12-31T23:59:58Z", of_id),
            ("soon", of_id),
            ("", of_id),
        ] {
            let entry = entry(&[("payload", payload), ("received_at", told)]);
            assert_eq!(decode(&entry).unwrap().received_at, received_at, "{told}");
        }
    }

    #[test]
    fn poison_names_its_field() {
        let good = ("payload", r#"{"order_id":1}"#);
        for (fields, reason) in [
            (&[][..], "no field `payload`"),
            (&[("payload", "")], "payload cannot be read: not a JSON object"),
            (&[("payload", "{\"order_id\":NaN}")], "payload cannot be read: not JSON"),
            (&[("payload", "{}")], "missing field `order_id`"),
            (
                &[("payload", r#"{"order_id":1,"items":[{"qty":1000000001,"price":1}]}"#)],
                "items[0].qty: expected a whole number from 0 to 1000000000",
            ),
            (
                &[("payload", r#"{"order_id":1,"total_amount":0.0000000001}"#)],
                "total_amount: expected an exact decimal amount below 10^15 with at most 9 decimals",
            ),
            (
                &[("payload", r#"{"order_id":1,"updated_at":"9999-12-31T23:59:59-12:00"}"#)],
                "updated_at: expected a point in time",
            ),
            (&[good], "no field `timestamp`"),
            (
                &[good, ("timestamp", "9999-12-31T23:59:59-12:00")],
                "`timestamp` is not a point in time",
            ),
            (&[good, ("timestamp", "soon")], "`timestamp` is not a point in time"),
            (&[good, ("timestamp", "2026-01-01T00:00:00")], "event_type: missing"),
            (
                &[good, ("timestamp", "2026-01-01T00:00:00"), ("event_type", "a.b")],
                "event_id: missing",
            ),
        ] {
            let shown = decode(&entry(fields)).unwrap_err().to_string();
            assert!(shown.contains(reason), "{shown}");
        }
        let mut binary = Entry::clone(&entry(&[]));
        binary.fields.push("payload", vec![0xFF]);
        assert_eq!(decode(&binary).unwrap_err(), DecodeError::NotText("payload"));
    }

    #[test]
    fn unreadable_provenance_is_absent() {
        let mut entry = entry(&[
            ("event_type", "order.created"),
            ("event_id", "e"),
            ("timestamp", "2026-01-01T00:00:00Z"),
            ("payload", r#"{"order_id":1}"#),
            ("topic", "a\0b"),
            ("webhook_id", &"x".repeat(256)),
            ("shop", ""),
            ("triggered_at", "soon"),
            ("raw", "dGV4dA=="),
        ]);
        entry.fields.push("source", vec![0xFF]);
        entry.id.ms = u64::MAX;
        let record = decode(&entry).unwrap();
        assert_eq!(record.shop(), "");
        assert_eq!(record.provenance.source, None);
        assert_eq!(record.provenance.topic, None);
        assert_eq!(record.provenance.webhook_id, None);
        assert_eq!(record.triggered_at, None);
        assert_eq!(record.received_at, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(record.raw.as_deref(), Some(&b"dGV4dA=="[..]));
    }

    #[test]
    fn a_body_comes_back_from_quarantine() {
        let body = b"not \xFF JSON";
        let fields = quarantine_fields(Quarantine {
            event_type: None,
            event_id: "e-1",
            received_at: OffsetDateTime::UNIX_EPOCH,
            provenance: &Provenance {
                topic: Some("products/create".into()),
                ..Provenance::default()
            },
            raw: Raw::whole(body).unwrap(),
            order_id: Some("7".to_owned()),
            error: "why",
        });
        let names: Vec<_> = fields.0.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(
            names,
            [
                "event_type",
                "event_id",
                "timestamp",
                "topic",
                "raw",
                "raw_encoding",
                "order_id",
                "original_stream",
                "original_id",
                "failed_at",
                "error",
                "attempts",
                "consumer"
            ]
        );
        let raw = fields.get("raw").unwrap();
        let mut unpacker = Unpacker::default();
        let mut unpack = |raw, encoding, limit| unpacker.unpack(raw, encoding, limit);
        assert_eq!(unpack(raw, "zstd+base64", 100).unwrap(), body);
        assert_eq!(unpack(raw, "zstd+base64", 3), Err(UnpackError::Damaged));
        assert_eq!(unpack(raw, "gzip", 100), Err(UnpackError::Encoding));
        assert_eq!(unpack(b"?", "zstd+base64", 100), Err(UnpackError::Damaged));
        assert_eq!(unpack(raw, "zstd+base64", 100).unwrap(), body, "after what was damaged");
        assert!(fields.0.iter().all(|(_, value)| std::str::from_utf8(value).is_ok()));
    }

    #[test]
    fn the_first_four_fields_are_the_contract() {
        let entry = entry(&[
            (
                "payload",
                r#"{"event_type":"a.b","event_id":"e","timestamp":"2026-01-01T00:00:00Z","order_id":1}"#,
            ),
            ("source", "batch"),
            ("traceparent", "t"),
        ]);
        let record = decode(&entry).unwrap();
        let raw = Raw::redacted(b"{}").unwrap();
        let fields = encode(&record.event, &record.provenance, Some(raw)).unwrap();
        let names: Vec<_> = fields.0.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(
            names,
            [
                "event_type",
                "event_id",
                "timestamp",
                "payload",
                "source",
                "traceparent",
                "raw",
                "raw_encoding"
            ]
        );
        assert_eq!(fields.get("raw_encoding").unwrap().as_ref(), b"redacted+zstd+base64");
    }

    fn text() -> impl Strategy<Value = Text<'static>> {
        "[^\\x00]{1,20}".prop_map(Text::from)
    }

    fn id() -> impl Strategy<Value = Id<'static>> {
        prop_oneof![
            any::<u64>().prop_map(|number| number.to_string().into()),
            "[ -~é]{1,20}".prop_map(Id::from)
        ]
    }

    fn amount() -> impl Strategy<Value = Amount> {
        (-10_i64.pow(11)..10_i64.pow(11), 0..10_u32)
            .prop_map(|(mantissa, scale)| Amount(rust_decimal::Decimal::new(mantissa, scale)))
    }

    fn timestamp() -> impl Strategy<Value = Timestamp<'static>> {
        (0..4_102_444_800_000_i64)
            .prop_map(|ms| Timestamp::from(OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(ms)))
    }

    prop_compose! {
        fn item()(
            sku in option::of(prop_oneof![Just(Id::from("")), id()]), qty in 0..1000_i64, price in amount(),
            line_id in option::of(id()), title in option::of(text()), current_qty in option::of(0..=1_000_000_000_i64),
            discount in option::of(amount()), tax in option::of(amount()), gift_card in option::of(any::<bool>()),
        ) -> Item<'static> {
            Item {
                sku, qty, price, line_id, variant_id: None, product_id: None, vendor: title.clone(), title, current_qty,
                discount, tax, gift_card, tip: gift_card, variant_title: None, taxable: gift_card, requires_shipping: None,
                fulfillable_qty: current_qty, properties: Vec::new(),
            }
        }
    }

    prop_compose! {
        fn refund_line()(line_id in option::of(id()), qty in 0..1000_i64, subtotal in option::of(amount()),
                         tax in option::of(amount()), restock_type in option::of(text()),
                         gift_card in option::of(any::<bool>())) -> RefundLine<'static> {
            RefundLine { line_id, qty, subtotal, tax, restock_type, location_id: None, gift_card }
        }
    }

    prop_compose! {
        fn transaction()(transaction_id in id(), parent_id in option::of(id()), kind in option::of(text()),
                         amount in option::of(amount()), currency in option::of(text()),
                         processed_at in option::of(timestamp()), test in option::of(any::<bool>())) -> Transaction<'static> {
            Transaction {
                transaction_id, parent_id, status: kind.clone(), gateway: currency.clone(), kind, amount, currency,
                paid_amount: amount, paid_currency: None, processed_at, test,
            }
        }
    }

    prop_compose! {
        fn details()(gateways in prop::collection::vec(text(), 0..3), locale in option::of(text()),
                     weight in option::of(any::<i64>()), line_id in option::of(id()), rate in option::of(amount()),
                     at in option::of(timestamp()), name in text()) -> Details<'static> {
            let tax = TaxLine { line_id, title: locale.clone(), rate, amount: rate, ..TaxLine::default() };
            let created_at = at.map(|at| at.instant().into());
            let utm = Utm { source: Some(name.clone()), ..Utm::default() };
            Details {
                tags: gateways.clone(), gateways, locale, weight, utm: Some(utm), tax_lines: vec![tax],
                discounts: vec![Discount { value: rate, ..Discount::default() }],
                fulfillments: vec![Fulfillment { created_at, ..Fulfillment::default() }],
                note_attributes: vec![Attribute { name, value: None }],
            }
        }
    }

    prop_compose! {
        fn refund()(refund_id in id(), processed_at in option::of(timestamp()), amount in amount(),
                    pending_amount in option::of(amount()), tax in option::of(amount()), currency in option::of(text()),
                    lines in option::of(prop::collection::vec(refund_line(), 0..3)), shipping in option::of(amount()),
                    adjustments in option::of(amount()),
                    transactions in prop::collection::vec(transaction(), 0..2)) -> Refund<'static> {
            Refund {
                refund_id, processed_at, amount, pending_amount, tax, currency, lines, shipping, shipping_tax: tax,
                duties: pending_amount, adjustments, adjustments_tax: adjustments, transactions,
            }
        }
    }

    prop_compose! {
        fn shipping_line()(line_id in option::of(id()), title in option::of(text()), price in option::of(amount()),
                           tax in option::of(amount()), removed in option::of(any::<bool>())) -> ShippingLine<'static> {
            ShippingLine { line_id, code: title.clone(), title, source: None, price, discounted_price: price, tax, removed }
        }
    }

    prop_compose! {
        fn edit()(edit_id in option::of(id()), committed_at in option::of(timestamp()),
                  additions in prop::collection::vec((id(), 1..1000_i64), 0..3)) -> OrderEdit<'static> {
            let additions = additions.into_iter().map(|(line_id, qty)| AddedLine { line_id, qty }).collect();
            OrderEdit { edit_id, committed_at, additions }
        }
    }

    prop_compose! {
        fn event()(
            event_type in "[a-z_]{1,10}\\.[a-z]{1,10}", event_id in "[ -~]{1,128}", timestamp in timestamp(),
            order_id in id(), customer_id in option::of(id()), total_amount in option::of(amount()),
            currency in option::of(text()), items in option::of(prop::collection::vec(item(), 0..4)),
            updated_at in option::of(timestamp()), financial_status in option::of(text()),
            subtotal in option::of(amount()), test in option::of(any::<bool>()),
            refunds in option::of(prop::collection::vec(refund(), 0..3)), edit in option::of(edit()),
            shipping_lines in option::of(prop::collection::vec(shipping_line(), 0..3)),
            transactions in prop::collection::vec(transaction(), 0..3), details in option::of(details()),
        ) -> OrderEvent<'static> {
            OrderEvent {
                event_type: event_type.into(), event_id: event_id.into(), timestamp, order_id, customer_id,
                total_amount, currency, items, updated_at, financial_status, subtotal, test, refunds,
                taxes_included: test, current_total_amount: total_amount, total_tip: subtotal, total_duties: total_amount,
                total_fees: subtotal, shipping_lines, edit, transactions, details, ..OrderEvent::default()
            }
        }
    }

    proptest! {
        #[test]
        fn an_entry_survives_encode_and_decode(
            event in event(),
            source in option::of(text()), shop in option::of(text()), triggered_at in option::of(timestamp()),
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let provenance = Provenance {
                source,
                shop,
                triggered_at: triggered_at.as_ref().map(|at| at.as_str().to_owned().into()),
                ..Provenance::default()
            };
            let fields = encode(&event, &provenance, Some(Raw::whole(&body).unwrap())).unwrap();
            let entry = Entry { id: StreamId::new(5, 0), fields };
            let record = decode(&entry).unwrap();
            prop_assert_eq!(&record.event, &event);
            prop_assert_eq!(&record.provenance, &provenance);
            prop_assert_eq!(record.triggered_at, triggered_at.map(|at| at.instant()));
            prop_assert_eq!(zstd::bulk::decompress(record.raw.as_deref().unwrap(), 200).unwrap(), body);
            // Digits too, which comparing decimals would not see.
            prop_assert_eq!(serde_json::to_string(&record.event).unwrap(), record.payload);
        }
    }
}
