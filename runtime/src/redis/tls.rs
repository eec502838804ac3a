//! TLS towards Redis: rustls with the ring provider, and nothing decided by the process at large.

use std::path::Path;
use std::sync::Arc;

use fred::types::config::TlsConnector;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::ConnectError;
use crate::config::RedisConfig;

/// Reads the certificate files and makes the connector; they are read once, so a renewed certificate needs a restart.
pub(super) fn connector(config: &RedisConfig) -> Result<TlsConnector, ConnectError> {
    let roots = match &config.tls_ca_file {
        Some(file) => own_authorities(file)?,
        None => system_authorities()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| broken("the protocol versions", error))?
        .with_root_certificates(roots);
    let client = match (&config.tls_cert_file, &config.tls_key_file) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|error| broken(&shown(key), error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| broken(&shown(certificate), error))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(client))
}

fn own_authorities(file: &Path) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| broken(&shown(file), error))?;
    }
    Ok(roots)
}

/// One bad certificate of the system must not keep a node from starting, so it is left out.
fn system_authorities() -> Result<RootCertStore, ConnectError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(ConnectError::Tls {
            what: "the system has no certificate authorities; set UNDERSTUDY_REDIS_TLS_CA_FILE"
                .to_owned(),
            source: None,
        });
    }
    tracing::debug!(
        added,
        ignored,
        errors = found.errors.len(),
        "system certificate authorities read"
    );
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let read = CertificateDer::pem_file_iter(file).map_err(|error| broken(&shown(file), error))?;
    let all: Vec<_> =
        read.collect::<Result<_, _>>().map_err(|error| broken(&shown(file), error))?;
    if all.is_empty() {
        return Err(ConnectError::Tls {
            what: format!("{} holds no certificate", shown(file)),
            source: None,
        });
    }
    Ok(all)
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}

fn broken(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> ConnectError {
    ConnectError::Tls { what: what.to_owned(), source: Some(Box::new(source)) }
}
