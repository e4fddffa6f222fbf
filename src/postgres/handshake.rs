//! Opens a replication connection: host, TLS, start-up and authentication, as `sslmode` and the
//! other parameters of the URL say.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ScramSha256};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::{ChannelBinding, Host, SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

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
        let wire: Box<dyn Wire> = match place.host {
            Some(Host::Unix(folder)) if place.address.is_none() => {
                let path = folder.join(format!(".s.PGSQL.{}", place.port));
                Box::new(UnixStream::connect(path).await?)
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
        connection.start_up(config).await?;
        connection.check_role_of_server(config).await?;
        Ok(connection)
    }

    async fn start_up(&mut self, config: &tokio_postgres::Config) -> Result<(), SourceError> {
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
        self.authenticate(config).await?;
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

    async fn authenticate(&mut self, config: &tokio_postgres::Config) -> Result<(), SourceError> {
        let user = config.get_user().unwrap_or_default().as_bytes().to_owned();
        let password = || {
            let missing = || SourceError::Misconfigured("the server wants a password, and the URL has none".to_owned());
            config.get_password().ok_or_else(missing)
        };
        loop {
            let mut answer = BytesMut::new();
            let message = self.message().await?;
            if matches!(message, Message::AuthenticationOk) {
                return Ok(());
            } else if matches!(message, Message::AuthenticationCleartextPassword) {
                frontend::password_message(password()?, &mut answer)?;
            } else if let Message::AuthenticationMd5Password(body) = message {
                let hash = md5_hash(&user, password()?, body.salt());
                frontend::password_message(hash.as_bytes(), &mut answer)?;
            } else if let Message::AuthenticationSasl(body) = message {
                let offered: Vec<String> = body.mechanisms().map(|name| Ok(name.to_owned())).collect()?;
                self.scram(&offered, password()?, config.get_channel_binding()).await?;
                continue;
            } else {
                return Err(unexpected("another kind of authentication than a password"));
            }
            self.send(&answer).await?;
        }
    }

    async fn scram(&mut self, offered: &[String], password: &[u8], wanted: ChannelBinding) -> Result<(), SourceError> {
        if wanted == ChannelBinding::Require {
            // The driver does not hand out what its TLS stream knows of the certificate.
            let why = "channel_binding=require is not supported for capture: take it out, and use sslmode=verify-full";
            return Err(SourceError::Misconfigured(why.to_owned()));
        }
        if !offered.iter().any(|offer| offer == sasl::SCRAM_SHA_256) {
            return Err(unexpected("another kind of SCRAM than SCRAM-SHA-256"));
        }
        let mechanism = sasl::SCRAM_SHA_256;
        let binding = sasl::ChannelBinding::unsupported();
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
        Ok(scram.finish(body.data())?)
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

/// The socket, encrypted as `sslmode` asks for.
async fn encrypted(
    target: &Target,
    mut socket: TcpStream,
    name: &str,
    mode: SslMode,
) -> Result<Box<dyn Wire>, SourceError> {
    if mode == SslMode::Disable {
        return Ok(Box::new(socket));
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
            return Ok(Box::new(socket));
        }
    }
    let mut tls = target.tls().clone();
    let failed = |error: &dyn std::fmt::Display| SourceError::Misconfigured(format!("TLS: {error}"));
    let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, name).map_err(|error| failed(&error))?;
    let stream = tls.connect(socket).await.map_err(|error| failed(&error))?;
    Ok(Box::new(stream))
}
