//! The sinks of an agent. Each has a grammar of its own, and is read by it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::Path,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
};
use prost::Message as _;

use super::{Folder, HARMLESS, each, lines, recording, toml_string};
use crate::{
    agent::{Agent, get, talk},
    poison::{MARK, assert_harmless, text},
    schema::Schema,
};

/// What an agent has told all its sinks.
struct Told {
    lines: String,
    journal: Vec<Vec<u8>>,
    syslog: Vec<Vec<u8>>,
    metrics: [String; 2],
    otlp: Vec<KeyValue>,
}

fn datagrams(socket: &UnixDatagram) -> Vec<Vec<u8>> {
    let (mut found, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    socket.set_nonblocking(true).expect("a socket");
    while let Ok(length) = socket.recv(&mut buffer) {
        found.push(buffer[..length].to_vec());
    }
    found
}

fn agent(folder: &Folder, recording: &Path, name: &str) -> Told {
    let [config, file, journal, syslog] =
        ["agent.toml", "log.jsonl", "journal", "syslog"].map(|name| folder.0.join(name));
    for path in [&file, &journal, &syslog] {
        let _ = fs::remove_file(path);
    }
    let sockets = [&journal, &syslog].map(|path| UnixDatagram::bind(path).expect("a socket"));
    // A receiver of its own for each, since the queue of a socket has room for a few datagrams only.
    let [journal, syslog] = sockets.map(|socket| {
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
        let (stop, stopped) = channel::<()>();
        let reading = thread::spawn(move || {
            let (mut found, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
            while stopped.try_recv().is_err() {
                if let Ok(length) = socket.recv(&mut buffer) {
                    found.push(buffer[..length].to_vec());
                }
            }
            found.extend(datagrams(&socket));
            found
        });
        (stop, reading)
    });
    let sink =
        |name: &str| format!("[sinks.{name}]\nlevel = \"all\"\nrate = 1000000\n[sinks.{name}.{name}]\n");
    let (collector, sent) = collector();
    let text = format!(
        "[agent]\ncluster = {0}\nlabels = {{ deploy = {0} }}\n[http]\nlisten = \"127.0.0.1:0\"\n[report]\ninterval = \"5s\"\n\
         {1}path = \"{2}\"\n{3}socket = \"{4}/journal\"\n{5}address = \"unix:{4}/syslog\"\n\
         {6}endpoint = \"http://{collector}\"\nsignals = [\"logs\"]\ncompression = \"none\"\n",
        toml_string(name),
        sink("file"),
        file.display(),
        sink("journald"),
        folder.0.display(),
        sink("syslog"),
        sink("otlp"),
    );
    fs::write(&config, text).expect("a file");
    let agent = Agent::start(&config, recording);
    let metrics = ["text/plain", "application/openmetrics-text"].map(|accept| {
        let request = get("/metrics", None).replace("Host: ", &format!("Accept: {accept}\r\nHost: "));
        let answer = talk(&mut agent.plain(), &request).expect("an answer");
        answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
    });
    let said = agent.stop();
    assert_harmless("what the agent says", &said);
    assert!(!said.contains("were lost"), "{said}");
    let [journal, syslog] = [journal, syslog].map(|(stop, reading)| {
        let _ = stop.send(());
        reading.join().expect("it reads")
    });
    Told {
        lines: fs::read_to_string(&file).expect("lines"),
        journal,
        syslog,
        metrics,
        otlp: attributes(&sent),
    }
}

/// A collector that is content with everything; what it gets, comes out of the other end.
fn collector() -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), sender) = (stream, sender.clone()) else { return };
            thread::spawn(move || collect(&stream, &sender));
        }
    });
    (address, receiver)
}

fn collect(mut stream: &TcpStream, sender: &Sender<Vec<u8>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        while reader.read_line(&mut line).unwrap_or(0) > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            line.clear();
        }
        let mut body = vec![0; length];
        if line.is_empty() || reader.read_exact(&mut body).is_err() || sender.send(body).is_err() {
            return;
        }
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Everything that is said of resources and records, and what they say.
fn attributes(sent: &Receiver<Vec<u8>>) -> Vec<KeyValue> {
    let mut all = Vec::new();
    while let Ok(body) = sent.try_recv() {
        let request = ExportLogsServiceRequest::decode(&*body).expect("a request");
        for part in request.resource_logs {
            all.extend(part.resource.into_iter().flat_map(|resource| resource.attributes));
            for record in part.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                all.push(KeyValue { key: "body".to_owned(), value: record.body, key_strindex: 0 });
                all.extend(record.attributes);
            }
        }
    }
    all
}

/// The texts of a value, however deep.
fn texts(value: Option<&AnyValue>, found: &mut Vec<String>) {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => found.push(text.clone()),
        Some(Any::ArrayValue(list)) => list.values.iter().for_each(|value| texts(Some(value), found)),
        Some(Any::KvlistValue(list)) => list.values.iter().for_each(|pair| {
            found.push(pair.key.clone());
            texts(pair.value.as_ref(), found);
        }),
        _ => {}
    }
}

