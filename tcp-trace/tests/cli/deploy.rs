//! What is shipped beside the program: configurations that it takes, a unit that systemd takes, manifests that belong
//! together. `cargo xtask e2e` runs them; this keeps them from rotting meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::tracer;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap()
}

/// A folder of a test's own.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploy").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn check(config: &Path) {
    tracer::run(&format!("agent --check --config {}", config.display())).good();
}

#[test]
fn the_shipped_configurations_are_right() {
    check(&file("config/agent.toml"));
    check(&file("kubernetes/base/agent.toml"));
}

#[test]
fn every_key_that_is_shown_is_right() {
    let shown: String = text("config/agent.toml")
        .lines()
        // `# ` begins a sentence, `#` a key or a table.
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .fold(String::new(), |text, line| text + line + "\n");
    assert!(shown.contains("\nclient_key = ") && shown.contains("\n[sinks.lines.stdout]\n"));
    // These files are the operator's; that they are missing is another error.
    let shown: Vec<&str> = shown
        .lines()
        .filter(|line| !line.contains("/etc/tcp-trace/") && !line.contains("/run/netns/"))
        .collect();
    let config = scratch("keys").join("agent.toml");
    fs::write(&config, shown.join("\n")).unwrap();
    check(&config);
}

/// Those of the unit and its drop-ins, as systemd would read them on a host that has the program.
fn units(name: &str, with: &[&str]) -> PathBuf {
    let folder = scratch(name);
    let unit = text("systemd/tcp-trace.service")
        .replace("=/usr/bin/tcp-trace", "=/bin/true")
        .replace("file:/usr/share/doc/tcp-trace/deploy.md", "https://example.com/");
    let drop_ins = folder.join("tcp-trace.service.d");
    fs::create_dir_all(&drop_ins).unwrap();
    for drop_in in with {
        fs::write(drop_ins.join(drop_in), text(&format!("systemd/drop-ins/{drop_in}"))).unwrap();
    }
    let path = folder.join("tcp-trace.service");
    fs::write(&path, unit).unwrap();
    path
}

/// `None`, and why, where there is no `systemd-analyze` that can do this.
fn analyze(arguments: &[&str], unit: &Path) -> Option<String> {
    let version = Command::new("systemd-analyze").arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let number: u32 = version.split_whitespace().nth(1)?.parse().ok()?;
    if number < 252 {
        eprintln!("skipped: systemd {number} cannot look at a unit that is not installed");
        return None;
    }
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output().unwrap();
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "systemd-analyze {arguments:?}: {told}");
    Some(told)
}

#[test]
fn the_unit_is_what_systemd_takes() {
    for (name, with) in [("plain", &[][..]), ("all", &["other-namespaces.conf", "rootless-containers.conf"])]
    {
        let unit = units(name, with);
        match analyze(&["verify"], &unit) {
            // What it only warns of is shown, and is no failure to it.
            Some(told) => assert_eq!(told.trim(), "", "{name}"),
            None => eprintln!("skipped: no systemd-analyze"),
        }
    }
}

#[test]
fn the_units_exposure_stays_small() {
    // 0.1 units, as `--threshold` has them.
    let told =
        analyze(&["security", "--no-pager", "--offline=yes", "--threshold=30"], &units("exposure", &[]));
    if told.is_none() {
        eprintln!("skipped: no systemd-analyze");
    }
}

#[test]
fn the_unit_and_the_daemon_set_are_given_the_same() {
    let unit = text("systemd/tcp-trace.service");
    let line = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
    let mut of_unit: Vec<String> = line("AmbientCapabilities=").split(' ').map(str::to_owned).collect();
    assert_eq!(line("CapabilityBoundingSet="), line("AmbientCapabilities="));
    let set = text("kubernetes/base/daemonset.yaml");
    let (_, added) = set.split_once("add:\n").unwrap();
    let added = added.lines().take_while(|line| line.starts_with("                "));
    let mut of_pod: Vec<String> =
        added.filter_map(|line| line.trim().strip_prefix("- ")).map(|name| format!("CAP_{name}")).collect();
    of_unit.sort();
    of_pod.sort();
    assert_eq!(of_unit, of_pod);
    assert!(!of_unit.contains(&"CAP_SYS_ADMIN".to_owned()), "only by a drop-in or a component");
}
