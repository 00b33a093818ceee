//! TLS: by which certificate the agent is known.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustls::{
    CertificateError, Error, RootCertStore, ServerConfig,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use tokio_rustls::TlsAcceptor;

use super::access::{open_file, secret};
use crate::shown::shown;

/// A certificate that expires within this is warned of.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// Reads a certificate with what leads to its authority, and its key.
pub(super) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let provider = Arc::new(ring::default_provider());
    let chain = chain(&open_file("http.certificate", certificate)?)
        .with_context(|| format!("http.certificate: {}", shown(certificate)))?;
    let secret = secret("http.key", key)?;
    let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|error| {
        anyhow!(
            "http.key: {}: no private key in PEM ({error}); one with a passphrase cannot be used",
            shown(key)
        )
    })?;
    if let Some(trouble) = chain.first().and_then(|own| trouble(own, &provider, UnixTime::now())) {
        log::warn!("http.certificate: {}: {trouble}", shown(certificate));
    }
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("http.certificate")?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| unfit(&error, certificate, key))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow!("it is no proper PEM: {error}"))?;
    ensure!(!chain.is_empty(), "there is no certificate in PEM in it");
    Ok(chain)
}

fn unfit(error: &Error, certificate: &Path, key: &Path) -> anyhow::Error {
    let (certificate, key) = (shown(certificate), shown(key));
    match error {
        Error::InconsistentKeys(_) => {
            anyhow!(
                "http.key: {key} is not the key of the certificate {certificate}; give two that belong together"
            )
        }
        Error::InvalidCertificate(_) => anyhow!("http.certificate: {certificate}: {error}"),
        _ => anyhow!("http.key: {key}: {error}; give one that is RSA, ECDSA (P-256, P-384) or Ed25519"),
    }
}

/// Why clients will turn the certificate down, as far as the time makes them: no authority is asked here.
fn trouble(own: &CertificateDer<'_>, provider: &CryptoProvider, now: UnixTime) -> Option<&'static str> {
    let parsed = ParsedCertificate::try_from(own).ok()?;
    let at = |time| {
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], time, algorithms)
            .err()
    };
    let has_expired = |error: &Error| {
        use CertificateError::{Expired, ExpiredContext};
        matches!(error, Error::InvalidCertificate(Expired | ExpiredContext { .. }))
    };
    let soon = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + SOON);
    match at(now) {
        Some(error) if has_expired(&error) => Some(
            "it has expired, and clients turn it down; renew it and have the configuration read again (SIGHUP)",
        ),
        Some(Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Some("it is not valid yet, and clients turn it down; is the clock of this host right?"),
        _ if at(soon).is_some_and(|error| has_expired(&error)) => {
            Some("it expires within 14 days; renew it and have the configuration read again (SIGHUP)")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pem: &[u8], seconds: u64) -> Option<&'static str> {
        let chain = chain(pem).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        trouble(&chain[0], &ring::default_provider(), now)
    }

    /// It is valid from 2024-01-01 to 2025-01-01.
    #[test]
    fn what_the_time_makes_of_a_certificate_is_known() {
        let pem = include_bytes!("../../../tests/data/tls/expired.pem");
        for (seconds, word) in [
            (1_704_067_199, Some("not valid yet")),
            (1_704_067_201, None),
            (1_735_689_600 - 15 * 86_400, None),
            (1_735_689_600 - 13 * 86_400, Some("expires within 14 days")),
            (1_735_689_601, Some("has expired")),
        ] {
            let found = found(pem, seconds);
            match word {
                Some(word) => {
                    assert!(found.is_some_and(|found| found.contains(word)), "{seconds}: {found:?}");
                }
                None => assert_eq!(found, None, "{seconds}"),
            }
        }
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        let key = include_bytes!("../../../tests/data/tls/server.key");
        for (pem, why) in
            [(&b""[..], "no certificate"), (key, "no certificate"), (b"\xff\n", "no certificate")]
        {
            let error = chain(pem).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
