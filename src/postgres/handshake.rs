//! Opens a replication connection: host, TLS, start-up and authentication, as `sslmode` and the
//! other parameters of the URL say.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ScramSha256};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::{ChannelBinding, Host, SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_rustls::TlsConnector;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::db::rfc5912 as oid;

use super::error::SourceError;
use super::replication::{Replication, Wire, unexpected};
use super::url::Target;

impl Replication {
    /// Connects to the first host of the URL that takes it.
    ///
    /// # Errors
    /// That of the last host.
    pub(crate) async fn connect(target: &Target, within: Duration) -> Result<Self, SourceError> {
        let config = target.config();
        let ports = config.get_ports();
        let port = |n: usize| ports.get(n).or(ports.first()).copied().unwrap_or(5432);
        let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
        let mut last = None;
        for n in 0..hosts {
            let place = Place {
                host: config.get_hosts().get(n),
                address: config.get_hostaddrs().get(n).map(|ip| SocketAddr::new(*ip, port(n))),
                port: port(n),
            };
            let modes = std::iter::once(config.get_ssl_mode()).chain(target.second_try());
            for mode in modes {
                let connecting = Self::connect_to(target, &place, mode);
                let connected = tokio::time::timeout(within, connecting).await;
                match connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
                    Ok(connection) => return Ok(connection),
                    // What pg_hba.conf answers where it has a line only for the other way.
                    Err(error) if error.is_code("28000") => last = Some(error),
                    Err(error) => {
                        last = Some(error);
                        break;
                    }
                }
            }
        }
        Err(match last {
            Some(SourceError::Unreachable(why)) => SourceError::Unreachable(format!("{}: {why}", target.server())),
            Some(error) => error,
            None => SourceError::Misconfigured("the URL names no host".to_owned()),
        })
    }

    async fn connect_to(target: &Target, place: &Place<'_>, mode: SslMode) -> Result<Self, SourceError> {
        let config = target.config();
        let (wire, end_point): (Box<dyn Wire>, _) = match place.host {
            Some(Host::Unix(folder)) if place.address.is_none() => {
                let path = folder.join(format!(".s.PGSQL.{}", place.port));
                (Box::new(UnixStream::connect(path).await?), None)
            }
            host => {
                let name = match host {
                    Some(Host::Tcp(name)) => name.as_str(),
                    Some(Host::Unix(_)) | None => "",
                };
                let socket = match place.address {
                    Some(address) => TcpStream::connect(address).await?,
                    None => TcpStream::connect((name, place.port)).await?,
                };
                socket.set_nodelay(true)?;
                notice_silence(&socket, config)?;
                encrypted(target, socket, name, mode).await?
            }
        };
        let mut connection = Self {
            wire,
            received: BytesMut::with_capacity(64 * 1024),
            parameters: HashMap::new(),
        };
        connection.start_up(config, end_point).await?;
        connection.check_role_of_server(config).await?;
        Ok(connection)
    }

    async fn start_up(&mut self, config: &tokio_postgres::Config, end_point: EndPoint) -> Result<(), SourceError> {
        const SETTINGS: &str = "-c statement_timeout=0 -c idle_session_timeout=0 -c lock_timeout=30s \
                                -c wal_sender_timeout=60s -c client_min_messages=error";
        let options = match config.get_options() {
            Some(own) => format!("{SETTINGS} {own}"),
            None => SETTINGS.to_owned(),
        };
        let user = config.get_user().unwrap_or_default();
        let parameters = [
            ("user", user),
            ("database", config.get_dbname().unwrap_or(user)),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            (
                "application_name",
                config.get_application_name().unwrap_or("orderstream"),
            ),
            ("options", &options),
        ];
        let mut message = BytesMut::new();
        frontend::startup_message(parameters, &mut message)?;
        self.send(&message).await?;
        self.authenticate(config, end_point).await?;
        loop {
            let message = self.message().await?;
            if let Message::ParameterStatus(status) = &message {
                let pair = (status.name()?.to_owned(), status.value()?.to_owned());
                self.parameters.extend([pair]);
            } else if matches!(message, Message::ReadyForQuery(_)) {
                return Ok(());
            }
        }
    }

    async fn authenticate(
        &mut self,
        config: &tokio_postgres::Config,
        mut end_point: EndPoint,
    ) -> Result<(), SourceError> {
        let user = config.get_user().unwrap_or_default().as_bytes().to_owned();
        let password = || {
            let missing = || SourceError::Misconfigured("the server wants a password, and the URL has none".to_owned());
            config.get_password().ok_or_else(missing)
        };
        let mut is_bound = config.get_channel_binding() != ChannelBinding::Require;
        loop {
            let mut answer = BytesMut::new();
            let message = self.message().await?;
            if let Message::AuthenticationSasl(body) = message {
                let offered: Vec<String> = body.mechanisms().map(|name| Ok(name.to_owned())).collect()?;
                if config.get_channel_binding() == ChannelBinding::Disable {
                    end_point = None;
                }
                is_bound |= self.scram(&offered, password()?, end_point.take()).await?;
                continue;
            }
            if !is_bound {
                // What a server may ask for that passes the login on.
                let why = "channel_binding=require, and the server does not bind the login to its certificate                            (SCRAM-SHA-256-PLUS, over TLS): set its password_encryption to scram-sha-256 and the                            password anew, or take channel_binding out";
                return Err(SourceError::Misconfigured(why.to_owned()));
            }
            if matches!(message, Message::AuthenticationOk) {
                return Ok(());
            } else if matches!(message, Message::AuthenticationCleartextPassword) {
                frontend::password_message(password()?, &mut answer)?;
            } else if let Message::AuthenticationMd5Password(body) = message {
                let hash = md5_hash(&user, password()?, body.salt());
                frontend::password_message(hash.as_bytes(), &mut answer)?;
            } else {
                return Err(unexpected("another kind of authentication than a password"));
            }
            self.send(&answer).await?;
        }
    }

    /// Answers whether the login is bound to the server's certificate.
    async fn scram(&mut self, offered: &[String], password: &[u8], end_point: EndPoint) -> Result<bool, SourceError> {
        let offers = |mechanism: &str| offered.iter().any(|offer| offer == mechanism);
        let (mechanism, binding) = match end_point {
            Some(hash) if offers(sasl::SCRAM_SHA_256_PLUS) => (
                sasl::SCRAM_SHA_256_PLUS,
                sasl::ChannelBinding::tls_server_end_point(hash),
            ),
            // Says that it could have been bound, so that a server that could too notices who took its offer out.
            Some(_) => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
            None => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
        };
        if !offers(mechanism) {
            return Err(unexpected("another kind of SCRAM than SCRAM-SHA-256"));
        }
        let mut scram = ScramSha256::new(password, binding);
        let mut message = BytesMut::new();
        frontend::sasl_initial_response(mechanism, scram.message(), &mut message)?;
        self.send(&message).await?;
        let Message::AuthenticationSaslContinue(body) = self.message().await? else {
            return Err(unexpected("another answer during SCRAM"));
        };
        scram.update(body.data())?;
        message.clear();
        frontend::sasl_response(scram.message(), &mut message)?;
        self.send(&message).await?;
        let Message::AuthenticationSaslFinal(body) = self.message().await? else {
            return Err(unexpected("another answer during SCRAM"));
        };
        scram.finish(body.data())?;
        Ok(mechanism == sasl::SCRAM_SHA_256_PLUS)
    }

    /// `target_session_attrs`.
    async fn check_role_of_server(&mut self, config: &tokio_postgres::Config) -> Result<(), SourceError> {
        let attributes = config.get_target_session_attrs();
        let wanted = if attributes == TargetSessionAttrs::ReadWrite {
            "off"
        } else if attributes == TargetSessionAttrs::ReadOnly {
            "on"
        } else {
            return Ok(());
        };
        let rows = self.query("SHOW transaction_read_only").await?;
        if rows.first().and_then(|row| row.first()?.as_deref()) == Some(wanted) {
            return Ok(());
        }
        let why = "the server is not what target_session_attrs asks for";
        Err(io::Error::new(io::ErrorKind::ConnectionRefused, why).into())
    }
}

