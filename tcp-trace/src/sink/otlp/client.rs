//! One request over HTTP.

use std::{
    fs,
    io::Write as _,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use flate2::{Compression as Effort, write::GzEncoder};
use tcp_trace_core::time::WallTime;
use ureq::{
    Agent,
    http::header,
    tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig},
};

use super::{
    answer::{Answer, Verdict},
    config::Compression,
    settings::{Target, Trust},
};
use crate::shown::shown;

const PROTOBUF: &str = "application/x-protobuf";

/// The most of an answer that is read.
const MAX_ANSWER: u64 = 64 << 10;

/// Sends the requests of one signal. Connections are kept open between them.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    target: Target,
}

impl Client {
    /// # Errors
    ///
    /// If the files of certificates cannot be used. Nothing is connected to yet.
    pub(super) fn new(target: Target) -> Result<Self> {
        let mut config = Agent::config_builder()
            .timeout_global(Some(target.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_age(Duration::from_secs(90))
            .user_agent(concat!("tcp-trace/", env!("CARGO_PKG_VERSION")));
        if target.url.scheme_str() == Some("https") {
            config = config.tls_config(tls(&target.trust)?);
        }
        Ok(Self { agent: config.build().new_agent(), target })
    }

    /// Sends an encoded message, and says what became of it. Blocks for the time-out at most.
    pub(super) fn send(&self, message: &[u8]) -> Verdict {
        match self.exchange(message) {
            Ok(answer) => answer.verdict(now().timestamp()),
            Err(why) => Verdict::Again { after: None, why: format!("{}: {why:#}", self.target.url) },
        }
    }

    fn exchange(&self, message: &[u8]) -> Result<Answer> {
        let mut request = self.agent.post(&self.target.url).header(header::CONTENT_TYPE, PROTOBUF);
        for (name, value) in &self.target.headers {
            request = request.header(name, value);
        }
        let mut response = match self.target.compression {
            Compression::None => request.send(message)?,
            Compression::Gzip => {
                request.header(header::CONTENT_ENCODING, "gzip").send(&gzip(message)?[..])?
            }
        };
        let text =
            |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (retry_after, location) = (text(header::RETRY_AFTER), text(header::LOCATION));
        let protobuf = text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with(PROTOBUF));
        let status = response.status().as_u16();
        // What was decided is in the status; a body that breaks off, or never ends, does not change it.
        let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec().unwrap_or_default();
        Ok(Answer { status, retry_after, location, protobuf, body })
    }
}

/// The time on the wall.
pub(super) fn now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// At the least effort: names and attributes repeat so much that more of it hardly makes it smaller.
fn gzip(message: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(message.len() / 4), Effort::fast());
    encoder.write_all(message)?;
    Ok(encoder.finish()?)
}

fn tls(trust: &Trust) -> Result<TlsConfig> {
    let Trust { roots, own } = trust;
    let roots = match roots {
        Some(file) => RootCerts::new_with_certs(&certificates(file)?),
        None => system_roots(),
    };
    let own = own.as_ref().map(|(certificate, key)| {
        let pem = read(key)?;
        let key =
            PrivateKey::from_pem(&pem).with_context(|| format!("{}: no private key in PEM", shown(key)))?;
        Ok::<_, anyhow::Error>(ClientCert::new_with_certs(&certificates(certificate)?, key))
    });
    Ok(TlsConfig::builder().root_certs(roots).client_cert(own.transpose()?).build())
}

/// Those that this host trusts; in a container without any, those that Mozilla does.
fn system_roots() -> RootCerts {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        log::warn!("certificates of this host: {error}");
    }
    if found.certs.is_empty() {
        return RootCerts::WebPki;
    }
    let certificates: Vec<_> = found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    RootCerts::new_with_certs(&certificates)
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = read(file)?;
    let found: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    ensure!(!found.is_empty(), "{}: there is no certificate in PEM in it", shown(file));
    Ok(found)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("reading {}", shown(file)))
}
