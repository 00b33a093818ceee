//! What the agent answers over HTTP, to whom, and what it does to those who ask otherwise. On a recording: the listener is the
//! same as on a live host.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::{
    agent::{Agent, get, talk, until},
    tracer::{Run, data, run},
};

const TOKEN: &str = "d41d8cd98f00b204e9800998ecf8427e";
/// What a client has done is noticed within this.
const SETTLE: Duration = Duration::from_millis(300);
const NEXT: &str = "9e107d9d372bb6826bd81d3542a419d6";

/// A folder of a test's own, with the certificates in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("http-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let folder = Self(path);
        for file in ["server.pem", "renewed.pem", "expired.pem", "elsewhere.pem", "server.key", "renewed.key"]
        {
            folder.write(file, &fs::read_to_string(data("tls").join(file)).unwrap());
        }
        folder.write("tokens", TOKEN);
        folder
    }

    /// Files that nobody else may read.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        self.chmod(name, 0o600);
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A configuration with these keys of `[http]`, files by their names here.
    fn config(&self, files: &[(&str, &str)]) -> PathBuf {
        let mut text = "[http]\nlisten = \"127.0.0.1:0\"\n".to_owned();
        for (key, name) in files {
            text += &format!("{key} = \"{}\"\n", self.path(name).display());
        }
        self.write("agent.toml", &text);
        self.path("agent.toml")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const TLS: [(&str, &str); 2] = [("certificate", "server.pem"), ("key", "server.key")];
const BOTH: [(&str, &str); 3] = [TLS[0], TLS[1], ("token_file", "tokens")];

fn start(config: &Path) -> Agent {
    Agent::start(config, &data("incident.tctrace"))
}

#[track_caller]
fn assert_status(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "not {status}: {answer}");
}

#[test]
fn metrics_are_for_those_who_have_a_token() {
    let folder = Folder::new("tokens");
    let agent = start(&folder.config(&[("token_file", "tokens")]));
    let ask = |path: &str, token| talk(&mut agent.plain(), &get(path, token)).unwrap();
    for path in ["/metrics", "/", "/nowhere"] {
        let answer = ask(path, None);
        assert_status(&answer, 401);
        assert!(answer.contains("\r\nwww-authenticate: Bearer realm=\"tcp-trace\"\r\n"), "{answer}");
        let answer = ask(path, Some(NEXT));
        assert_status(&answer, 401);
        assert!(answer.contains("realm=\"tcp-trace\", error=\"invalid_token\"\r\n"), "{answer}");
        assert!(!answer.contains("tcp_trace_"), "{answer}");
    }
    let answer = ask("/metrics", Some(TOKEN));
    assert_status(&answer, 200);
    assert!(answer.contains("tcp_trace_transitions_total{"), "{answer}");
    assert_status(&ask("/nowhere", Some(TOKEN)), 404);
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_status(&ask(path, None), 200);
    }
    let said = agent.stop();
    assert!(said.contains("/metrics (with a token)\n"), "{said}");
    assert_eq!(said.matches("was refused").count(), 1, "said once a minute: {said}");
    assert!(said.contains("HTTP: 127.0.0.1: a request without a token was refused\n"), "{said}");
    assert!(!said.contains(TOKEN) && !said.contains(NEXT), "{said}");
}

#[test]
fn over_tls_it_is_known_by_its_certificate() {
    let folder = Folder::new("tls");
    let agent = start(&folder.config(&BOTH));
    assert_status(&agent.tls().ask(&get("/metrics", None)).unwrap().1, 401);
    assert_status(&agent.tls().ask(&get("/metrics", Some(NEXT))).unwrap().1, 401);
    let (shown, answer) = agent.tls().ask(&get("/metrics", Some(TOKEN))).unwrap();
    assert_status(&answer, 200);
    assert_eq!(shown, CertificateDer::from_pem_file(data("tls/server.pem")).unwrap());
    assert_status(&agent.tls().ask(&get("/readyz", None)).unwrap().1, 200);
    // A client as there are many; and one that does not know the authority.
    let url = format!("https://{}/metrics", agent.address);
    let client = |roots| {
        let tls = ureq::tls::TlsConfig::builder().root_certs(roots).build();
        ureq::Agent::config_builder().tls_config(tls).build().new_agent()
    };
    let authority = ureq::tls::Certificate::from_pem(&fs::read(data("tls/ca.pem")).unwrap()).unwrap();
    let knows = client(ureq::tls::RootCerts::new_with_certs(&[authority]));
    let answer = knows.get(&url).header("Authorization", format!("Bearer {TOKEN}")).call().unwrap();
    assert_eq!(answer.status(), 200);
    let error = client(ureq::tls::RootCerts::WebPki).get(&url).call().unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
    // Whoever speaks plain HTTP is told what to do, and gets nothing.
    let answer = talk(&mut agent.plain(), &get("/metrics", Some(TOKEN))).unwrap();
    assert_status(&answer, 400);
    assert!(answer.ends_with("this port speaks TLS; use https://\n"), "{answer}");
    thread::sleep(SETTLE);
    let said = agent.stop();
    assert!(said.contains("its metrics stay on https://127.0.0.1:"), "{said}");
    assert!(said.contains("HTTP: 127.0.0.1: it speaks plain HTTP where TLS is spoken"), "{said}");
    assert!(said.contains("no TLS connection came about: "), "{said}");
}

