//! The configuration file: TOML, of which every key has a default. The agent takes all of it; `report` and `top` judge by its
//! `[findings]`. `docs/agent.md` has each key with its meaning, and a test holds it against this.
//!
//! A flag goes before the environment, the environment before the file, the file before the default.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use tcp_trace_core::{findings::Thresholds, metrics::Settings, process::printable, tracker::MAX_CONNECTIONS};

use super::{
    args::{AttachArg, FilterArgs, MemoryArgs, ModeArg, SourceArgs},
    units,
};
use crate::{
    agent::{
        exporter,
        select::Filter,
        values::{Period, Size},
    },
    exit::Usage,
    shown::shown,
    sink,
};

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[agent]`: who it is.
    pub agent: Agent,
    /// `[source]`: what is traced, and how. A change needs a restart.
    pub source: Source,
    /// `[report]`: how often it looks.
    pub report: Report,
    /// `[findings]`: from when on something is one (`docs/findings.md`).
    pub findings: Thresholds,
    /// `[http]`: what it answers.
    pub http: Http,
    /// `[metrics]`: what is counted for whom. A change needs a restart, since series would mean something else.
    pub metrics: Settings,
    /// `[sinks.NAME]`: where documents go.
    pub sinks: BTreeMap<String, Sink>,
}

/// `[agent]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// Name of this host in everything that is sent; without it, the one that the kernel knows (`uname -n`).
    pub host: Option<String>,
    /// Name of the cluster that it belongs to.
    pub cluster: Option<String>,
    /// Further labels of everything that is sent, such as `deploy = "2026-11-22.3"`.
    pub labels: BTreeMap<String, String>,
    /// How long it may take to send what is waiting when it is stopped; what is left then is counted as lost.
    pub stop_within: Period,
    /// Whether transitions and connections of the agent itself are told one by one. They are counted in any case.
    pub include_self: bool,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            host: None,
            cluster: None,
            labels: BTreeMap::new(),
            stop_within: Period::seconds(5),
            include_self: false,
        }
    }
}

/// `[source]`, whose keys mean what the flags of `report` mean.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// `auto`, `tp_btf` or `tracepoint`: how to hang on the kernel's tracepoint.
    pub attach: AttachArg,
    /// Size of the ring buffers together, a power of two; without it, 16M, or 1M for each CPU if that is more.
    pub buffer: Option<Size>,
    /// `auto`, `stream`, `aggregate` or `count`: what to do when the stream cannot keep up.
    pub mode: ModeArg,
    /// Whether to tell where in their programs connections are opened.
    pub stacks: bool,
    /// Connections followed at once.
    pub max_connections: usize,
    /// Only sockets of this network namespace.
    pub netns: Option<String>,
    /// Only sockets that were made in this cgroup.
    pub cgroup: Option<String>,
    /// Only sockets of this container.
    pub container: Option<String>,
}

impl Default for Source {
    fn default() -> Self {
        Self {
            attach: AttachArg::Auto,
            buffer: None,
            mode: ModeArg::Auto,
            stacks: false,
            max_connections: MAX_CONNECTIONS,
            netns: None,
            cgroup: None,
            container: None,
        }
    }
}

/// `[report]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Report {
    /// How often findings are judged, metrics brought up to date and a report is told. Each time the sockets that matter
    /// are looked at.
    pub interval: Period,
    /// A socket lingers when it is in CLOSE_WAIT for longer than this.
    pub close_wait_after: Period,
}

impl Default for Report {
    fn default() -> Self {
        Self { interval: Period::seconds(15), close_wait_after: Period::seconds(10) }
    }
}

/// `[http]`: `/metrics`, `/healthz` and `/readyz`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port; without it nothing listens.
    pub listen: Option<SocketAddr>,
    /// Whether an address may be given that other hosts reach. What is told there is told to anybody, unless there is a
    /// `token_file`.
    pub allow_remote: bool,
    /// A certificate (PEM), and what leads from it to its authority: TLS is spoken then, and nothing else.
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM, without a passphrase), which others may not be able to read.
    pub key: Option<PathBuf>,
    /// Bearer tokens, one a line, of which one has to be shown by whoever wants the metrics. Others may not be able to read
    /// the file.
    pub token_file: Option<PathBuf>,
}

