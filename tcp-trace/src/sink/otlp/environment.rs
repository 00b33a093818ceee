//! The environment variables of OpenTelemetry: what their values mean.
//!
//! A variable that is empty is not set, as its specification demands. One that cannot be understood is an error which
//! names it: an agent that silently sends to the wrong place, or without its credentials, is worse than one that does
//! not start.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::config::{Compression, Secret, Signal};

/// Reads variables.
#[derive(Clone, Copy)]
pub(super) struct Environment<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

/// A value, and the variable that it stands in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) variable: String,
    pub(super) value: String,
}

impl Environment<'_> {
    pub(super) fn get(self, variable: &str) -> Option<Set> {
        let value = (self.0)(variable)?;
        let value = value.trim();
        (!value.is_empty()).then(|| Set { variable: variable.to_owned(), value: value.to_owned() })
    }

    /// `OTEL_EXPORTER_OTLP_LOGS_name`, or else `OTEL_EXPORTER_OTLP_name`.
    pub(super) fn of(self, signal: Signal, name: &str) -> Option<Set> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{name}", signal.name().to_ascii_uppercase());
        self.get(&own).or_else(|| self.get(&format!("OTEL_EXPORTER_OTLP_{name}")))
    }

    /// Milliseconds.
    pub(super) fn duration(self, set: Option<Set>) -> Result<Option<Duration>> {
        set.map(|set| {
            let ms: u64 = set.value.parse().map_err(|_no_number| {
                set.wrong("is no number of milliseconds; set it to one such as 10000")
            })?;
            ensure!(ms > 0, set.wrong("must be more than 0"));
            Ok(Duration::from_millis(ms))
        })
        .transpose()
    }

    pub(super) fn compression(self, signal: Signal) -> Result<Option<Compression>> {
        self.of(signal, "COMPRESSION")
            .map(|set| match set.value.to_ascii_lowercase().as_str() {
                "gzip" => Ok(Compression::Gzip),
                "none" => Ok(Compression::None),
                _ => Err(set.wrong("is no compression that OTLP knows; set it to gzip or none")),
            })
            .transpose()
    }

    /// `name=value,name=value`; values are percent-encoded.
    pub(super) fn headers(self, signal: Signal) -> Result<BTreeMap<String, Secret>> {
        let Some(set) = self.of(signal, "HEADERS") else { return Ok(BTreeMap::new()) };
        let pairs =
            pairs(&set).with_context(|| format!("{} is not `name=value,name=value`", set.variable))?;
        Ok(pairs.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), Secret(value))).collect())
    }

    /// `OTEL_RESOURCE_ATTRIBUTES`, and `OTEL_SERVICE_NAME`, which comes before it.
    pub(super) fn attributes(self) -> Result<BTreeMap<String, String>> {
        let mut attributes = match self.get("OTEL_RESOURCE_ATTRIBUTES") {
            Some(set) => pairs(&set)
                .with_context(|| format!("{} is not `name=value,name=value`", set.variable))?
                .into_iter()
                .collect(),
            None => BTreeMap::new(),
        };
        attributes.extend(
            self.get("OTEL_SERVICE_NAME").map(|set| (super::names::SERVICE_NAME.to_owned(), set.value)),
        );
        Ok(attributes)
    }

    /// Whether the environment asks for a protocol that is not spoken here.
    pub(super) fn check_protocol(self, signal: Signal) -> Result<()> {
        match self.of(signal, "PROTOCOL") {
            Some(set) if set.value != "http/protobuf" => bail!(
                "{}: only http/protobuf is spoken here; set it to that, with an endpoint that listens for OTLP over HTTP \
                 (port 4318 as a rule), or name the endpoint in the configuration file",
                set.shown()
            ),
            _ => Ok(()),
        }
    }
}

impl Set {
    fn shown(&self) -> String {
        format!("{}={}", self.variable, tcp_trace_core::process::printable(&self.value))
    }

    fn wrong(&self, why: &str) -> anyhow::Error {
        anyhow!("{}: the value {why}", self.shown())
    }
}

/// A list as W3C Baggage has it. The values may be secrets, so that errors tell the place only.
fn pairs(set: &Set) -> Result<Vec<(String, String)>> {
    let parts = set.value.split(',').enumerate().map(|(place, part)| (place + 1, part.trim()));
    parts
        .filter(|(_, part)| !part.is_empty())
        .map(|(place, part)| {
            let (name, value) = part.split_once('=').with_context(|| format!("entry {place} has no `=`"))?;
            let name = name.trim();
            ensure!(!name.is_empty(), "entry {place} has no name");
            let value = decode(value.trim()).with_context(|| format!("the value of `{name}`"))?;
            Ok((name.to_owned(), value))
        })
        .collect()
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        rest = others;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, others @ ..] = rest else { bail!("a `%` without two digits behind it") };
        let digits = [char::from(*high).to_digit(16), char::from(*low).to_digit(16)];
        let [Some(high), Some(low)] = digits else { bail!("a `%` without two hexadecimal digits behind it") };
        bytes.push((high * 16 + low) as u8);
        rest = others;
    }
    String::from_utf8(bytes).context("it is not UTF-8 when it is decoded")
}
