//! `[sinks.NAME.otlp]`.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::Deserialize;

use crate::agent::values::{Period, Size};

/// `[sinks.NAME.otlp]`: to an OpenTelemetry collector, or to whatever else takes OTLP over HTTP.
///
/// What is not said here is taken from the environment variables of OpenTelemetry (`OTEL_EXPORTER_OTLP_*`), the one of
/// the signal before the one of all signals, and from the defaults only then.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the collector is: `/v1/logs` and `/v1/metrics` are appended. `http://localhost:4318`.
    pub endpoint: Option<String>,
    /// Where logs go, if not there; used as it is, nothing is appended.
    pub logs_endpoint: Option<String>,
    /// Where metrics go, if not there; used as it is, nothing is appended.
    pub metrics_endpoint: Option<String>,
    /// What is sent: `["logs", "metrics"]`.
    pub signals: Option<Vec<Signal>>,
    /// Headers of every request, such as `authorization`. They are added to those of the environment, and come before
    /// them.
    pub headers: BTreeMap<String, Secret>,
    /// `"gzip"` or `"none"`. gzip.
    pub compression: Option<Compression>,
    /// How long one request may take, from the look-up of the name to the end of the answer. `10s`.
    pub timeout: Option<Period>,
    /// The most that one request may hold, before compression. `4M`; halved whenever the other side says that it was too
    /// much.
    pub max_request: Option<Size>,
    /// How often metrics are sent, whenever a report is made after that time: each host at a moment of its own in the
    /// interval. `60s`.
    pub metrics_interval: Option<Period>,
    /// Certificates (PEM) of those who may have signed the collector's. Those of this host, or if it has none those of
    /// Mozilla.
    pub certificate: Option<PathBuf>,
    /// Our own certificate (PEM), if the collector asks for one.
    pub client_certificate: Option<PathBuf>,
    /// Its key (PEM).
    pub client_key: Option<PathBuf>,
    /// Attributes of every resource, such as `"deployment.environment.name" = "prod"`.
    pub attributes: BTreeMap<String, String>,
}

impl Config {
    /// Whether this kind of telemetry is sent.
    #[must_use]
    pub fn sends(&self, signal: Signal) -> bool {
        self.signals.as_ref().is_none_or(|signals| signals.contains(&signal))
    }
}

/// A kind of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// Documents.
    Logs,
    /// The catalogue of metrics.
    Metrics,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 2] = [Self::Logs, Self::Metrics];

    /// As it stands in the paths of OTLP.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// The only one that every receiver must know.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

/// A text that is not for logs.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}
