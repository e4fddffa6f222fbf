//! `DATABASE_URL` as people have it: Heroku, Fly, Neon, RDS, a socket's folder.
//!
//! Owns what a URL means; libpq's meaning wherever the driver's is narrower (`sslmode`,
//! `sslrootcert`). Pure but for reading the CA file. Invariant: no error text repeats any part of
//! the URL that could be a password's.

use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use tokio_postgres::config::{Config, Host, SslMode as DriverMode, SslNegotiation};

use super::tls::{self, Roots, SslMode};
/// Parameters that the driver takes as they are.
const DRIVER_PARAMETERS: [&str; 18] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

/// And those that only libpq knows. No other name is ever shown: it may be the end of a password.
const LIBPQ_PARAMETERS: [&str; 26] = [
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "max_protocol_version",
    "min_protocol_version",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslpassword",
];

/// A server, and how to reach it.
pub(crate) struct Target {
    config: Config,
    tls: Arc<ClientConfig>,
    second_try: Option<DriverMode>,
    server: String,
}

impl Target {
    /// Reads the URL, and the CA file that it names.
    pub(crate) fn parse(url: &str, connect_timeout: Duration) -> Result<Self, InvalidUrl> {
        let mut parts = UrlParts::split(url.trim()).map_err(InvalidUrl)?;
        let mode = parts.take("sslmode").map(|mode| SslMode::parse(&mode)).transpose();
        let roots = parts.take("sslrootcert").map(Roots::parse);
        let mut config = parts.driver_config().map_err(InvalidUrl)?;
        let (mut mode, roots) = tls::agree(mode.map_err(InvalidUrl)?, roots).map_err(InvalidUrl)?;
        if config.get_hosts().is_empty() {
            if mode != SslMode::Disable {
                return Err(InvalidUrl(
                    "it has a hostaddr but no host, and sslmode needs one: add host=, or sslmode=disable".into(),
                ));
            }
        } else if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
            // As libpq: there is no wire to listen on.
            mode = SslMode::Disable;
        }
        let direct = config.get_ssl_negotiation() == SslNegotiation::Direct;
        let (first, second_try) = mode.tries();
        config.ssl_mode(first);
        bound(&mut config, connect_timeout);
        Ok(Self {
            tls: Arc::new(tls::client_config(mode, &roots, direct).map_err(InvalidUrl)?),
            second_try,
            server: describe(&config),
            config,
        })
    }

    /// What the driver is given.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// How it does TLS.
    pub(crate) fn tls(&self) -> &Arc<ClientConfig> {
        &self.tls
    }

    /// The other way that `sslmode` allows.
    pub(crate) fn second_try(&self) -> Option<DriverMode> {
        self.second_try
    }

    /// `host:port/database`, without credentials.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// The role it logs in as.
    pub(crate) fn role(&self) -> Option<&str> {
        self.config.get_user()
    }
}

/// What is wrong with a URL, in words without any part of it that could be a password's.
#[derive(Debug, thiserror::Error)]
#[error("database URL: {0}")]
pub(crate) struct InvalidUrl(String);

/// A URL in its parts, each still percent-encoded.
struct UrlParts<'a> {
    /// Scheme to path.
    base: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> UrlParts<'a> {
    fn split(url: &'a str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or("it must start with postgres:// or postgresql://")?;
        check_encoding(rest)?;
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let parameters = query.split('&').filter(|part| !part.is_empty());
        let parameters = parameters.map(|part| part.split_once('=').ok_or("a parameter has no `=`"));
        Ok(Self {
            base,
            parameters: parameters.collect::<Result<_, _>>()?,
        })
    }

    /// Takes a parameter out, decoded; of several the last stands.
    fn take(&mut self, name: &str) -> Option<String> {
        let values = self.parameters.iter().rev();
        let value = values.copied().find(|(key, _)| *key == name).map(|(_, value)| value)?;
        self.parameters.retain(|(key, _)| *key != name);
        Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
    }

    fn driver_config(&self) -> Result<Config, String> {
        for (key, _) in &self.parameters {
            if !DRIVER_PARAMETERS.contains(key) {
                let which = LIBPQ_PARAMETERS.iter().find(|known| *known == key);
                return Err(which.map_or_else(
                    || "it has a parameter that is not supported; take it out".into(),
                    |key| format!("the parameter `{key}` is not supported; take it out"),
                ));
            }
        }
        let query: Vec<String> = self
            .parameters
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let config: Config =
            format!("{}?{}", self.base, query.join("&"))
                .parse()
                .map_err(|error: tokio_postgres::Error| {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    cause.unwrap_or_else(|| error.to_string())
                })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("it names no host; for a unix socket add ?host=/folder/of/the/socket".into());
        }
        if config.get_user().is_none() {
            return Err("it names no user".into());
        }
        Ok(config)
    }
}

