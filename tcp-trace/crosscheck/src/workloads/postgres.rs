//! PostgreSQL, asked by pgbench with a connection for each transaction. A backend is forked for each of them: it is the
//! owner, and the server's log says which one.

use std::{collections::HashMap, fs, os::unix::fs::chown, path::PathBuf, process::Command};

use anyhow::{Result, ensure};

use super::stage::{Seen, Stage, find};
use crate::{
    check::{Check, Outcome},
    child::Running,
};

const PORT: u16 = 5432;

pub(crate) fn run(check: &Check, outcome: &mut Outcome) -> Result<()> {
    let Some([pgbench, runuser]) = find([("pgbench", "postgresql"), ("runuser", "util-linux")], outcome)
    else {
        return Ok(());
    };
    let (Some(folder), Some(user)) = (newest(), user("postgres")) else {
        outcome.lack("PostgreSQL is not installed (apt-get install postgresql)");
        return Ok(());
    };
    let mut stage = Stage::new(check, "postgres")?;
    chown(&stage.folder, Some(user), None)?;
    let (data, log) = (stage.file("data"), stage.file("log"));
    let as_user = |program: PathBuf, arguments: &[&str]| {
        let mut command = Command::new(&runuser);
        command.args(["-u", "postgres", "--"]).arg(program).args(arguments).current_dir(&stage.folder);
        command
    };
    let settled = ["-D", &data, "-A", "trust", "-U", "postgres", "--no-sync"];
    Running::start_in(&stage.ns, &mut as_user(folder.join("initdb"), &settled))?.wait()?.succeeded()?;
    let sockets = stage.folder.to_string_lossy().into_owned();
    let port = PORT.to_string();
    let start = format!(
        "exec \"$0\" -D \"$1\" -p {PORT} -h 127.0.0.1 -k \"$2\" -c log_connections=on -c fsync=off \
                         -c log_line_prefix='%p ' 2>\"$3\""
    );
    let postgres = folder.join("postgres").to_string_lossy().into_owned();
    let mut server = Running::start_in(
        &stage.ns,
        &mut as_user("/bin/sh".into(), &["-c", &start, &postgres, &data, &sockets, &log]),
    )?;
    stage.wait_for(PORT, &mut server)?;
    let each = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "postgres"];
    stage.run(&pgbench, &[&["-i", "-q"], &each[..]].concat())?;
    let transactions = if check.quick { "25" } else { "250" };
    let (client, said) =
        stage.run(&pgbench, &[&["-C", "-S", "-n", "-c", "4", "-t", transactions], &each[..]].concat())?;
    let said = said.stdout()?;
    ensure!(said.contains("number of failed transactions: 0"), "pgbench says {said}");
    let seen = stage.end(outcome)?;
    compare(&seen, &fs::read_to_string(&log)?, outcome);
    let of_it = seen.at("client", PORT).filter(|closed| closed["process"]["pid"] == client).count() as u64;
    let asked = 4 * transactions.parse::<u64>()?;
    outcome.figure("connections of pgbench -C, and its transactions", format!("{of_it}, {asked}"));
    outcome.holds(
        "pgbench has a connection for each transaction, and at most a few more",
        (asked..asked + 8).contains(&of_it),
    );
    Ok(())
}

/// `4711 LOG:  connection received: host=127.0.0.1 port=40000`: which backend, and the port at the other end.
fn backends(log: &str) -> HashMap<u64, u64> {
    let read = |line: &str| {
        let (pid, rest) = line.split_once(" LOG:")?;
        let port = rest.split_once("connection received: ")?.1.split_once("port=")?.1;
        Some((port.trim().parse().ok()?, pid.trim().parse().ok()?))
    };
    log.lines().filter_map(read).collect()
}

fn compare(seen: &Seen, log: &str, outcome: &mut Outcome) {
    let backends = backends(log);
    let (mut right, mut unknown, mut number) = (0, 0, 0);
    for closed in seen.at("server", PORT) {
        number += 1;
        let process = &closed["process"];
        let backend = closed["peer"]["port"].as_u64().and_then(|port| backends.get(&port));
        match (process["pid"].as_u64(), backend) {
            (None, Some(_)) => unknown += 1,
            (Some(pid), Some(backend)) if pid == *backend => right += 1,
            _ => {
                outcome
                    .difference(format!("owned by {process} instead of the backend {backend:?}: {closed}"));
            }
        }
    }
    outcome.equal("connections of PostgreSQL, those in its log", number, backends.len() as u64);
    outcome.figure(
        "  of these, owned by the backend that was forked for it",
        format!("{right} right, {unknown} not known"),
    );
}

/// The newest version's programs, as Debian has them.
fn newest() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = |folder: fs::DirEntry| folder.file_name().to_str()?.parse::<u32>().ok();
    let newest = folders.filter_map(|folder| version(folder.ok()?)).max()?;
    let programs = PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"));
    programs.join("postgres").is_file().then_some(programs)
}

/// The number of a user of this host.
fn user(name: &str) -> Option<u32> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_read_from_the_log() {
        let log = "12 LOG:  listening on IPv4\n4711 LOG:  connection received: host=127.0.0.1 port=40000\n\
                   4711 LOG:  connection authorized: user=postgres";
        assert_eq!(backends(log), HashMap::from([(40_000, 4711)]));
    }
}
