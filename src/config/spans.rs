//! Whether spans are exported, by the standard `OTEL_*` variables.
//!
//! Owns that question and the warnings about it; what else these variables say is OpenTelemetry's
//! SDK to follow. Pure. Invariant: tracing is never a reason not to start.

use std::collections::BTreeMap;

/// Either one asks for an exporter.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const PROTOCOL: &str = "http/protobuf";

/// Whether a collector is configured that this build can reach; a sentence where one is and it
/// cannot.
pub(super) fn exported(env: &BTreeMap<String, String>) -> (bool, Option<String>) {
    let first = |names: &[&'static str]| {
        names
            .iter()
            .find_map(|name| given(env, name).map(|value| (*name, value)))
    };
    let is_off = given(env, "OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || given(env, "OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter != "otlp");
    let Some((endpoint, _)) = first(&ENDPOINTS).filter(|_| !is_off) else {
        return (false, None);
    };
    if !cfg!(feature = "otel") {
        let why = format!("{endpoint} has no effect: this program was built without the feature `otel`");
        return (false, Some(why));
    }
    match first(&PROTOCOLS) {
        Some((name, protocol)) if protocol != PROTOCOL => {
            let why =
                format!("there are no spans: {name} names a protocol other than {PROTOCOL}, usually on port 4318");
            (false, Some(why))
        }
        Some(_) | None => (true, None),
    }
}

/// Empty is as good as unset, as OpenTelemetry has it.
fn given<'a>(env: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    env.get(name)
        .map(|value| value.trim())
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> (bool, Option<String>) {
        let env = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        exported(&env.collect())
    }

    const HERE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");

    #[test]
    fn nothing_is_exported_unless_an_endpoint_asks_for_it() {
        for pairs in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "orders")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[HERE, ("OTEL_SDK_DISABLED", "True")],
            &[HERE, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert_eq!(asked(pairs), (false, None), "{pairs:?}");
        }
    }

    #[cfg(feature = "otel")]
    #[test]
    fn an_endpoint_over_http_is_exported_to_and_another_protocol_is_warned_of() {
        for pairs in [
            &[HERE][..],
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost:4318/v1/traces")],
            &[HERE, ("OTEL_SDK_DISABLED", "false"), ("OTEL_TRACES_EXPORTER", "otlp")],
            &[HERE, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")],
        ] {
            assert_eq!(asked(pairs), (true, None), "{pairs:?}");
        }
        let (exports, warning) = asked(&[HERE, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        assert!(!exports);
        assert!(warning.unwrap().contains("OTEL_EXPORTER_OTLP_PROTOCOL"));
    }

    #[cfg(not(feature = "otel"))]
    #[test]
    fn an_endpoint_without_the_feature_is_warned_of() {
        let (exports, warning) = asked(&[HERE]);
        assert!(!exports);
        assert!(warning.unwrap().contains("feature `otel`"));
    }
}
