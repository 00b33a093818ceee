//! The kinds of sinks that documents go to.

use tcp_trace_core::{
    log::{Document, Origin},
    metrics::Snapshot,
};

use super::export::Failure;
use crate::{
    confine::{Duty, folder_of},
    sink::{file, journald, lines, otlp, syslog},
};

/// What a sink is, as its sub-table says.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    /// JSON Lines on standard output.
    Stdout(lines::Config),
    /// A file of JSON Lines.
    File(file::Config),
    /// The journal.
    Journald(journald::Config),
    /// A syslog server.
    Syslog(syslog::Config),
    /// An OpenTelemetry endpoint.
    Otlp(Box<otlp::Config>),
}

impl Config {
    /// What it is called in metrics and messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Stdout(_) => "stdout",
            Self::File(_) => "file",
            Self::Journald(_) => "journald",
            Self::Syslog(_) => "syslog",
            Self::Otlp(_) => "otlp",
        }
    }

    /// What its thread does, and may do.
    #[must_use]
    pub fn duty(&self) -> Duty {
        match self {
            Self::Stdout(_) | Self::Journald(_) => Duty::Follow,
            Self::File(config) => Duty::Write(folder_of(&config.path)),
            Self::Syslog(_) | Self::Otlp(_) => Duty::Send,
        }
    }

    /// Whether metrics are sent to it, too.
    #[must_use]
    pub fn takes_metrics(&self) -> bool {
        matches!(self, Self::Otlp(config) if config.sends(otlp::Signal::Metrics))
    }

    /// Whether documents are.
    #[must_use]
    pub fn takes_documents(&self) -> bool {
        !matches!(self, Self::Otlp(config) if !config.sends(otlp::Signal::Logs))
    }
}

/// One of them at work.
#[derive(Debug)]
pub enum Exporter {
    /// JSON Lines on standard output.
    Stdout(lines::Lines),
    /// A file of JSON Lines.
    File(file::File),
    /// The journal.
    Journald(journald::Journald),
    /// A syslog server.
    Syslog(syslog::Syslog),
    /// An OpenTelemetry endpoint.
    Otlp(Box<otlp::Exporter>),
}

impl Exporter {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// If it is not to be had here: a file that cannot be opened, an address that makes no sense.
    pub fn new(config: &Config, origin: &Origin) -> anyhow::Result<Self> {
        Ok(match config {
            Config::Stdout(config) => Self::Stdout(lines::Lines::new(config, origin)?),
            Config::File(config) => Self::File(file::File::new(config, origin)?),
            Config::Journald(config) => Self::Journald(journald::Journald::new(config, origin)?),
            Config::Syslog(config) => Self::Syslog(syslog::Syslog::new(config, origin)?),
            Config::Otlp(config) => Self::Otlp(Box::new(otlp::Exporter::new(config, origin)?)),
        })
    }

    /// Sends documents.
    ///
    /// # Errors
    ///
    /// What could not be sent.
    pub fn send(&mut self, batch: &[Document]) -> Result<(), Failure> {
        match self {
            Self::Stdout(stdout) => stdout.send(batch),
            Self::File(file) => file.send(batch),
            Self::Journald(journald) => journald.send(batch),
            Self::Syslog(syslog) => syslog.send(batch),
            Self::Otlp(otlp) => otlp.send(batch),
        }
    }

    /// Makes sure that what was sent has arrived as far as that can be made sure of.
    ///
    /// # Errors
    ///
    /// If it has not.
    pub fn flush(&mut self) -> Result<(), Failure> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file) => file.flush(),
            Self::Journald(journald) => journald.flush(),
            Self::Syslog(syslog) => syslog.flush(),
            Self::Otlp(otlp) => otlp.flush(),
        }
    }

    /// Opens anew what may have been moved away.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn reopen(&mut self) -> Result<(), Failure> {
        match self {
            Self::File(file) => file.reopen(),
            Self::Stdout(_) | Self::Journald(_) | Self::Syslog(_) | Self::Otlp(_) => Ok(()),
        }
    }

    /// Sends metrics, if it takes them and they are due; says whether it did.
    ///
    /// # Errors
    ///
    /// If they could not be sent.
    pub fn metrics(&mut self, snapshot: &Snapshot) -> Result<bool, Failure> {
        match self {
            Self::Otlp(otlp) => otlp.metrics(snapshot),
            Self::Stdout(_) | Self::File(_) | Self::Journald(_) | Self::Syslog(_) => Ok(false),
        }
    }
}
