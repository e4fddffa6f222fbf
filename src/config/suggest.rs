//! Unknown names of settings: almost always a typo, which would silently be a default.

use std::collections::BTreeMap;

use super::settings::ALL;

const PREFIX: &str = "ORDERSTREAM_";
/// Least similarity (Jaro-Winkler, 0 to 1) of a name that is worth suggesting.
const SIMILAR: f64 = 0.85;

/// One sentence for each unknown `ORDERSTREAM_*` name, with the most similar known one.
pub(super) fn names(env: &BTreeMap<String, String>) -> Vec<String> {
    let known = Vec::from_iter(known());
    env.keys()
        .filter(|name| name.starts_with(PREFIX) && !known.contains(name) && !is_service_link(name, env))
        .map(|name| match similar(name) {
            Some(meant) => format!("{name} is not a setting and has no effect; did you mean {meant}?"),
            None => format!("{name} is not a setting and has no effect"),
        })
        .collect()
}

/// Every name that a value may have.
pub(super) fn known() -> impl Iterator<Item = String> {
    let names = ALL
        .iter()
        .flat_map(|setting| [Some(setting.name.to_owned()), setting.file_variable()]);
    names.flatten()
}

/// The known name that is most similar, also to one that is written as a flag is.
pub(super) fn similar(name: &str) -> Option<String> {
    let name = name.trim_start_matches('-').to_ascii_uppercase().replace('-', "_");
    let (similarity, best) = known()
        .map(|known| (strsim::jaro_winkler(tail(&name), tail(&known)), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    (similarity >= SIMILAR).then_some(best)
}

/// What is compared: the prefix is common to nearly all and would make everything similar.
fn tail(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// Kubernetes puts the address of every service of the namespace into the environment: for a
/// service `orderstream`, and for each `orderstream-x`, whose names only count where the service's
/// host stands beside them.
fn is_service_link(name: &str, env: &BTreeMap<String, String>) -> bool {
    let services = name.match_indices('_').map(|(at, _)| name.split_at(at));
    services.into_iter().any(|(service, rest)| {
        let ours = service == "ORDERSTREAM" || env.contains_key(&format!("{service}_SERVICE_HOST"));
        ours && is_link_suffix(rest)
    })
}

/// `_SERVICE_HOST`, `_SERVICE_PORT`, `_SERVICE_PORT_HTTP`, `_PORT`, `_PORT_8080_TCP`,
/// `_PORT_8080_TCP_ADDR`.
fn is_link_suffix(rest: &str) -> bool {
    if rest == "_SERVICE_HOST" || rest == "_SERVICE_PORT" || rest.starts_with("_SERVICE_PORT_") || rest == "_PORT" {
        return true;
    }
    let Some((port, protocol)) = rest.strip_prefix("_PORT_").and_then(|rest| rest.split_once('_')) else {
        return false;
    };
    let (protocol, part) = protocol.split_once('_').unwrap_or((protocol, "ADDR"));
    port.bytes().all(|byte| byte.is_ascii_digit())
        && ["TCP", "UDP", "SCTP"].contains(&protocol)
        && ["PROTO", "PORT", "ADDR"].contains(&part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &[&str]) -> Vec<String> {
        names(&given.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect())
    }

    #[test]
    fn a_typo_gets_a_suggestion() {
        assert_eq!(
            of(&["ORDERSTREAM_LISTEN_ADRR"]),
            ["ORDERSTREAM_LISTEN_ADRR is not a setting and has no effect; did you mean ORDERSTREAM_LISTEN_ADDR?"]
        );
        assert_eq!(
            of(&["ORDERSTREAM_SHOPIFY_SECRET"]),
            [
                "ORDERSTREAM_SHOPIFY_SECRET is not a setting and has no effect; did you mean ORDERSTREAM_SHOPIFY_SECRETS?"
            ]
        );
        assert_eq!(
            of(&["ORDERSTREAM_REDIS_URL"])[0].split("mean ").nth(1),
            Some("REDIS_URL?")
        );
        assert_eq!(
            of(&["ORDERSTREAM_QQXX"]),
            ["ORDERSTREAM_QQXX is not a setting and has no effect"]
        );
    }

    #[test]
    fn known_and_foreign_names_are_silent() {
        assert!(
            of(&[
                "ORDERSTREAM_STREAM",
                "ORDERSTREAM_ADMIN_TOKEN_FILE",
                "PATH",
                "ORDERSTREAMX"
            ])
            .is_empty()
        );
    }

    #[test]
    fn service_links_are_silent() {
        let links = "ORDERSTREAM_SERVICE_HOST ORDERSTREAM_SERVICE_PORT ORDERSTREAM_SERVICE_PORT_HTTP ORDERSTREAM_PORT \
             ORDERSTREAM_PORT_8080_TCP ORDERSTREAM_PORT_8080_TCP_PROTO ORDERSTREAM_PORT_8080_TCP_PORT \
             ORDERSTREAM_PORT_53_UDP_ADDR ORDERSTREAM_REDIS_SERVICE_HOST ORDERSTREAM_REDIS_PORT \
             ORDERSTREAM_REDIS_PORT_6379_TCP_ADDR";
        assert!(of(&links.split_whitespace().collect::<Vec<_>>()).is_empty());
        assert_eq!(
            of(&[
                "ORDERSTREAM_ADMIN_PORT",
                "ORDERSTREAM_PORT_X_TCP",
                "ORDERSTREAM_PORT_80_TCP_X"
            ])
            .len(),
            3
        );
    }
}
