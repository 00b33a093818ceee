//! nginx with two workers, haproxy before it, asked by curl and wrk.

use std::{net::Ipv4Addr, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::stage::{Expected, Stage, curl, find, named};
use crate::{
    check::{Check, Outcome},
    child::{Running, children},
};

const NGINX: u16 = 8080;
const STATUS: u16 = 8081;
const HAPROXY: u16 = 8088;

pub(crate) fn run(check: &Check, outcome: &mut Outcome) -> Result<()> {
    let programs = [("nginx", "nginx-light"), ("wrk", "wrk"), ("curl", "curl")];
    let Some([nginx, wrk, curl_]) = find(programs, outcome) else { return Ok(()) };
    let mut stage = Stage::new(check, "web")?;
    let (_server, workers) = start_nginx(&stage, &nginx)?;
    let calls = if check.quick { 20 } else { 200 };
    let curls = curl(&stage, &curl_, Ipv4Addr::LOCALHOST.into(), NGINX, calls)?;
    let seconds = if check.quick { "-d1s" } else { "-d10s" };
    let url = format!("http://127.0.0.1:{NGINX}/");
    let (wrk, said) = stage.run(&wrk, &["-t2", "-c20", seconds, "-H", "Connection: close", &url])?;
    let by_haproxy = through_haproxy(&stage, &curl_, calls, outcome)?;
    let accepted = accepted(&stage, &curl_)?;
    let seen = stage.end(outcome)?;

    let requests = number_before(&said.stdout()?, " requests in ")
        .context("wrk has not said how many requests it made")?;
    outcome.figure("requests that wrk has had an answer to", requests);
    let own = |what, role, port, pids, comm, count| Expected { what, role, port, pids, comm, count };
    // wrk opens a connection again and again until its time is over: only nginx knows how many it has accepted.
    seen.expect(
        &own(
            "connections of nginx, those that it has accepted",
            "server",
            NGINX,
            &workers,
            "nginx",
            accepted - 1,
        ),
        outcome,
    );
    let asked = by_haproxy.as_ref().map_or(0, |_| calls);
    let of_wrk = accepted - 1 - calls - asked;
    outcome.holds("wrk has opened at least as many connections as it has had answers", of_wrk >= requests);
    for (what, pids, comm, count) in
        [("connections of curl", &curls, "curl", calls), ("connections of wrk", &vec![wrk], "wrk", of_wrk)]
    {
        let of_it: Vec<_> =
            seen.at("client", NGINX).filter(|closed| closed["process"]["comm"] == comm).collect();
        outcome.equal(what, of_it.len() as u64, count);
        let is_right = |pid: &serde_json::Value| pids.iter().any(|right| *pid == *right);
        outcome.holds(
            &format!("{what} are its own"),
            of_it.iter().all(|closed| is_right(&closed["process"]["pid"])),
        );
    }
    if let Some((haproxy, clients)) = by_haproxy {
        seen.expect(
            &own("connections that haproxy has accepted", "server", HAPROXY, &haproxy, "haproxy", calls),
            outcome,
        );
        seen.expect(
            &own("connections of curl to haproxy", "client", HAPROXY, &clients, "curl", calls),
            outcome,
        );
        let onward =
            seen.at("client", NGINX).filter(|closed| closed["process"]["comm"] == "haproxy").count() as u64;
        outcome.equal("connections of haproxy to nginx", onward, calls);
    }
    Ok(())
}

fn start_nginx(stage: &Stage<'_>, nginx: &Path) -> Result<(Running, Vec<u32>)> {
    let settings = stage.write(
        "nginx.conf",
        &format!(
            "daemon off; worker_processes 2; pid nginx.pid; error_log stderr crit;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
             server {{ listen 127.0.0.1:{NGINX} backlog=1024; location / {{ return 200 \"a small page\\n\"; }} }}\n\
             server {{ listen 127.0.0.1:{STATUS}; location / {{ stub_status; }} }} }}\n"
        ),
    )?;
    let folder = stage.folder.to_string_lossy().into_owned();
    let mut server = stage.start(nginx, &["-p", &folder, "-c", &settings, "-e", "stderr"])?;
    stage.wait_for(NGINX, &mut server)?;
    let master = server.pid();
    server.until("two workers", || Ok(children(master).len() == 2))?;
    let workers = children(master);
    Ok((server, workers))
}

/// haproxy's processes, and those of who asked it; `None` without it.
fn through_haproxy(
    stage: &Stage<'_>,
    curl_: &Path,
    calls: u64,
    outcome: &mut Outcome,
) -> Result<Option<(Vec<u32>, Vec<u32>)>> {
    let Some([haproxy]) = find([("haproxy", "haproxy")], outcome) else { return Ok(None) };
    let settings = stage.write(
        "haproxy.cfg",
        &format!(
            "global\n  nbthread 2\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n  \
             option httpclose\nfrontend all\n  bind 127.0.0.1:{HAPROXY}\n  default_backend nginx\n\
             backend nginx\n  server one 127.0.0.1:{NGINX}\n"
        ),
    )?;
    let mut server = stage.start(&haproxy, &["-db", "-f", &settings])?;
    stage.wait_for(HAPROXY, &mut server)?;
    named(server.pid(), "haproxy")?;
    let clients = curl(stage, curl_, Ipv4Addr::LOCALHOST.into(), HAPROXY, calls)?;
    Ok(Some((vec![server.pid()], clients)))
}

/// How many connections nginx says it has accepted, this question included.
fn accepted(stage: &Stage<'_>, curl: &Path) -> Result<u64> {
    let (_, ended) = stage.run(curl, &["-s", "-S", "--fail", &format!("http://127.0.0.1:{STATUS}/")])?;
    let text = ended.stdout()?;
    let numbers = text.lines().nth(2).context("stub_status")?;
    let [accepted, handled, _] = numbers.split_ascii_whitespace().collect::<Vec<_>>()[..] else {
        anyhow::bail!("stub_status says {text}");
    };
    ensure!(accepted == handled, "nginx has not handled all that it accepted: {text}");
    accepted.parse().context("stub_status")
}

/// The number before these words.
fn number_before(text: &str, words: &str) -> Option<u64> {
    text.split_once(words)?.0.rsplit(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_requests_is_read() {
        assert_eq!(
            number_before("  Latency 1ms\n  4711 requests in 1.00s, 2MB read", " requests in "),
            Some(4711)
        );
        assert_eq!(number_before("unable to connect", " requests in "), None);
    }
}