#[test]
fn a_certificate_that_clients_turn_down_is_told_of() {
    let folder = Folder::new("turned-down");
    for (certificate, expected, warned) in [
        ("expired.pem", "certificate expired", "it has expired"),
        ("elsewhere.pem", "not valid for name", ""),
    ] {
        let agent = start(&folder.config(&[("certificate", certificate), TLS[1]]));
        let error = agent.tls().ask(&get("/metrics", None)).unwrap_err();
        assert!(error.contains(expected), "{certificate}: {error}");
        thread::sleep(SETTLE);
        let said = agent.stop();
        assert!(
            said.contains(warned) && said.contains("no TLS connection came about"),
            "{certificate}: {said}"
        );
    }
}

#[test]
fn tls_where_there_is_none_is_told_of() {
    let folder = Folder::new("no-tls");
    let agent = start(&folder.config(&[]));
    agent.tls().ask(&get("/metrics", None)).unwrap_err();
    assert_status(&talk(&mut agent.plain(), &get("/metrics", None)).unwrap(), 200);
    let said = agent.stop();
    assert!(said.contains("it speaks TLS, for which http.certificate and http.key are not set"), "{said}");
}

#[test]
fn files_that_would_not_do_are_refused_with_a_remedy() {
    let folder = Folder::new("refused");
    folder.write("open.key", &fs::read_to_string(folder.path("server.key")).unwrap());
    folder.chmod("open.key", 0o644);
    folder.write("open-tokens", TOKEN);
    folder.chmod("open-tokens", 0o660);
    folder.write("short", "secret\n");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for (files, what) in [
        (&[("certificate", "renewed.pem"), TLS[1]][..], "is not the key of the certificate"),
        (
            &[TLS[0], ("key", "open.key")],
            "open.key: its mode 0644 lets others read or change it; run `chmod 0640`",
        ),
        (&[TLS[0], ("key", "server.pem")], "no private key in PEM"),
        (&[("certificate", "server.key"), TLS[1]], "there is no certificate in PEM in it"),
        (&[("certificate", "nowhere.pem"), TLS[1]], "nowhere.pem: No such file"),
        (&[TLS[0]], "give both of http.certificate and http.key"),
        (&[("token_file", "open-tokens")], "its mode 0660 lets others"),
        (
            &[("token_file", "short")],
            "token 1: it is shorter than 16 characters; make one with `openssl rand -hex 32`",
        ),
        (&[("token_file", "pipe")], "it is no regular file"),
        (&[("token_file", ".")], "it is no regular file"),
    ] {
        let config = folder.config(files);
        let Run { code, stdout, stderr } = run(&format!("agent --check --config {}", config.display()));
        assert!(matches!(code, Some(1 | 2)) && stdout.is_empty(), "{files:?}: {code:?}");
        assert!(stderr.contains("http.") && stderr.contains(what), "{files:?}: {stderr}");
    }
    // As Kubernetes has them: a link to what only a group may read.
    folder.chmod("tokens", 0o440);
    symlink(folder.path("tokens"), folder.path("link")).unwrap();
    let config = folder.config(&[("token_file", "link")]);
    let Run { code, stderr, .. } = run(&format!("agent --check --config {}", config.display()));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("metrics on http://127.0.0.1:0/metrics, for those who have a token"), "{stderr}");
}

