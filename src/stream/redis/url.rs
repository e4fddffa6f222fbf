//! `REDIS_URL`: what each of its forms means.
//!
//! Owns the grammar. Pure but for reading the CA file. Invariant: no error text repeats a part of
//! the URL that could be a password.

use std::path::Path;

use percent_encoding::percent_decode_str;
use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates};

use crate::stream::StreamError;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What a URL leads to.
pub(super) enum RedisUrl {
    /// One server, or what acts as one.
    Fixed(ConnectionInfo),
    /// The primary that sentinels name.
    Sentinel(SentinelUrl),
    /// The primaries of a cluster.
    Cluster(ClusterUrl),
}

/// `redis+cluster://[user:pass@]host[:6379][,host...]`
pub(super) struct ClusterUrl {
    /// Nodes that are asked for the others.
    pub(super) seeds: Vec<ConnectionInfo>,
    /// Credentials and TLS of all nodes; its address has no meaning.
    pub(super) server: ConnectionInfo,
}

/// `redis+sentinel://[user:pass@]host[:26379][,host...]/NAME[/DB][?sentinel_username=..&sentinel_password=..]`
pub(super) struct SentinelUrl {
    pub(super) sentinels: Vec<ConnectionInfo>,
    /// By which the sentinels know the primary.
    pub(super) name: String,
    /// Credentials, database and TLS of the servers that they name; its address has no meaning.
    pub(super) server: ConnectionInfo,
}

impl RedisUrl {
    /// # Errors
    /// [`StreamError::Unusable`].
    pub(super) fn parse(url: &str, ca_file: Option<&Path>) -> Result<Self, StreamError> {
        match url.split_once("://") {
            Some(("redis+sentinel", rest)) => Ok(Self::Sentinel(sentinel_url(rest, None)?)),
            Some(("rediss+sentinel", rest)) => Ok(Self::Sentinel(sentinel_url(rest, Some(ca_file))?)),
            Some(("redis+cluster", rest)) => Ok(Self::Cluster(cluster_url(rest, None)?)),
            Some(("rediss+cluster", rest)) => Ok(Self::Cluster(cluster_url(rest, Some(ca_file))?)),
            _ => {
                let info = url
                    .into_connection_info()
                    .map_err(|error| unusable(&error.to_string()))?;
                Ok(Self::Fixed(with_tls(info, ca_file)?))
            }
        }
    }
}

/// The way to that server, with the credentials and TLS of this one.
pub(super) fn server_at(server: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    let mut addr = server.addr().clone();
    if let ConnectionAddr::Tcp(to, at) | ConnectionAddr::TcpTls { host: to, port: at, .. } = &mut addr {
        (*to, *at) = (host.to_owned(), port);
    }
    server.clone().set_addr(addr)
}

fn unusable(problem: &str) -> StreamError {
    StreamError::Unusable(format!("REDIS_URL: {problem}"))
}

/// Parts of a URL of several hosts.
struct HostsUrl<'a> {
    user: String,
    password: String,
    hosts: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> HostsUrl<'a> {
    fn of(rest: &'a str) -> Result<Self, StreamError> {
        if rest.contains('#') {
            return Err(unusable(
                "a `#` begins a fragment, which means nothing here: write %23 in a password",
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        Ok(Self {
            user: decoded(user)?,
            password: decoded(password)?,
            hosts,
            path: path.trim_end_matches('/'),
            query,
        })
    }

    /// Ways to each of its hosts.
    fn connections(
        &self,
        usual_port: u16,
        settings: &RedisConnectionInfo,
        tls: Option<Option<&Path>>,
    ) -> Result<Vec<ConnectionInfo>, StreamError> {
        let each = self.hosts.split(',').map(|host| {
            let (host, port) = host_and_port(host, usual_port)?;
            connection(host, port, settings.clone(), tls)
        });
        each.collect()
    }
}

/// `tls`: the CA file, where the connections are encrypted.
fn cluster_url(rest: &str, tls: Option<Option<&Path>>) -> Result<ClusterUrl, StreamError> {
    let url = HostsUrl::of(rest)?;
    if !matches!(url.path, "" | "0") {
        return Err(unusable("a cluster has one database, 0: nothing may follow the hosts"));
    }
    if !url.query.is_empty() {
        return Err(unusable("it has a parameter, and a cluster's URL takes none"));
    }
    let settings = settings(&url.user, &url.password);
    Ok(ClusterUrl {
        seeds: url.connections(REDIS_PORT, &settings, tls)?,
        server: connection(String::new(), REDIS_PORT, settings, tls)?,
    })
}

/// `tls`: the CA file, where the connections are encrypted.
fn sentinel_url(rest: &str, tls: Option<Option<&Path>>) -> Result<SentinelUrl, StreamError> {
    let url = HostsUrl::of(rest)?;
    let (name, database) = url.path.split_once('/').unwrap_or((url.path, "0"));
    let name = decoded(name)?;
    if name.is_empty() {
        return Err(unusable(
            "the name of the primary is missing: redis+sentinel://host:26379,host:26379/NAME",
        ));
    }
    let database = database
        .parse()
        .map_err(|_| unusable("what follows the name of the primary is no number of a database"))?;
    let (mut sentinel_user, mut sentinel_password) = (String::new(), String::new());
    for (parameter, value) in url::form_urlencoded::parse(url.query.as_bytes()) {
        match &*parameter {
            "sentinel_username" => sentinel_user = value.into_owned(),
            "sentinel_password" => sentinel_password = value.into_owned(),
            // Not named: it may be the end of a password.
            _ => {
                return Err(unusable(
                    "it has an unknown parameter; sentinel_username and sentinel_password are known",
                ));
            }
        }
    }
    let server = settings(&url.user, &url.password).set_db(database);
    let of_sentinels = settings(&sentinel_user, &sentinel_password);
    Ok(SentinelUrl {
        sentinels: url.connections(SENTINEL_PORT, &of_sentinels, tls)?,
        name,
        server: connection(String::new(), REDIS_PORT, server, tls)?,
    })
}

fn decoded(text: &str) -> Result<String, StreamError> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| unusable("what is percent-encoded in it is not UTF-8"))?;
    Ok(decoded.into_owned())
}

