//! A real server: nginx, asked by wrk for one small page a connection, in the namespace of the load.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tcp_trace_testkit::{NetNs, sock};

use super::Sample;
use crate::child;

const PORT: u16 = 680;
/// Connections that wrk has at a time.
const CONNECTIONS: &str = "8";

/// A server that runs; it ends when this is dropped.
pub(super) struct Web {
    ns: NetNs,
    wrk: PathBuf,
    server: Child,
    folder: PathBuf,
}

impl Web {
    /// Starts the server; the error says what is not installed.
    pub(super) fn start(ns: &NetNs) -> Result<Self> {
        let installed = |name| {
            child::find(name).with_context(|| format!("{name} is not installed (apt-get install {name})"))
        };
        let (nginx, wrk) = (installed("nginx")?, installed("wrk")?);
        let folder = std::env::temp_dir().join(format!("tcp-trace-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let settings = folder.join("nginx.conf");
        fs::write(&settings, configuration()).with_context(|| format!("writing {}", settings.display()))?;
        let mut command = Command::new(nginx);
        command.arg("-p").arg(&folder).arg("-c").arg(&settings).args(["-e", "stderr"]);
        let server = ns.command(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        let mut web = Self { ns: ns.clone(), wrk, server: server.context("starting nginx")?, folder };
        web.wait()?;
        Ok(web)
    }

    fn wait(&mut self) -> Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.ns.run(|| sock::connect(None, address)).is_err() {
            if let Some(status) = self.server.try_wait()? {
                bail!("nginx ended with {status}");
            }
            if Instant::now() > deadline {
                bail!("nginx does not listen");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Asks for so long.
    pub(super) fn load(&mut self, duration: Duration) -> Result<Sample> {
        let seconds = format!("-d{}s", duration.as_secs().max(1));
        let url = format!("http://127.0.0.1:{PORT}/");
        let mut command = Command::new(&self.wrk);
        command.args(["-t1", "-c", CONNECTIONS, &seconds, "--latency", "-H", "Connection: close", &url]);
        let wrk = self.ns.command(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        let output = wrk.context("starting wrk")?.wait_with_output().context("waiting for wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        parse(&text).with_context(|| format!("wrk said: {text}"))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        // SIGTERM has the master end its workers; they would outlive a SIGKILL.
        let _ = kill_process(Pid::from_child(&self.server), Signal::TERM);
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn configuration() -> String {
    format!(
        "daemon off; worker_processes 1; pid nginx.pid; error_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         server {{ listen 127.0.0.1:{PORT} backlog=1024; location / {{ return 200 \"a small page\\n\"; }} }} }}\n"
    )
}

/// Reads wrk's summary: `50%  120.00us`, `99%  1.20ms`, `Requests/sec:  9000.12`.
fn parse(text: &str) -> Option<Sample> {
    let after = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key)).map(str::trim);
    let rate = after("Requests/sec:")?.parse().ok()?;
    Some(Sample {
        rate,
        p50_us: micros(after("50%")?)?,
        p99_us: micros(after("99%")?)?,
        lost: None,
        of_untraced: None,
    })
}

fn micros(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_wrk_is_read() {
        let text = "  Latency Distribution\n     50%  412.00us\n     75%  1.00ms\n     99%    1.25ms\n\
                    Requests/sec:   9000.12\nTransfer/sec:  1.2MB\n";
        let sample = parse(text).unwrap();
        assert_eq!((sample.rate, sample.p50_us, sample.p99_us), (9000.12, 412.0, 1250.0));
        assert!(parse("unable to connect").is_none());
        assert_eq!(micros("1.5s"), Some(1_500_000.0));
    }
}