#[test]
fn an_agent_tells_each_sink_of_names_in_its_own_way() {
    let folder = Folder::new("agent");
    let expected = agent(&folder, recording("agent", HARMLESS).path(), &text(HARMLESS));
    assert!(expected.journal.len() > 100 && expected.syslog.len() > 100, "{}", expected.journal.len());
    let journal = |told: &Told| -> Vec<Vec<String>> {
        told.journal.iter().map(|entry| entry_fields(entry).expect("an entry")).collect()
    };
    let names = journal(&expected);
    let series = expected.metrics.each_ref().map(|text| series(text).expect("an exposition"));
    each("agent", |what, name, recording| {
        let told = agent(&folder, recording.path(), &text(name));
        assert_harmless(what, &told.lines);
        let documents = Schema::of_logs().documents(&told.lines);
        assert_eq!(documents.len(), lines(&expected.lines), "{what}");
        assert_eq!(documents[0]["labels"]["deploy"], text(name), "{what}");
        // What is larger than a datagram may be comes as a file, and an empty datagram with it.
        let entries = journal(&told);
        assert_eq!(entries.len(), names.len(), "{what}");
        let differs = entries.iter().zip(&names).find(|(entry, names)| !entry.is_empty() && entry != names);
        assert_eq!(differs, None, "{what}");
        assert_eq!(told.syslog.len(), expected.syslog.len(), "{what}");
        for message in &told.syslog {
            check_syslog(what, message);
        }
        let mut found = Vec::new();
        told.otlp.iter().for_each(|pair| texts(pair.value.as_ref(), &mut found));
        found.iter().for_each(|text| assert_harmless(what, text));
        assert_eq!(told.otlp.len(), expected.otlp.len(), "{what}");
        assert!(found.iter().any(|text| text.starts_with(MARK)), "{what}: {found:?}");
        for (text, expected) in told.metrics.iter().zip(&series) {
            assert_harmless(what, text);
            assert_eq!(self::series(text).as_ref(), Some(expected), "{what}: {text}");
            assert!(text.contains(&format!("=\"{MARK}")), "{what}: {text}");
        }
    });
}

/// The names of the fields of an entry, in order, and the texts in them that people see looked at; `None` if it is no entry.
fn entry_fields(mut entry: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while !entry.is_empty() {
        let end = entry.iter().position(|byte| matches!(byte, b'\n' | b'='))?;
        let name = String::from_utf8(entry[..end].to_vec()).ok()?;
        let (value, rest) = if entry[end] == b'=' {
            let rest = &entry[end + 1..];
            rest.split_at(rest.iter().position(|byte| *byte == b'\n')?)
        } else {
            let (length, rest) = entry[end + 1..].split_first_chunk()?;
            rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?
        };
        entry = rest.strip_prefix(b"\n")?;
        let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            return None;
        }
        assert_harmless(&name, std::str::from_utf8(value).ok()?);
        names.push(name);
    }
    Some(names)
}

/// `<PRI>1 TIME HOST APP PROCID MSGID [ID NAME="VALUE"…] MSG` (RFC 5424, 6).
#[track_caller]
fn check_syslog(what: &str, message: &[u8]) {
    let message = std::str::from_utf8(message).expect("UTF-8");
    assert_harmless(what, message);
    assert!(!message.contains('\n'), "{what}: {message}");
    let mut parts = message.splitn(7, ' ');
    let header: Vec<_> = parts.by_ref().take(6).collect();
    assert!(header[0].starts_with('<') && header[0].ends_with(">1"), "{what}: {message}");
    assert!(
        header[2].bytes().all(|byte| byte.is_ascii_graphic()) && header[5].starts_with("tcp."),
        "{what}: {message}"
    );
    let mut rest = parts.next().and_then(|rest| rest.strip_prefix("[tcptrace@32473")).expect("data");
    while let Some(parameter) = rest.strip_prefix(' ') {
        let (name, value) = parameter.split_once("=\"").expect("a parameter");
        assert!(
            name.len() <= 32 && name.bytes().all(|b| b.is_ascii_graphic() && !b"=]\"".contains(&b)),
            "{name}"
        );
        let mut escaped = false;
        let end = value.find(|c| {
            let ends = !escaped && c == '"';
            assert!(escaped || c != ']', "{what}: {message}");
            escaped = !escaped && c == '\\';
            ends
        });
        rest = &value[end.expect("its end") + 1..];
    }
    assert!(rest.starts_with("] "), "{what}: {message}");
}

/// Each line's name and the names of its labels, without their values; `None` if one is no line of an exposition.
fn series(text: &str) -> Option<Vec<String>> {
    let mut found: Vec<_> = text.lines().map(sample).collect::<Option<_>>()?;
    // In the order of their values.
    found.sort();
    Some(found)
}

fn sample(line: &str) -> Option<String> {
    if line.starts_with("# ") {
        return Some(line.to_owned());
    }
    let end = line.find(['{', ' '])?;
    let (mut name, mut rest) = (line[..end].to_owned(), &line[end..]);
    if let Some(labels) = rest.strip_prefix('{') {
        rest = labels;
        loop {
            let (label, value) = rest.split_once("=\"")?;
            name += &format!(" {label}");
            let mut characters = value.char_indices();
            let end = loop {
                match characters.next()? {
                    (at, '"') => break at,
                    (_, '\\') => matches!(characters.next()?.1, '\\' | '"' | 'n').then_some(())?,
                    _ => {}
                }
            };
            rest = &value[end + 1..];
            match rest.split_at_checked(1)? {
                (",", more) => rest = more,
                ("}", more) => break rest = more,
                _ => return None,
            }
        }
    }
    rest.strip_prefix(' ')?.parse::<f64>().ok().map(|_| name)
}
