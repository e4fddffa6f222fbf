//! A PostgreSQL that is reached by TLS.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::postgres::Cluster;

/// A CA, and a certificate of it for `names`: (CA, certificate, key), PEM.
fn certificates(names: &[&str]) -> (String, String, String) {
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    (ca.pem(), certificate.pem(), key.serialize_pem())
}

/// A server that takes only TLS and passwords on TCP; its folder has the CA, and another (`ca.pem`, `other.pem`).
pub async fn tls_cluster(names: &[&str], settings: &[(&str, &str)]) -> (Cluster, tempfile::TempDir) {
    let (ca, certificate, key) = certificates(names);
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("ca.pem"), ca).unwrap();
    std::fs::write(files.path().join("other.pem"), certificates(names).0).unwrap();
    let usual = [("listen_addresses", "127.0.0.1"), ("ssl", "on"), ("fsync", "off")];
    let settings = [&usual[..], settings].concat();
    let hba = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    let cluster = Cluster::start(
        &settings,
        &[("server.crt", &certificate), ("server.key", &key), ("pg_hba.conf", hba)],
    )
    .await;
    cluster.sql("postgres", r"CREATE ROLE app LOGIN SUPERUSER PASSWORD 'p@ss/w?rd#%:ü'");
    (cluster, files)
}

/// That of the role `app`, as it stands in a URL.
pub const PASSWORD: &str = "p%40ss%2Fw%3Frd%23%25%3A%C3%BC";
