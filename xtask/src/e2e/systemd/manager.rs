//! systemd's manager of a user's services, started by root for the time of a scenario.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::e2e::stage::{self, Running, Stage};

/// Where the unit can see it, which shows it neither /tmp nor homes.
const FOLDER: &str = "/run/tt-e2e-systemd";

/// The manager; it ends, and everything goes, when this is dropped.
#[derive(Debug)]
pub(super) struct Manager {
    folder: PathBuf,
    running: Running,
}

impl Manager {
    /// With the shipped unit, of which only the paths, the user and the watchdog's patience are others.
    pub(super) fn start(stage: &Stage, unit: &str, config: &str) -> Result<Self> {
        let folder = PathBuf::from(FOLDER);
        remove(&folder)?;
        let units = folder.join("units");
        let program = folder.join("tcp-trace");
        fs::create_dir_all(units.join(format!("{unit}.d")))?;
        fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
        fs::copy(&stage.program, &program)?;
        fs::copy(Stage::repository("deploy/systemd").join(unit), units.join(unit))?;
        let agent = format!("{} agent --config {FOLDER}/agent.toml", program.display());
        let differences = format!(
            "[Service]
ExecStart=
ExecStart={agent}
ExecReload=
ExecReload={agent} --check
ExecReload=/bin/kill -HUP $MAINPID
DynamicUser=no
User=nobody
Group=nogroup
StandardOutput=append:{FOLDER}/lines
StandardError=append:{FOLDER}/log
RestartSec=100ms
WatchdogSec=6s
TimeoutAbortSec=2s
"
        );
        fs::write(units.join(format!("{unit}.d/e2e.conf")), differences)?;
        fs::create_dir_all("/run/systemd")?;
        let script = Stage::repository("xtask/src/e2e/systemd/manager.sh");
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "sh"]).arg(script).arg(&folder);
        let running = stage.start("systemd", &mut command)?;
        let manager = Self { folder, running };
        manager.write_config(config)?;
        stage::until(Duration::from_secs(20), || manager.systemctl(&["daemon-reload"]))?;
        // A system's manager lets every user write there; a user's has one user only.
        fs::set_permissions(manager.folder.join("systemd/notify"), Permissions::from_mode(0o777))?;
        Ok(manager)
    }

    pub(super) fn write_config(&self, text: &str) -> Result<()> {
        fs::write(self.folder.join("agent.toml"), text).context("writing the agent's configuration")
    }

    /// Asks the manager to do something, and waits until it is done.
    pub(super) fn systemctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("systemctl");
        command.arg("--user").args(arguments).env("XDG_RUNTIME_DIR", &self.folder);
        let output = command.output().context("starting systemctl")?;
        if !output.status.success() {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let told: Vec<_> = log.lines().rev().take(5).collect();
            let mut status = Command::new("systemctl");
            status.args(["--user", "show", "-p", "Result,ExecMainStatus,StatusText"]).args(arguments.get(1));
            let status =
                status.env("XDG_RUNTIME_DIR", &self.folder).output().context("starting systemctl")?;
            bail!(
                "systemctl {}: {} {} {told:?}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim(),
                String::from_utf8_lossy(&status.stdout).trim().replace('\n', " "),
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A property of a unit.
    pub(super) fn show(&self, unit: &str, property: &str) -> Result<String> {
        let value = self.systemctl(&["show", unit, "--value", "-p", property])?;
        Ok(value.trim().to_owned())
    }

    /// The process of a unit.
    pub(super) fn pid(&self, unit: &str) -> Result<i32> {
        let pid = self.show(unit, "MainPID")?.parse()?;
        ensure!(pid > 0, "{unit} has no process");
        Ok(pid)
    }

    /// What the agent has written to its standard output.
    pub(super) fn lines(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.folder.join("lines")).unwrap_or_default();
        // The last one may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("reading {line}")))
            .collect()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // Nothing more can be done about what does not go.
        let _ = self.systemctl(&["exit"]);
        let _ = self.running.wait(Duration::from_secs(30));
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let hierarchies = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, kind) = (fields.next()?, fields.next()?);
            matches!(kind, "cgroup" | "cgroup2").then_some(point)
        });
        for hierarchy in hierarchies {
            let own = Path::new(hierarchy).join("tt-e2e-systemd");
            let mut find = Command::new("find");
            find.arg(&own).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
            let _ = find.output();
        }
        let _ = remove(&self.folder);
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}
