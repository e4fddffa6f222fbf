//! What themes and apps put onto orders and lines under names of their own: kept only where a
//! merchant asks for the name.
//!
//! Owns the choice. Such texts hold anything that a customer was asked for, so that none is kept by
//! default, and they are read apart from the rest of the body.

use serde::Deserialize;

use super::tolerant::{self, LossyText, short};
use crate::event::{Attribute, Details, OrderEvent, Text, json};

/// Names that are kept, as themes and apps write them.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeptNames<'n> {
    /// Of `note_attributes`.
    pub note_attributes: &'n [String],
    /// Of lines' `properties`.
    pub line_properties: &'n [String],
}

#[derive(Debug, Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "tolerant::list")]
    note_attributes: Vec<AttributeBody<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::list")]
    line_items: Vec<LineBody<'a>>,
}

#[derive(Debug, Deserialize)]
struct LineBody<'a> {
    #[serde(borrow, default, deserialize_with = "tolerant::list")]
    properties: Vec<AttributeBody<'a>>,
}

#[derive(Debug, Deserialize)]
struct AttributeBody<'a> {
    #[serde(borrow)]
    name: LossyText<'a>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    value: Option<LossyText<'a>>,
}

/// Adds what is to be kept to the event of that body.
pub fn keep_attributes<'a>(body: &'a [u8], kept: KeptNames<'_>, event: &mut OrderEvent<'a>) {
    if !event.is_whole() || (kept.note_attributes.is_empty() && kept.line_properties.is_empty()) {
        return;
    }
    let Ok(body) = json::parse::<Body<'a>>(body) else {
        return;
    };
    let noted = chosen(body.note_attributes, kept.note_attributes);
    if !noted.is_empty() {
        event.details.get_or_insert_with(Details::default).note_attributes = noted;
    }
    for (item, line) in event.items.iter_mut().flatten().zip(body.line_items) {
        item.properties = chosen(line.properties, kept.line_properties);
    }
}

fn chosen<'a>(attributes: Vec<AttributeBody<'a>>, names: &[String]) -> Vec<Attribute<'a>> {
    let chosen = attributes
        .into_iter()
        .filter(|one| names.iter().any(|name| *name == one.name.0));
    chosen
        .map(|AttributeBody { name, value }| Attribute {
            name: Text::from(name),
            value: short(value),
        })
        .collect()
}
