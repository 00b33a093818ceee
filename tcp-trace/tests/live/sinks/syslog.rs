//! Syslog: an `rsyslogd` of the test's own.

use std::{fs, path::PathBuf, process::Command, thread, time::Duration};

use serde_json::Value;
use tcp_trace::sink::syslog::{Config, Syslog};
use tcp_trace_core::log::Document;

use super::{Daemon, Folder, eventually, numbered};
use crate::{
    documents::{documents, origin},
    requirements::{Feature, requires},
};

/// Ports that nothing else of these tests uses.
const UDP: u16 = 15_514;
const TCP: u16 = 15_515;

struct Rsyslog {
    folder: Folder,
    daemon: Option<Daemon>,
}

impl Rsyslog {
    fn start() -> Self {
        let folder = Folder::new();
        let path = |name| folder.path(name).display().to_string();
        let config = format!(
            r#"
            global(workDirectory="{}" maxMessageSize="64k")
            module(load="imuxsock" SysSock.Use="off")
            module(load="imudp")
            module(load="imtcp")
            input(type="imuxsock" Socket="{}" UseSpecialParser="off" ParseHostname="on" IgnoreTimestamp="off" UseSysTimeStamp="off")
            input(type="imudp" address="127.0.0.1" port="{UDP}")
            input(type="imtcp" address="127.0.0.1" port="{TCP}")
            template(name="all" type="list") {{ property(name="jsonmesg") constant(value="\n") }}
            action(type="omfile" file="{}" template="all")
            "#,
            folder.0.display(),
            path("socket"),
            path("messages"),
        );
        folder.write("conf", &config);
        let mut rsyslog = Self { folder, daemon: None };
        rsyslog.again();
        rsyslog
    }

    fn again(&mut self) {
        let path = |name| self.folder.path(name);
        let _ = fs::remove_file(path("socket"));
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(path("conf")).arg("-i").arg(path("pid"));
        self.daemon = Some(Daemon::start(&mut command));
        eventually("rsyslogd listens", || {
            (path("socket").exists() && std::net::TcpStream::connect(("127.0.0.1", TCP)).is_ok())
                .then_some(())
        });
    }

    fn stop(&mut self) {
        self.daemon = None;
    }

    fn socket(&self) -> PathBuf {
        self.folder.path("socket")
    }

    /// What it has understood, once there are so many messages.
    fn messages(&self, count: usize) -> Vec<Value> {
        eventually("every message has arrived", || {
            let text = fs::read_to_string(self.folder.path("messages")).unwrap_or_default();
            let ours = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let ours: Vec<Value> = ours.filter(|message| message["app-name"] == "tcp-trace").collect();
            (ours.len() >= count).then_some(ours)
        })
    }
}

fn sink(text: &str) -> Syslog {
    let config: Config = toml::from_str(text).unwrap();
    Syslog::new(&config, &origin()).unwrap()
}

pub(super) fn messages() {
    requires(&[Feature::Rsyslog]);
    let rsyslog = Rsyslog::start();
    let documents = documents();
    let unix = rsyslog.socket().display().to_string();
    let mut expected = 0;
    for (address, json) in [
        (format!("unix:{unix}"), false),
        (format!("udp:127.0.0.1:{UDP}"), false),
        (format!("tcp:127.0.0.1:{TCP}"), false),
        (format!("tcp:127.0.0.1:{TCP}"), true),
    ] {
        let format = if json { "json" } else { "text" };
        let mut sink = sink(&format!("address = '{address}'\nformat = '{format}'\nmax_size = '64k'"));
        // A few at a time, so that no datagram is dropped.
        for part in documents.chunks(20) {
            sink.send(part).unwrap();
            thread::sleep(Duration::from_millis(10));
        }
        expected += documents.len();
        let all = rsyslog.messages(expected);
        let ours = all.get(expected - documents.len()..).unwrap();
        for (document, message) in documents.iter().zip(ours) {
            understood(document, message, json);
        }
    }
}

fn understood(document: &Document, message: &Value, json: bool) {
    assert_eq!(message["msgid"], document.event());
    assert_eq!(message["hostname"], "shop-1");
    assert_eq!(message["syslogfacility"], "3");
    assert_eq!(message["syslogseverity"], document.severity().syslog().to_string());
    assert_eq!(message["timereported"], format!("{:.6}", document.time().timestamp()));
    assert_eq!(message["procid"], std::process::id().to_string());
    let said = message["msg"].as_str().unwrap();
    if json {
        let line: Value = serde_json::from_str(said).unwrap();
        assert_eq!(
            (&line["event"], &line["message"]),
            (&document.event().into(), &document.message().into())
        );
        return;
    }
    assert_eq!(said, document.message());
    let data = message["structured-data"].as_str().unwrap();
    assert!(data.starts_with("[tcptrace@32473 cluster=\"eu-west\" label.deploy=\"2026-01-14.3\""), "{data}");
    for (name, _) in document.fields() {
        assert!(data.contains(&format!(" {name}=\"")), "{name}: {data}");
    }
}

pub(super) fn restarted() {
    requires(&[Feature::Rsyslog]);
    let mut rsyslog = Rsyslog::start();
    let mut sinks = [
        sink(&format!("address = 'tcp:127.0.0.1:{TCP}'\napp_name = 'tcp-trace'")),
        sink(&format!("address = 'unix:{}'", rsyslog.socket().display())),
    ];
    for sink in &mut sinks {
        sink.send(&[numbered(1, "before")]).unwrap();
    }
    rsyslog.messages(2);
    rsyslog.stop();
    thread::sleep(Duration::from_millis(50));
    for sink in &mut sinks {
        let failure = sink.send(&[numbered(2, "meanwhile")]).unwrap_err();
        assert!(failure.done == 0 && failure.why.contains("refused"), "{failure:?}");
    }
    rsyslog.again();
    for sink in &mut sinks {
        sink.send(&[numbered(2, "meanwhile"), numbered(3, "after")]).unwrap();
    }
    let all = rsyslog.messages(6);
    let count = |what: &str| {
        all.iter().filter(|message| message["msg"].as_str().is_some_and(|text| text.ends_with(what))).count()
    };
    assert_eq!([count("before"), count("meanwhile"), count("after")], [2, 2, 2]);
}