/// One host of the URL.
struct Place<'a> {
    host: Option<&'a Host>,
    address: Option<SocketAddr>,
    port: u16,
}

/// Has the kernel notice a peer that is gone, as it does for sessions of the driver: an idle source
/// sends nothing for minutes.
fn notice_silence(socket: &TcpStream, config: &tokio_postgres::Config) -> io::Result<()> {
    let mut keepalive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
    if let Some(interval) = config.get_keepalives_interval() {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        keepalive = keepalive.with_retries(retries);
    }
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(config.get_tcp_user_timeout().copied())
}

/// What a login is bound to: the hash of the server's certificate (`tls-server-end-point`). `None`
/// without TLS, or where the certificate's signature names no hash, as Ed25519.
type EndPoint = Option<Vec<u8>>;

/// By RFC 5929, section 4.1: the hash of the certificate's signature, but SHA-256 for older ones.
fn end_point(certificate: &[u8]) -> EndPoint {
    let signature = Certificate::from_der(certificate).ok()?.signature_algorithm.oid;
    match signature {
        oid::SHA_1_WITH_RSA_ENCRYPTION | oid::SHA_256_WITH_RSA_ENCRYPTION | oid::ECDSA_WITH_SHA_256 => {
            Some(Sha256::digest(certificate).to_vec())
        }
        oid::SHA_384_WITH_RSA_ENCRYPTION | oid::ECDSA_WITH_SHA_384 => Some(Sha384::digest(certificate).to_vec()),
        oid::SHA_512_WITH_RSA_ENCRYPTION | oid::ECDSA_WITH_SHA_512 => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// The socket, encrypted as `sslmode` asks for.
async fn encrypted(
    target: &Target,
    mut socket: TcpStream,
    name: &str,
    mode: SslMode,
) -> Result<(Box<dyn Wire>, EndPoint), SourceError> {
    if mode == SslMode::Disable {
        return Ok((Box::new(socket), None));
    }
    if target.config().get_ssl_negotiation() != SslNegotiation::Direct {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        socket.write_all(&request).await?;
        if socket.read_u8().await? != b'S' {
            if mode == SslMode::Require {
                let why = "sslmode asks for TLS, and the server has none";
                return Err(SourceError::Misconfigured(why.to_owned()));
            }
            return Ok((Box::new(socket), None));
        }
    }
    let failed = |error: &dyn std::fmt::Display| SourceError::Misconfigured(format!("TLS: {error}"));
    let server = ServerName::try_from(name.to_owned()).map_err(|error| failed(&error))?;
    let tls = TlsConnector::from(Arc::clone(target.tls()));
    let stream = tls.connect(server, socket).await.map_err(|error| failed(&error))?;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let end_point = certificate.and_then(|certificate| end_point(certificate));
    Ok((Box::new(stream), end_point))
}
