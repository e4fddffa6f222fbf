//! JSON objects within a request. A derived struct also reads an array, by position: here it must
//! not.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// For `deserialize_with`: an object or null.
pub(crate) fn or_null<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let object = Option::<Map<String, Value>>::deserialize(deserializer)?;
    object
        .map(|object| serde_json::from_value(Value::Object(object)).map_err(D::Error::custom))
        .transpose()
}
