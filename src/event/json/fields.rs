//! The names of a struct's fields, as its `Deserialize` has them.

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// The names of the fields that `T` reads from a JSON object.
pub(crate) fn fields<'a, T: Deserialize<'a>>() -> &'static [&'static str] {
    let mut names: &[&str] = &[];
    // It fails as soon as it has been asked for the fields.
    drop(T::deserialize(FieldNames(&mut names)));
    names
}

struct FieldNames<'n>(&'n mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{
        AddedLine, Details, Discount, Fulfillment, Item, OrderEdit, OrderEvent, Refund, RefundLine, Sale, ShippingLine,
        TaxLine, Transaction, Utm,
    };

    #[test]
    fn a_struct_has_the_names_of_its_fields() {
        let names = fields::<OrderEvent<'static>>();
        assert!(names.contains(&"items") && names.contains(&"details"));
    }

    #[test]
    fn fields_of_an_event_stand_in_the_order_of_jsonb() {
        for names in [
            fields::<OrderEvent<'static>>(),
            fields::<Item<'static>>(),
            fields::<Sale<'static>>(),
            fields::<ShippingLine<'static>>(),
            fields::<OrderEdit<'static>>(),
            fields::<AddedLine<'static>>(),
            fields::<Details<'static>>(),
            fields::<Utm<'static>>(),
            fields::<Discount<'static>>(),
            fields::<TaxLine<'static>>(),
            fields::<Fulfillment<'static>>(),
            fields::<Refund<'static>>(),
            fields::<RefundLine<'static>>(),
            fields::<Transaction<'static>>(),
        ] {
            assert!(names.is_sorted_by_key(|name| (name.len(), *name)), "{names:?}");
        }
    }
}