fn settings(user: &str, password: &str) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default();
    if !user.is_empty() {
        settings = settings.set_username(user);
    }
    if !password.is_empty() {
        settings = settings.set_password(password);
    }
    settings
}

/// `host`, `host:port`, `[::1]:port`.
fn host_and_port(text: &str, usual: u16) -> Result<(String, u16), StreamError> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or(rest))),
        None => text
            .split_once(':')
            .map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(usual), |port| port.parse().ok().filter(|port| *port > 0));
    match port {
        Some(port) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(unusable(
            "one of its hosts is not written as host, host:port or [address]:port",
        )),
    }
}

fn connection(
    host: String,
    port: u16,
    settings: RedisConnectionInfo,
    tls: Option<Option<&Path>>,
) -> Result<ConnectionInfo, StreamError> {
    let addr = match tls {
        None => ConnectionAddr::Tcp(host, port),
        Some(_) => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
    };
    let info = addr
        .into_connection_info()
        .map_err(|error| unusable(&error.to_string()))?;
    with_tls(info.set_redis_settings(settings), tls.flatten())
}

/// With the CA, where it is encrypted.
fn with_tls(info: ConnectionInfo, ca_file: Option<&Path>) -> Result<ConnectionInfo, StreamError> {
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return Ok(info);
    }
    // Fails only where a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(path) = ca_file else {
        return Ok(info);
    };
    let problem =
        |error: &dyn std::fmt::Display| StreamError::Unusable(format!("CA file {} of Redis: {error}", path.display()));
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(std::fs::read(path).map_err(|error| problem(&error))?),
    };
    Client::build_with_tls(info, certificates)
        .map(|client| client.get_connection_info().clone())
        .map_err(|error| problem(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(url: &str) -> ConnectionInfo {
        match RedisUrl::parse(url, None).unwrap() {
            RedisUrl::Fixed(info) => info,
            RedisUrl::Sentinel(_) | RedisUrl::Cluster(_) => panic!("{url} names one server"),
        }
    }

    fn sentinel(url: &str) -> SentinelUrl {
        match RedisUrl::parse(url, None).unwrap() {
            RedisUrl::Sentinel(url) => url,
            RedisUrl::Fixed(_) | RedisUrl::Cluster(_) => panic!("{url} is a URL of sentinels"),
        }
    }

    fn cluster(url: &str) -> ClusterUrl {
        match RedisUrl::parse(url, None).unwrap() {
            RedisUrl::Cluster(url) => url,
            RedisUrl::Fixed(_) | RedisUrl::Sentinel(_) => panic!("{url} is a URL of a cluster"),
        }
    }

    fn addresses(infos: &[ConnectionInfo]) -> Vec<String> {
        infos.iter().map(|info| info.addr().to_string()).collect()
    }

    #[test]
    fn urls_are_read_as_operators_write_them() {
        let info = fixed("redis://app:p%40ss%2Fw%23rd@db.example:6380/3");
        assert_eq!(info.addr().to_string(), "db.example:6380");
        assert_eq!(info.redis_settings().username(), Some("app"));
        assert_eq!(info.redis_settings().password(), Some("p@ss/w#rd"));
        assert_eq!(info.redis_settings().db(), 3);
        assert!(info.tcp_settings().nodelay());
        for url in ["unix:///run/redis.sock?db=2", "redis+unix:///run/redis.sock?db=2"] {
            let info = fixed(url);
            assert_eq!(info.addr().to_string(), "/run/redis.sock");
            assert_eq!(info.redis_settings().db(), 2);
        }
        let info = fixed("rediss://:secret@[::1]");
        assert!(matches!(info.addr(), ConnectionAddr::TcpTls { port: 6379, .. }));
    }

    #[test]
    fn sentinels_have_credentials_of_their_own() {
        let url = sentinel(
            "redis+sentinel://app:p%40ss%3F@a,b.example:26380,[::1]:26381/my%2Fshop/2?sentinel_username=watch&sentinel_password=w%26tch",
        );
        assert_eq!(addresses(&url.sentinels), ["a:26379", "b.example:26380", "::1:26381"]);
        for sentinel in &url.sentinels {
            assert_eq!(sentinel.redis_settings().username(), Some("watch"));
            assert_eq!(sentinel.redis_settings().password(), Some("w&tch"));
            assert_eq!(sentinel.redis_settings().db(), 0);
        }
        assert_eq!(url.name, "my/shop");
        let server = server_at(&url.server, "10.0.0.7", 6380);
        assert_eq!(server.addr().to_string(), "10.0.0.7:6380");
        assert_eq!(server.redis_settings().username(), Some("app"));
        assert_eq!(server.redis_settings().password(), Some("p@ss?"));
        assert_eq!(server.redis_settings().db(), 2);
        assert!(server.tcp_settings().nodelay());

        let url = sentinel("redis+sentinel://:only@a/shop/");
        assert_eq!(url.server.redis_settings().username(), None);
        assert_eq!(url.server.redis_settings().password(), Some("only"));
        assert_eq!(url.sentinels[0].redis_settings().password(), None);
        let url = sentinel("rediss+sentinel://a:1/shop");
        let of_server = server_at(&url.server, "db", 2);
        for addr in [url.sentinels[0].addr(), of_server.addr()] {
            assert!(matches!(addr, ConnectionAddr::TcpTls { insecure: false, .. }));
        }
    }

    #[test]
    fn a_cluster_has_seeds_and_one_database() {
        let url = cluster("redis+cluster://app:p%40ss@a,b.example:7001,[::1]:7002/0");
        assert_eq!(addresses(&url.seeds), ["a:6379", "b.example:7001", "::1:7002"]);
        let node = server_at(&url.server, "10.0.0.7", 7003);
        assert_eq!(node.addr().to_string(), "10.0.0.7:7003");
        for info in [&url.seeds[1], &node] {
            assert_eq!(info.redis_settings().username(), Some("app"));
            assert_eq!(info.redis_settings().password(), Some("p@ss"));
            assert_eq!(info.redis_settings().db(), 0);
        }
        let url = cluster("rediss+cluster://config.example");
        let node = server_at(&url.server, "db", 2);
        for addr in [url.seeds[0].addr(), node.addr()] {
            assert!(matches!(addr, ConnectionAddr::TcpTls { insecure: false, .. }));
        }
    }

    #[test]
    fn an_unusable_url_is_explained_without_its_password() {
        for url in [
            "redis+cluster://:hush@a:1/1",
            "redis+cluster://:hush@a:port",
            "redis+cluster://:hush@a,",
            "rediss+cluster://:hush@a?hush=1",
            "rediss+cluster://:hu#sh@a",
            "redis+sentinel://:hush@a:1",
            "redis+sentinel://:hush@a:1/",
            "redis+sentinel://:hush@a:port/shop",
            "redis+sentinel://:hush@a,,b/shop",
            "redis+sentinel://:hush@/shop",
            "redis+sentinel://:hush@a/shop/hush",
            "redis+sentinel://:hush@a/shop?hush=1",
            "redis+sentinel://:hu#sh@a/shop",
            "redis+sentinel://:hush%ff@a/shop",
            "redis://:hush@a:notaport",
            "redis://:hush@a/notadb",
            "http://:hush@a",
            "",
        ] {
            let error = RedisUrl::parse(url, None).err().unwrap();
            assert!(matches!(error, StreamError::Unusable(_)), "{url}");
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
}
