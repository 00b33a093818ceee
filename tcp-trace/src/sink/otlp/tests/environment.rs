//! The configuration file, then the environment, then the defaults.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::{
    agent::values::Period,
    sink::otlp::{
        Compression, Config, Secret, Signal,
        environment::Environment,
        settings::{Settings, Trust},
    },
};

fn settle(config: &Config, variables: &[(&str, &str)]) -> anyhow::Result<Settings> {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    Settings::new(config, Environment(&|name| variables.get(name).map(|value| (*value).to_owned())))
}

fn urls(config: &Config, variables: &[(&str, &str)]) -> [String; 2] {
    let settings = settle(config, variables).unwrap();
    Signal::ALL.map(|signal| settings.targets[&signal].url.to_string())
}

fn error(config: &Config, variables: &[(&str, &str)]) -> String {
    format!("{:#}", settle(config, variables).unwrap_err())
}

fn parsed(text: &str) -> Config {
    toml::from_str(text).unwrap()
}

const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://base:4318");
const LOGS: (&str, &str) = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://logs.example/in");

#[test]
fn endpoints_follow_the_rules_of_otlp() {
    let none = Config::default();
    assert_eq!(urls(&none, &[]), ["http://localhost:4318/v1/logs", "http://localhost:4318/v1/metrics"]);
    assert_eq!(urls(&none, &[BASE]), ["http://base:4318/v1/logs", "http://base:4318/v1/metrics"]);
    let under = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://base:4318/otlp/");
    assert_eq!(urls(&none, &[under]), ["http://base:4318/otlp/v1/logs", "http://base:4318/otlp/v1/metrics"]);
    // The one of a signal is used as it is; without a path that is the root.
    assert_eq!(urls(&none, &[BASE, LOGS]), ["https://logs.example/in", "http://base:4318/v1/metrics"]);
    let root = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs.example");
    assert_eq!(urls(&none, &[root])[0], "http://logs.example/");
    // An empty variable is not set.
    assert_eq!(urls(&none, &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")])[0], "http://localhost:4318/v1/logs");
}

#[test]
fn the_file_goes_before_the_environment() {
    let file = parsed("endpoint = 'http://file:1'\ntimeout = '3s'\ncompression = 'none'");
    let variables =
        [BASE, LOGS, ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    assert_eq!(urls(&file, &variables), ["http://file:1/v1/logs", "http://file:1/v1/metrics"]);
    let target = &settle(&file, &variables).unwrap().targets[&Signal::Logs];
    assert_eq!((target.timeout, target.compression), (Duration::from_secs(3), Compression::None));
    let file = parsed("logs_endpoint = 'http://file:1/x'");
    assert_eq!(urls(&file, &[BASE]), ["http://file:1/x", "http://base:4318/v1/metrics"]);
}

#[test]
fn a_signal_goes_before_all_signals() {
    let settings = settle(
        &Config::default(),
        &[
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
            ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "2000"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
            ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "GZIP"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "15000"),
        ],
    );
    let settings = settings.unwrap();
    let of = |signal| {
        let target = &settings.targets[&signal];
        (target.timeout.as_secs(), target.compression)
    };
    assert_eq!(of(Signal::Logs), (2, Compression::None));
    assert_eq!(of(Signal::Metrics), (1, Compression::Gzip));
    assert_eq!(settings.metrics_interval, Duration::from_secs(15));
}

#[test]
fn defaults_are_those_of_otlp() {
    let settings = settle(&Config::default(), &[]).unwrap();
    let target = &settings.targets[&Signal::Logs];
    assert_eq!((target.timeout, target.compression), (Duration::from_secs(10), Compression::Gzip));
    assert_eq!((settings.metrics_interval, settings.max_request), (Duration::from_secs(60), 4 << 20));
    assert_eq!(target.trust, Trust::default());
}

#[test]
fn headers_are_put_together() {
    let file = parsed("[headers]\nAuthorization = 'Bearer file'\n");
    let variable = ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b%2Cc, authorization=env,,");
    let settings = settle(&file, &[variable]).unwrap();
    let headers: Vec<_> = settings.targets[&Signal::Logs]
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(headers, [("authorization", "Bearer file"), ("x-tenant", "a b,c")]);
}

#[test]
fn attributes_are_put_together() {
    let file = parsed("[attributes]\nteam = 'edge'\n");
    let variables = [
        ("OTEL_RESOURCE_ATTRIBUTES", "team=env,deployment.environment.name=prod,service.name=x"),
        ("OTEL_SERVICE_NAME", "node-agent"),
    ];
    let settings = settle(&file, &variables).unwrap();
    let expected =
        [("deployment.environment.name", "prod"), ("service.name", "node-agent"), ("team", "edge")];
    let expected: BTreeMap<_, _> = expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(settings.attributes, expected);
}

#[test]
fn certificates_come_in_pairs() {
    let settings = settle(
        &parsed("certificate = '/ca.pem'"),
        &[
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/own.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/own.key"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/other.pem"),
        ],
    );
    let trust = &settings.unwrap().targets[&Signal::Logs].trust;
    let own = (PathBuf::from("/own.pem"), PathBuf::from("/own.key"));
    assert_eq!(*trust, Trust { roots: Some("/ca.pem".into()), own: Some(own) });
    let half = parsed("client_key = '/own.key'");
    assert!(error(&half, &[]).contains("no `client_certificate`"));
}

#[test]
fn what_cannot_be_done_is_named() {
    let none = Config::default();
    for (variable, value, part) in [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "collector:4318",
            "OTEL_EXPORTER_OTLP_ENDPOINT: `collector:4318` is no URL",
        ),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://x/", "is no URL of HTTP; give one such as http://"),
        (
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "10s",
            "OTEL_EXPORTER_OTLP_TIMEOUT=10s: the value is no number of milliseconds",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "must be more than 0"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "set it to gzip or none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "only http/protobuf is spoken here"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization", "entry 1 has no `=`"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,c=%zz", "the value of `c`"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c", "`a b` is no name of a header"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=x", "entry 1 has no name"),
    ] {
        let error = error(&none, &[(variable, value)]);
        assert!(error.contains(part), "{variable}={value}: {error}");
    }
    assert!(error(&parsed("signals = []"), &[]).contains("`signals` is empty"));
    assert!(error(&parsed("endpoint = 'http://user:secret@x'"), &[]).contains("header `authorization`"));
    assert!(error(&parsed("max_request = '1k'"), &[]).contains("4k or more"));
}

#[test]
fn no_secret_is_shown() {
    let config = Config {
        headers: BTreeMap::from([("authorization".to_owned(), Secret("hunter2".to_owned()))]),
        timeout: Some(Period::seconds(1)),
        ..Config::default()
    };
    let settings = settle(&config, &[("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter2")]).unwrap();
    assert!(!format!("{config:?} {settings:?}").contains("hunter2"));
    let wrong = error(&config, &[("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")]);
    assert!(!wrong.contains("hunter2"), "{wrong}");
}

#[test]
fn a_file_of_certificates_that_is_none_is_named() {
    let config = parsed("endpoint = 'https://127.0.0.1:1'\ncertificate = '/nonexistent/ca.pem'");
    let error =
        super::super::Exporter::with_environment(&config, &super::origin(), &super::bare).unwrap_err();
    assert!(format!("{error:#}").contains("/nonexistent/ca.pem"), "{error:#}");
}