#[test]
fn what_other_hosts_reach_takes_a_word() {
    for address in ["0.0.0.0:9981", "[::]:9981", "198.18.0.1:9981"] {
        let command = format!("agent --check --http-listen {address}");
        let refused = run(&command);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("(--http-allow-remote)"), "{refused:?}");
        let allowed = run(&format!("{command} --http-allow-remote"));
        assert_eq!(allowed.code, Some(0), "{allowed:?}");
    }
    let folder = Folder::new("remote");
    folder.write("agent.toml", "[http]\nlisten = \"0.0.0.0:0\"\n");
    let command = format!("agent --check --config {}", folder.path("agent.toml").display());
    let refused = run(&command);
    assert!(
        refused.code == Some(2) && refused.stderr.contains("agent.toml: http.listen: other hosts"),
        "{refused:?}"
    );
    assert_eq!(run(&format!("{command} --http-allow-remote")).code, Some(0), "a flag goes before the file");
    let tokens = folder.path("tokens");
    folder.write(
        "agent.toml",
        &format!(
            "[http]\nlisten = \"0.0.0.0:0\"\nallow_remote = true\ntoken_file = \"{}\"\n",
            tokens.display()
        ),
    );
    let open = run(&command);
    assert!(
        open.code == Some(0) && open.stderr.contains("without TLS anybody on the way can read"),
        "{open:?}"
    );
}

#[test]
fn a_new_certificate_and_a_new_token_cost_no_scrape() {
    const ROUNDS: usize = 6;
    let folder = Folder::new("renewed");
    let agent = start(&folder.config(&BOTH));
    let certificates = ["server.pem", "renewed.pem"]
        .map(|name| CertificateDer::from_pem_file(data("tls").join(name)).unwrap());
    let keys = ["server.key", "renewed.key"].map(|name| fs::read_to_string(data("tls").join(name)).unwrap());
    let pems = ["server.pem", "renewed.pem"].map(|name| fs::read_to_string(data("tls").join(name)).unwrap());
    // Who was there before is answered as it was before.
    let mut early = agent.tls();
    early.shake_hands().unwrap();
    folder.write("tokens", &format!("{TOKEN}\n{NEXT}\n"));
    for round in 0..ROUNDS {
        let which = (round + 1) % 2;
        folder.write("server.pem", &pems[which]);
        folder.write("server.key", &keys[which]);
        agent.signal(Signal::HUP);
        until("the new certificate", || {
            let (shown, answer) = agent.tls().ask(&get("/metrics", Some(TOKEN))).unwrap();
            assert_status(&answer, 200);
            (shown == certificates[which]).then_some(())
        });
        assert_status(&agent.tls().ask(&get("/metrics", Some(NEXT))).unwrap().1, 200);
    }
    // A certificate without its key: it is said, and the old one holds.
    folder.write("server.pem", &pems[1]);
    agent.signal(Signal::HUP);
    thread::sleep(SETTLE);
    let (shown, answer) = agent.tls().ask(&get("/metrics", Some(TOKEN))).unwrap();
    assert_status(&answer, 200);
    assert_eq!(shown, certificates[0]);
    // The old token goes.
    folder.write("server.pem", &pems[0]);
    folder.write("tokens", NEXT);
    agent.signal(Signal::HUP);
    until("the old token is refused", || {
        let (_, answer) = agent.tls().ask(&get("/metrics", Some(TOKEN))).unwrap();
        answer.starts_with("HTTP/1.1 401 ").then_some(())
    });
    assert_status(&agent.tls().ask(&get("/metrics", Some(NEXT))).unwrap().1, 200);
    let (shown, answer) = early.ask(&get("/metrics", Some(TOKEN))).unwrap();
    assert_status(&answer, 200);
    assert_eq!(shown, certificates[0]);
    let said = agent.stop();
    assert!(said.contains("not taken; the old one holds: http.key: "), "{said}");
}

/// Somebody who holds many connections and says nothing, or little, or too much.
#[test]
fn nobody_can_keep_others_out() {
    let folder = Folder::new("crowd");
    let agent = start(&folder.config(&[]));
    let mut idle: Vec<_> = (0..80).map(|_| agent.plain()).collect();
    for (number, stream) in idle.iter_mut().enumerate() {
        // Some of them have been ended by now.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: 1".get(..number % 30).unwrap());
    }
    let start = Instant::now();
    assert_status(&talk(&mut agent.plain(), &get("/metrics", None)).unwrap(), 200);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let long = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: x\r\n".repeat(65));
    for request in [long, many] {
        let answer = talk(&mut agent.plain(), &request).unwrap_or_default();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    // One request a connection: the second one is not answered.
    let answer = talk(&mut agent.plain(), &get("/healthz", None).repeat(2)).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let answer =
        talk(&mut agent.plain(), "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_status(&answer, 405);
    let said = agent.stop();
    assert!(said.contains("all connections are taken, and the oldest one was ended for this one"), "{said}");
}
