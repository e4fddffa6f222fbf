//! The schema that holds everything, as a name that is safe to write into a statement.

use crate::warehouse::WarehouseError;

/// A checked schema name.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    name: String,
    quoted: String,
}

impl Schema {
    /// Takes lower-case letters, digits and `_`, at most 63 bytes: what needs no quotes in an
    /// analyst's query either.
    pub(super) fn new(name: &str) -> Result<Self, WarehouseError> {
        let plain = name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !plain {
            return Err(WarehouseError::Unusable(
                "the schema's name must be at most 63 lower-case letters, digits and underscores".into(),
            ));
        }
        if name == "public" || name == "information_schema" || name.starts_with("pg_") {
            return Err(WarehouseError::Unusable(format!(
                "the schema must be one of its own, not `{name}`, where other programs have their tables"
            )));
        }
        Ok(Self {
            name: name.to_owned(),
            quoted: format!("\"{name}\""),
        })
    }

    /// The bare name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A statement with `{schema}` and `{elements}` replaced.
    pub(super) fn sql(&self, template: &str) -> String {
        let sql = template.replace("{schema}", &self.quoted);
        sql.replace("{elements}", "json_array_elements($1::json) AS e(value)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_name_of_its_own_is_taken() {
        for good in ["orderstream", "_x", "shop_2", &"a".repeat(63)] {
            assert!(Schema::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "Shop",
            "2shop",
            "a b",
            "a\"b",
            "é",
            "public",
            "pg_temp",
            &"a".repeat(64),
        ] {
            assert!(Schema::new(bad).is_err(), "{bad}");
        }
    }
}