/// `[sinks.NAME]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// `findings`, `closed` (finished connections too) or `all` (every transition too).
    #[serde(default)]
    pub level: tcp_trace_core::log::Level,
    /// `[sinks.NAME.filter]`: which documents.
    #[serde(default)]
    pub filter: Filter,
    /// Documents that may wait; what finds no room is counted as lost by this sink.
    #[serde(default = "queue")]
    pub queue: usize,
    /// Transitions and finished connections a second that one container, or one program outside any, may have told of it
    /// on average; ten times as many at once. The others are counted, and are in every number.
    #[serde(default = "rate")]
    pub rate: u32,
    /// `[sinks.NAME.stdout]`: it is standard output.
    pub stdout: Option<sink::lines::Config>,
    /// `[sinks.NAME.file]`: it is a file.
    pub file: Option<sink::file::Config>,
    /// `[sinks.NAME.journald]`: it is the journal.
    pub journald: Option<sink::journald::Config>,
    /// `[sinks.NAME.syslog]`: it is a syslog server.
    pub syslog: Option<sink::syslog::Config>,
    /// `[sinks.NAME.otlp]`: it is an OpenTelemetry endpoint.
    pub otlp: Option<sink::otlp::Config>,
}

impl Sink {
    /// What it is.
    ///
    /// # Errors
    ///
    /// If it is nothing, or several things at once.
    pub fn kind(&self) -> Result<exporter::Config, String> {
        let otlp = self.otlp.clone().map(|config| exporter::Config::Otlp(Box::new(config)));
        let kinds = [
            self.stdout.clone().map(exporter::Config::Stdout),
            self.file.clone().map(exporter::Config::File),
            self.journald.clone().map(exporter::Config::Journald),
            self.syslog.clone().map(exporter::Config::Syslog),
            otlp,
        ];
        let mut kinds = kinds.into_iter().flatten();
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => Ok(kind),
            (None, _) => Err(format!("what it is, is missing; give it one table of {KINDS}")),
            (Some(_), Some(_)) => Err(format!("it is several things at once; give it one table of {KINDS}")),
        }
    }
}

/// What a sink may be.
const KINDS: &str = "stdout, file, journald, syslog, otlp";

fn queue() -> usize {
    16_384
}

fn rate() -> u32 {
    50
}

impl Source {
    /// As the command line would say it.
    ///
    /// # Errors
    ///
    /// If keys exclude each other, or the size of the buffer is none.
    pub fn arguments(&self) -> Result<(SourceArgs, FilterArgs, MemoryArgs), Usage> {
        let buffer = self.buffer.map(|Size(bytes)| units::buffer(&bytes.to_string())).transpose();
        let buffer = buffer.map_err(|why| Usage(format!("source.buffer: {why}")))?;
        let one = [&self.netns, &self.cgroup, &self.container].into_iter().flatten().count() <= 1;
        if !one || self.netns.is_some() && self.container.is_some() {
            return Err(Usage(
                "[source]: netns, cgroup and container exclude each other; leave all but one out".to_owned(),
            ));
        }
        let filter = FilterArgs {
            pid: None,
            local_ports: Vec::new(),
            peer_ports: Vec::new(),
            ipv4: false,
            ipv6: false,
            netns: self.netns.clone(),
            container: self.container.clone(),
            cgroup: self.cgroup.clone(),
        };
        let source =
            SourceArgs { attach: self.attach, buffer, mode: self.mode, stacks: self.stacks, duration: None };
        Ok((source, filter, MemoryArgs { max_connections: self.max_connections }))
    }
}

/// Reads a file.
///
/// # Errors
///
/// If it cannot be read, or has a key or a value that means nothing: one that is ignored would be a setting that
/// somebody believes in.
pub fn read(path: &Path) -> Result<Config, Usage> {
    let config = load(path)?;
    config.check().map_err(|(key, what)| Usage(format!("--config {}: {key}: {what}", shown(path))))?;
    Ok(config)
}