/// Finds credentials that were pasted in without encoding, which would silently become something
/// else.
fn check_encoding(rest: &str) -> Result<(), String> {
    const WHERE: &str = "in the user or the password";
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(authority_end);
    let place = |c: char| format!("a bare `{c}` {WHERE} must be written %{:02X}", u32::from(c));
    if authority.matches('@').count() > 1 {
        return Err(place('@'));
    }
    let path = behind.split('?').next().unwrap_or_default();
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let no_port = port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit() || b == b','));
    if !authority.contains('@') && (path.contains('@') || (behind.contains('@') && no_port)) {
        return Err(place(behind.chars().next().unwrap_or('/')));
    }
    if let Some((credentials, _)) = authority.rsplit_once('@') {
        if let Some(c) = credentials.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(place(c));
        }
        let escapes = credentials.split('%').skip(1);
        let is_escape = |text: &str| text.len() >= 2 && text.bytes().take(2).all(|b| b.is_ascii_hexdigit());
        if !escapes.into_iter().all(is_escape) {
            return Err(place('%'));
        }
    }
    Ok(())
}

/// Notices a peer that is gone, also while nothing is sent.
fn bound(config: &mut Config, connect_timeout: Duration) {
    if config.get_application_name().is_none() {
        config.application_name("orderstream");
    }
    config
        .connect_timeout(connect_timeout)
        .tcp_user_timeout(Duration::from_secs(20))
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(15))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3);
}

