//! TLS towards PostgreSQL, with libpq's meaning of `sslmode` and `sslrootcert`.
//!
//! Owns how a server's certificate is judged. `verify-full` checks chain and name, `verify-ca` the
//! chain only, `require` neither unless a CA file is named (then it is `verify-ca`, as libpq has
//! it).

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode as DriverMode;

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslMode {
    /// Never.
    Disable,
    /// Only where the server refuses without.
    Allow,
    /// Where the server can.
    Prefer,
    /// Always, whoever answers.
    Require,
    /// The certificate's chain must end in a root.
    VerifyCa,
    /// And its name must be the host's.
    VerifyFull,
}

impl SslMode {
    /// Reads the parameter's value.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err("sslmode must be disable, allow, prefer, require, verify-ca or verify-full".into()),
        })
    }

    /// What the driver does first, and what after the server refused that.
    pub(super) fn tries(self) -> (DriverMode, Option<DriverMode>) {
        match self {
            Self::Disable => (DriverMode::Disable, None),
            Self::Allow => (DriverMode::Disable, Some(DriverMode::Require)),
            Self::Prefer => (DriverMode::Prefer, Some(DriverMode::Disable)),
            Self::Require | Self::VerifyCa | Self::VerifyFull => (DriverMode::Require, None),
        }
    }
}

/// `sslrootcert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// Those of the system.
    System,
    /// Those of a PEM file.
    File(PathBuf),
}

impl Roots {
    /// Reads the parameter's value.
    pub(super) fn parse(text: String) -> Self {
        if text == "system" {
            Self::System
        } else {
            Self::File(text.into())
        }
    }

    fn load(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::System => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Self::File(path) => {
                let fault = |what: String| format!("sslrootcert {}: {what}", path.display());
                for cert in CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))? {
                    let cert = cert.map_err(|error| fault(error.to_string()))?;
                    roots.add(cert).map_err(|error| fault(error.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(fault("no certificate in it".into()));
                }
            }
        }
        if roots.is_empty() {
            return Err("the system has no CA certificates: install them, or name a file in sslrootcert".into());
        }
        Ok(roots)
    }
}

/// What both parameters say together.
pub(super) fn agree(mode: Option<SslMode>, roots: Option<Roots>) -> Result<(SslMode, Roots), String> {
    match (mode, roots) {
        (None | Some(SslMode::VerifyFull), Some(Roots::System)) => Ok((SslMode::VerifyFull, Roots::System)),
        (Some(_), Some(Roots::System)) => Err("sslrootcert=system needs sslmode=verify-full".into()),
        (Some(SslMode::Require), Some(file)) => Ok((SslMode::VerifyCa, file)),
        (mode, roots) => Ok((mode.unwrap_or(SslMode::Prefer), roots.unwrap_or(Roots::System))),
    }
}

/// The client's side of a handshake; roots are read only where they are needed.
pub(super) fn client_config(mode: SslMode, roots: &Roots, direct: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let chain = match mode {
        SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => None,
        SslMode::VerifyCa | SslMode::VerifyFull => Some(
            WebPkiServerVerifier::builder_with_provider(roots.load()?.into(), provider.clone())
                .build()
                .map_err(|error| error.to_string())?,
        ),
    };
    let verifier: Arc<dyn ServerCertVerifier> = match chain {
        Some(chain) if mode == SslMode::VerifyFull => chain,
        chain => Arc::new(AnyName {
            chain,
            provider: provider.clone(),
        }),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    if direct {
        // `sslnegotiation=direct` demands it.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(config)
}

/// Takes a certificate for any name, and without a chain to check any certificate.
#[derive(Debug)]
struct AnyName {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last: all else was in order.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