/// Reads a file of which only the single values were looked at: for who has something to put before it, and checks it then.
///
/// # Errors
///
/// If it cannot be read, or has a key or a value that means nothing.
pub fn load(path: &Path) -> Result<Config, Usage> {
    let text = fs::read_to_string(path)
        .map_err(|error| Usage(format!("--config {}: {error}; give a readable file of TOML", shown(path))))?;
    parse(&text).map_err(|error| Usage(format!("--config {}: {error}", shown(path))))
}

/// Reads the text of a file.
///
/// # Errors
///
/// As [`read`]: what is wrong, and in which line or key.
pub fn parse(text: &str) -> Result<Config, String> {
    let at = |span: Option<std::ops::Range<usize>>| {
        span.map_or(1, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1)
    };
    toml::from_str(text).map_err(|error| {
        let what = printable(error.message()).into_owned();
        let line = at(error.span());
        format!(
            "line {line}: {what}; correct it or leave it out, docs/agent.md and docs/findings.md have every key, its unit and its default"
        )
    })
}

impl Config {
    /// What no single value shows to be wrong.
    ///
    /// # Errors
    ///
    /// The key, and what is wrong with it and what to do.
    pub fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, what: &str| Err((key.to_owned(), what.to_owned()));
        if let Some(listen) = self.http.listen
            && !listen.ip().is_loopback()
            && !self.http.allow_remote
        {
            return wrong(
                "http.listen",
                "other hosts reach this address, and anybody there may read what it tells; give one of 127.0.0.0/8 or \
                 [::1], or set http.allow_remote = true (--http-allow-remote), best with http.certificate, http.key \
                 and http.token_file",
            );
        }
        if self.http.certificate.is_some() != self.http.key.is_some() {
            return wrong(
                if self.http.key.is_some() { "http.key" } else { "http.certificate" },
                "a certificate and its key are of no use without each other; give both of http.certificate and http.key",
            );
        }
        if self.report.interval.0 < Duration::from_secs(1) {
            return wrong("report.interval", "sockets are looked at each time; give 1s or more");
        }
        for (name, sink) in &self.sinks {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if name.is_empty() || !name.chars().all(plain) {
                return wrong("sinks", "the name of a sink has letters, digits, `-` and `_` only");
            }
            if sink.queue == 0 || sink.rate == 0 {
                return wrong(&format!("sinks.{name}"), "queue and rate must be 1 or more");
            }
        }
        for (name, sink) in &self.sinks {
            sink.kind().map_err(|why| (format!("sinks.{name}"), why))?;
        }
        if self.sinks.values().filter(|sink| sink.stdout.is_some()).count() > 1 {
            return wrong(
                "sinks",
                "more than one writes to standard output, and would tear each other's lines",
            );
        }
        Ok(())
    }

    /// Labels as the environment has them: `deploy=7,environment=prod`.
    ///
    /// # Errors
    ///
    /// If one has no name.
    pub fn add_labels(&mut self, text: &str) -> Result<(), Usage> {
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
                return Err(Usage(format!(
                    "label `{}`: give NAME=VALUE, several of them with commas between",
                    printable(pair)
                )));
            };
            self.agent.labels.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_has_its_default() {
        assert_eq!(parse("").unwrap(), Config::default());
        let config = parse("[findings.close_wait_leak]\nmin_sockets = 2\n").unwrap();
        assert_eq!(config.findings.close_wait_leak.min_sockets.get(), 2);
        assert_eq!(config.report, Report::default());
        let config = parse("[sinks.a.stdout]\n").unwrap();
        assert_eq!((config.sinks["a"].queue, config.sinks["a"].rate), (16_384, 50));
    }

    #[test]
    fn errors_name_the_line_and_the_remedy() {
        for (text, line, what) in [
            ("[finding]\n", "line 1: ", "unknown field `finding`, expected one of"),
            ("\n[findings.close_wait_leak]\nmin_sokets = 2\n", "line 3: ", "unknown field `min_sokets`"),
            ("[findings]\nclose_share = 2.0\n", "line 2: ", "2 is no share; give a number from 0 to 1"),
            ("[report]\ninterval = 15\n", "line 2: ", "expected a string"),
            ("[report]\ninterval = \"soon\"\n", "line 2: ", "such as 500ms"),
            ("[http]\nlisten = \"localhost\"\n", "line 2: ", "socket address"),
            ("[source]\nmode = \"fast\"\n", "line 2: ", "unknown variant `fast`, expected one of `auto`"),
            ("[sinks.a]\nlevel = \"most\"\n", "line 2: ", "unknown variant `most`"),
            ("[sinks.a.filter]\nstates = [\"OPEN\"]\n", "line 2: ", "OPEN"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(line) && error.contains(what), "{text}: {error}");
            assert!(error.ends_with("have every key, its unit and its default"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_key() {
        for (text, key, what) in [
            ("[http]\nlisten = \"0.0.0.0:9981\"\n", "http.listen: ", "set http.allow_remote = true"),
            ("[http]\nkey = \"/k\"\n", "http.key: ", "give both of http.certificate and http.key"),
            (
                "[http]\ncertificate = \"/c\"\n",
                "http.certificate: ",
                "give both of http.certificate and http.key",
            ),
            ("[report]\ninterval = \"10ms\"\n", "report.interval: ", "give 1s or more"),
            ("[sinks.a]\nlevel = \"all\"\n", "sinks.a: ", "give it one table of stdout, file"),
            ("[sinks.a.stdout]\n[sinks.b.stdout]\n", "sinks: ", "more than one writes to standard output"),
            ("[sinks.a]\nqueue = 0\n[sinks.a.stdout]\n", "sinks.a: ", "must be 1 or more"),
            ("[sinks.\"a b\".stdout]\n", "sinks: ", "letters, digits"),
        ] {
            let (at, what_it_says) = parse(text).unwrap().check().unwrap_err();
            let error = format!("{at}: {what_it_says}");
            assert!(error.starts_with(key) && error.contains(what), "{text}: {error}");
        }
        let allowed = parse("[http]\nlisten = \"0.0.0.0:9981\"\nallow_remote = true\n").unwrap();
        assert_eq!(allowed.check(), Ok(()));
    }

    #[test]
    fn labels_of_the_environment_join_those_of_the_file() {
        let mut config = parse("[agent]\nlabels = { deploy = \"6\", team = \"shop\" }\n").unwrap();
        config.add_labels("deploy=7,zone=b").unwrap();
        let labels: Vec<_> = config.agent.labels.iter().map(|(a, b)| format!("{a}={b}")).collect();
        assert_eq!(labels, ["deploy=7", "team=shop", "zone=b"]);
        assert!(config.add_labels("deploy").unwrap_err().0.contains("NAME=VALUE"));
    }

    /// Asks the parser itself which keys a table has: it lists them when it is given one that does not exist.
    fn keys(table: &str) -> Vec<String> {
        let error = toml::from_str::<Config>(&format!("[{table}]\nno_such_key = 1\n")).unwrap_err();
        let (_, list) = error.message().split_once("expected").unwrap();
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_book_has_every_key() {
        let book = include_str!("../../../docs/agent.md");
        let mut found = 0;
        for table in ["agent", "source", "report", "http", "metrics", "sinks.NAME", "sinks.NAME.filter"] {
            for key in keys(table) {
                let is_table = key == "filter" || KINDS.split(", ").any(|kind| kind == key);
                let key = if is_table { format!("sinks.NAME.{key}") } else { format!("| `{table}.{key}` |") };
                assert!(book.contains(&key), "docs/agent.md does not have {key}");
                found += 1;
            }
        }
        assert!(found > 25, "{found} keys");
        let examples = book.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        for example in examples {
            parse(example).unwrap().check().unwrap();
        }
    }
}