fn describe(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |n: usize| ports.get(n).or(ports.first()).copied().unwrap_or(5432);
    let hosts: Vec<String> = match config.get_hosts() {
        [] => (0..)
            .zip(config.get_hostaddrs())
            .map(|(n, addr)| format!("{addr}:{}", port(n)))
            .collect(),
        hosts => (0..)
            .zip(hosts)
            .map(|(n, host)| match host {
                Host::Tcp(name) => format!("{name}:{}", port(n)),
                Host::Unix(folder) => format!("{}/.s.PGSQL.{}", folder.display(), port(n)),
            })
            .collect(),
    };
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("{}/{database}", hosts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, String> {
        Target::parse(url, Duration::from_secs(5)).map_err(|error| error.to_string())
    }

    #[test]
    fn urls_as_hosters_write_them_are_understood() {
        for (url, server, first, second) in [
            (
                "postgres://u:p@ec2-1-2-3-4.compute-1.amazonaws.com:5432/d1",
                "ec2-1-2-3-4.compute-1.amazonaws.com:5432/d1",
                DriverMode::Prefer,
                Some(DriverMode::Disable),
            ),
            (
                "postgres://app:p@top2.nearest.of.app-db.internal:5432/app?sslmode=disable",
                "top2.nearest.of.app-db.internal:5432/app",
                DriverMode::Disable,
                None,
            ),
            (
                "postgresql://u:p@ep-cool-1-pooler.eu-central-1.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
                "ep-cool-1-pooler.eu-central-1.aws.neon.tech:5432/neondb",
                DriverMode::Require,
                None,
            ),
            (
                "postgres://u:p@db.rds.amazonaws.com/app?sslmode=verify-full&sslrootcert=system",
                "db.rds.amazonaws.com:5432/app",
                DriverMode::Require,
                None,
            ),
            (
                "postgres://u@/app?host=/run/postgresql&port=5433&sslmode=require",
                "/run/postgresql/.s.PGSQL.5433/app",
                DriverMode::Disable,
                None,
            ),
            (
                "postgres://u:p@%2Frun%2Fpostgresql/app",
                "/run/postgresql/.s.PGSQL.5432/app",
                DriverMode::Disable,
                None,
            ),
            (
                "postgres://u@/app?hostaddr=10.0.0.1&port=5433&sslmode=disable",
                "10.0.0.1:5433/app",
                DriverMode::Disable,
                None,
            ),
            (
                "postgres://u@/app?host=db&hostaddr=10.0.0.1&sslmode=require",
                "db:5432/app",
                DriverMode::Require,
                None,
            ),
            (
                "postgres://u:p@[::1]:6543/app?sslmode=allow",
                "::1:6543/app",
                DriverMode::Disable,
                Some(DriverMode::Require),
            ),
        ] {
            let target = parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(target.server(), server, "{url}");
            assert_eq!(target.config().get_ssl_mode(), first, "{url}");
            assert_eq!(target.second_try(), second, "{url}");
            assert_eq!(target.role().map(|_| ()), Some(()), "{url}");
        }
    }

    #[test]
    fn encoded_credentials_come_out_as_they_are_meant() {
        let target = parse("postgres://a%40b:p%40ss%2Fw%3Fo%23r%25d:x@db/app").unwrap();
        assert_eq!(target.config().get_user(), Some("a@b"));
        assert_eq!(target.config().get_password(), Some(&b"p@ss/w?o#r%d:x"[..]));
    }

    #[test]
    fn what_was_not_encoded_is_named_without_being_shown() {
        for (url, hint) in [
            (
                "postgres://u:hush@hush@db/app",
                "`@` in the user or the password must be written %40",
            ),
            (
                "postgres://u:hush/hush@db/app",
                "`/` in the user or the password must be written %2F",
            ),
            (
                "postgres://u:1234/hush@db/app",
                "`/` in the user or the password must be written %2F",
            ),
            (
                "postgres://u:hush?hush@db/app",
                "`?` in the user or the password must be written %3F",
            ),
            (
                "postgres://u:hush#hush@db/app",
                "`#` in the user or the password must be written %23",
            ),
            (
                "postgres://u:hush%hush@db/app",
                "`%` in the user or the password must be written %25",
            ),
            (
                "postgres://u:hush hush@db/app",
                "` ` in the user or the password must be written %20",
            ),
            ("mysql://u:hush@db/app", "postgres://"),
            ("postgres://u:hush@db:port/app", "port"),
            ("postgres://u:hush@db/app?sslmode=perhaps", "sslmode"),
            (
                "postgres://u:hush@db/app?sslmode=require&sslrootcert=system",
                "verify-full",
            ),
            (
                "postgres://u:hush@db/app?sslmode=verify-full&sslrootcert=/nowhere/ca.pem",
                "/nowhere/ca.pem",
            ),
            ("postgres://u:hush@db/app?sslcert=client.pem", "`sslcert`"),
            (
                "postgres://u@db/app?password=1&hush=2",
                "a parameter that is not supported",
            ),
            ("postgres://u@/app?hostaddr=10.0.0.1", "sslmode needs one"),
            (
                "postgres://u@/app?hostaddr=10.0.0.1&sslmode=verify-full",
                "sslmode needs one",
            ),
            ("postgres://db/app", "no user"),
            ("postgres://u:hush@/app", "no host"),
        ] {
            let error = parse(url).err().unwrap_or_else(|| panic!("{url} was taken"));
            assert!(error.contains(hint), "{url}: {error}");
            assert!(!error.contains("hush"), "{url}: {error}");
        }
    }
}
