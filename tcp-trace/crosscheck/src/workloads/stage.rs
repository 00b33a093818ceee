//! A namespace, a folder, a recording of everything that happens in the one, kept in the other.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tcp_trace_testkit::{NetNs, sock};

use crate::{
    check::{Check, Outcome, is_whole},
    child::{Ended, Running},
};

/// How long a program may take to listen, or to ask what it was told to ask.
const PATIENCE: Duration = Duration::from_secs(60);
/// The last connections end on their own time.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Stage<'a> {
    check: &'a Check,
    pub(crate) ns: NetNs,
    pub(crate) folder: PathBuf,
    recorder: Option<Running>,
}

/// Every connection that ended, and the report of all.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) closed: Vec<Value>,
    pub(crate) report: Value,
}

/// One end of connections, and whose it has to be.
pub(crate) struct Expected<'a> {
    /// What people read.
    pub(crate) what: &'a str,
    /// `server` at this port, or `client` of it.
    pub(crate) role: &'a str,
    pub(crate) port: u16,
    pub(crate) pids: &'a [u32],
    pub(crate) comm: &'a str,
    /// How many.
    pub(crate) count: u64,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(check: &'a Check, name: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("tcp-trace-crosscheck-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let ns = NetNs::new()?;
        let mut stage = Self { check, ns, folder, recorder: None };
        let (file, netns) = (stage.file("run.tctrace"), stage.ns.inum().to_string());
        stage.recorder = Some(check.tcp_trace(&["record", &file, "--netns", &netns])?);
        Ok(stage)
    }

    /// The path of a file in the folder.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    /// Writes a file in the folder; its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<String> {
        let file = self.file(name);
        fs::write(&file, text).with_context(|| format!("writing {file}"))?;
        Ok(file)
    }

    pub(crate) fn start(&self, program: &Path, arguments: &[&str]) -> Result<Running> {
        Running::start_in(&self.ns, Command::new(program).args(arguments).current_dir(&self.folder))
    }

    /// Runs a program to its good end; its number, and what it said.
    pub(crate) fn run(&self, program: &Path, arguments: &[&str]) -> Result<(u32, Ended)> {
        let running = self.start(program, arguments)?;
        let pid = running.pid();
        Ok((pid, running.wait_within(PATIENCE)?.succeeded()?))
    }

    /// Waits until somebody listens at a port, without connecting to it.
    pub(crate) fn wait_for(&self, port: u16, server: &mut Running) -> Result<()> {
        server.until(&format!("a listener at port {port}"), || {
            let is_it = |entry: &sock::TableEntry| {
                entry.state == sock::TcpState::Listen && entry.local.port() == port
            };
            Ok(sock::table(&self.ns)?.iter().any(is_it))
        })
    }

    /// Ends the recording, and reads what is in it.
    pub(crate) fn end(&mut self, outcome: &mut Outcome) -> Result<Seen> {
        thread::sleep(SETTLE);
        let recorder = self.recorder.take().context("the recording has ended already")?;
        recorder.stop()?.succeeded()?;
        let file = self.file("run.tctrace");
        let report =
            self.check.document(&["report", "--json", "--close-wait-after", "100ms", "--from", &file])?;
        is_whole(&report, outcome);
        let ended =
            self.check.begin(&["stream", "--closed", "--json", "--from", &file])?.wait()?.succeeded()?;
        let mut closed = Vec::new();
        ended.each_line(|line| {
            closed.push(serde_json::from_str(line)?);
            Ok(())
        })?;
        Ok(Seen { closed, report })
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.recorder = None;
        // Nothing better can be done about what cannot be removed.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Seen {
    /// As many connections as the programs say, each of them owned by whom it has to be.
    pub(crate) fn expect(&self, expected: &Expected<'_>, outcome: &mut Outcome) {
        let Expected { what, role, port, pids, comm, count } = expected;
        let mut owners: BTreeMap<String, u64> = BTreeMap::new();
        let mut number = 0;
        for closed in self.at(role, *port) {
            number += 1;
            let process = &closed["process"];
            let pid = process["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            let source = process["owner_source"].as_str().unwrap_or("?");
            *owners.entry(source.to_owned()).or_default() += 1;
            if let Some(pid) = pid {
                // A name may be known later than its process.
                let named = process["comm"].as_str().is_none_or(|name| name == *comm);
                if !pids.contains(&pid) || !named {
                    outcome.difference(format!(
                        "{what}: owned by {process} instead of {comm} ({pids:?}): {closed}"
                    ));
                }
            }
        }
        outcome.equal(what, number, *count);
        let unknown = owners.get("unknown").copied().unwrap_or(0);
        outcome.figure(
            format!("  owners of {what}"),
            format!("{} right, {unknown} not known ({})", number - unknown, list(&owners)),
        );
    }

    /// The connections of a server at a port, or of the clients of it.
    pub(crate) fn at<'s>(&'s self, role: &'s str, port: u16) -> impl Iterator<Item = &'s Value> {
        let end = if role == "server" { "local" } else { "peer" };
        self.closed.iter().filter(move |closed| closed["role"] == role && closed[end]["port"] == port)
    }

    /// How connections ended: nothing but these ways.
    pub(crate) fn endings(&self, role: &str, port: u16, usual: &[&str], outcome: &mut Outcome) {
        let mut endings: BTreeMap<String, u64> = BTreeMap::new();
        for closed in self.at(role, port) {
            *endings.entry(closed["ending"].as_str().unwrap_or("not known").to_owned()).or_default() += 1;
        }
        outcome.figure(format!("  endings of {role}s at port {port}"), list(&endings));
        for (ending, count) in endings.iter().filter(|(ending, _)| !usual.contains(&ending.as_str())) {
            outcome.difference(format!("{count} {role}s at port {port} ended by {ending}; they never do"));
        }
    }
}

fn list(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}

/// Programs, and Debian's packages of them; what is missing is told.
pub(crate) fn find<const N: usize>(
    programs: [(&str, &str); N],
    outcome: &mut Outcome,
) -> Option<[PathBuf; N]> {
    let mut found = [const { PathBuf::new() }; N];
    let mut complete = true;
    for ((name, package), file) in programs.iter().zip(&mut found) {
        match crate::child::find(name) {
            Some(path) => *file = path,
            None => {
                outcome.lack(format!("{name} is not installed (apt-get install {package})"));
                complete = false;
            }
        }
    }
    complete.then_some(found)
}

/// Waits until a name is that of the process: what was forked to be another program is not it at once.
pub(crate) fn named(pid: u32, comm: &str) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let now = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if now.trim_end() == comm {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("process {pid} is called {now:?}, and not {comm}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Asks an HTTP server with curl, in processes one after the other; their numbers.
pub(crate) fn curl(stage: &Stage<'_>, curl: &Path, ip: IpAddr, port: u16, times: u64) -> Result<Vec<u32>> {
    let url = format!("http://{}/", SocketAddr::new(ip, port));
    let one = |_| {
        let (pid, ended) =
            stage.run(curl, &["-s", "-S", "--fail", "-o", "/dev/null", "-w", "%{http_code}", &url])?;
        let code = ended.stdout()?;
        ensure!(code == "200", "curl has got {code} from {url}");
        Ok(pid)
    };
    (0..times).map(one).collect()
}
