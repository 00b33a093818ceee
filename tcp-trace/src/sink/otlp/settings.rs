//! What holds: the configuration file, then the environment, then the defaults.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tcp_trace_core::process::printable;
use ureq::http::{HeaderName, HeaderValue, Uri};

use super::{
    config::{Compression, Config, Secret, Signal},
    environment::Environment,
};

/// Where the collector is if nobody says it.
const DEFAULT_ENDPOINT: &str = "http://localhost:4318";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_REQUEST: usize = 4 << 20;

/// Everything that is settled before the first request.
#[derive(Debug, PartialEq)]
pub(super) struct Settings {
    /// Where each signal goes; those that are not sent are not here.
    pub(super) targets: BTreeMap<Signal, Target>,
    /// Attributes of every resource.
    pub(super) attributes: BTreeMap<String, String>,
    /// The most that a request holds.
    pub(super) max_request: usize,
    /// How often metrics are sent.
    pub(super) metrics_interval: Duration,
}

/// Where one signal goes.
#[derive(Debug, PartialEq)]
pub(super) struct Target {
    pub(super) url: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) compression: Compression,
    pub(super) timeout: Duration,
    pub(super) trust: Trust,
}

/// Whom a collector is believed, and how it can believe us. Files of certificates in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trust {
    pub(super) roots: Option<PathBuf>,
    /// Our certificate and its key.
    pub(super) own: Option<(PathBuf, PathBuf)>,
}

impl Settings {
    /// # Errors
    ///
    /// If the file or a variable says something that cannot be done.
    pub(super) fn new(config: &Config, environment: Environment<'_>) -> Result<Self> {
        let signals = config.signals.clone().unwrap_or_else(|| Signal::ALL.to_vec());
        ensure!(!signals.is_empty(), "`signals` is empty; name \"logs\", \"metrics\" or both");
        let targets = signals
            .into_iter()
            .map(|signal| Ok((signal, Target::new(config, environment, signal)?)))
            .collect::<Result<_>>()?;
        let mut attributes = environment.attributes()?;
        attributes.extend(config.attributes.clone());
        let interval = environment.get("OTEL_METRIC_EXPORT_INTERVAL");
        let max_request = match &config.max_request {
            Some(size) => usize::try_from(size.0).context("`max_request` does not fit into memory")?,
            None => DEFAULT_REQUEST,
        };
        ensure!(max_request >= 4096, "`max_request` must be 4k or more: one record may be as long");
        Ok(Self {
            targets,
            attributes,
            max_request,
            metrics_interval: match config.metrics_interval {
                Some(period) => period.0,
                None => environment.duration(interval)?.unwrap_or(DEFAULT_INTERVAL),
            },
        })
    }
}

impl Target {
    fn new(config: &Config, environment: Environment<'_>, signal: Signal) -> Result<Self> {
        let mut headers = environment.headers(signal)?;
        headers.extend(config.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
        let timeout = environment.duration(environment.of(signal, "TIMEOUT"))?;
        let file = |from_file: &Option<PathBuf>, name| {
            from_file.clone().or_else(|| environment.of(signal, name).map(|set| set.value.into()))
        };
        let certificate = file(&config.client_certificate, "CLIENT_CERTIFICATE");
        let own = match (certificate, file(&config.client_key, "CLIENT_KEY")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => bail!("there is a `client_certificate`, but no `client_key`"),
            (None, Some(_)) => bail!("there is a `client_key`, but no `client_certificate`"),
        };
        Ok(Self {
            url: url(config, environment, signal)?,
            headers: headers.iter().map(header).collect::<Result<_>>()?,
            compression: match config.compression {
                Some(compression) => compression,
                None => environment.compression(signal)?.unwrap_or_default(),
            },
            timeout: config.timeout.map(|period| period.0).or(timeout).unwrap_or(DEFAULT_TIMEOUT),
            trust: Trust { roots: file(&config.certificate, "CERTIFICATE"), own },
        })
    }
}

/// The URL of a signal: what names it alone is taken as it is, to what names all the signal's path is appended.
fn url(config: &Config, environment: Environment<'_>, signal: Signal) -> Result<Uri> {
    let (own, own_key) = match signal {
        Signal::Logs => (&config.logs_endpoint, "logs_endpoint"),
        Signal::Metrics => (&config.metrics_endpoint, "metrics_endpoint"),
    };
    if let Some(own) = own {
        return parse(own, own).with_context(|| format!("`{own_key}`"));
    }
    let under = |base: &str| parse(base, &format!("{}/v1/{}", base.trim_end_matches('/'), signal.name()));
    if let Some(base) = &config.endpoint {
        return under(base).context("`endpoint`");
    }
    environment.check_protocol(signal)?;
    let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.name().to_ascii_uppercase());
    if let Some(set) = environment.get(&own) {
        return parse(&set.value, &set.value).context(set.variable);
    }
    match environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") {
        Some(set) => under(&set.value).context(set.variable),
        None => under(DEFAULT_ENDPOINT),
    }
}

/// `given` is what a person has written, `whole` what is made of it.
fn parse(given: &str, whole: &str) -> Result<Uri> {
    let hint = "give one such as http://127.0.0.1:4318";
    let shown = printable(given);
    let url: Uri = whole.parse().with_context(|| format!("`{shown}` is no URL; {hint}"))?;
    ensure!(
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty()),
        "`{shown}` is no URL of HTTP; {hint}"
    );
    ensure!(url.query().is_none(), "`{shown}` has a query, which has no place in it; {hint}");
    let userinfo = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
    ensure!(!userinfo, "the URL has a password in it; put it into a header `authorization` instead");
    if url.port_u16() == Some(4317) {
        log::warn!(
            "{shown}: port 4317 is OTLP over gRPC by convention; over HTTP, which is spoken here, it is 4318"
        );
    }
    Ok(url)
}

fn header((name, value): (&String, &Secret)) -> Result<(HeaderName, HeaderValue)> {
    let shown = printable(name);
    let key: HeaderName = name.parse().with_context(|| format!("`{shown}` is no name of a header"))?;
    let mut value =
        HeaderValue::from_str(&value.0).with_context(|| format!("the value of the header `{shown}`"))?;
    value.set_sensitive(true);
    Ok((key, value))
}
