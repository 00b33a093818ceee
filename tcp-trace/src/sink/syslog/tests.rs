//! Messages as text, and what becomes of them when nobody listens.

use std::{io::Read as _, net::TcpListener};

use tcp_trace_core::{log::DegradationNotice, session::Degradation, time::WallTime};

use super::*;

fn config(text: &str) -> Config {
    toml::from_str(text).unwrap()
}

fn origin() -> Origin {
    Origin {
        host: "shop-1".to_owned(),
        cluster: Some("eu".to_owned()),
        labels: [("deploy".to_owned(), "a \"b\" [c]\\\n".to_owned())].into(),
    }
}

fn document(reason: &str) -> Document {
    Document::Degradation(DegradationNotice {
        time: WallTime(1_768_446_000_123_456_789),
        degradation: Degradation { feature: "time_wait".into(), reason: reason.into(), remedy: None },
        over: false,
    })
}

fn composed(config: &Config, document: &Document) -> String {
    let mut out = Vec::new();
    Composer::new(config, &origin()).unwrap().compose(&mut out, document);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_message_is_what_the_rfc_says() {
    let message = composed(&config(""), &document("no ]programs\x1b"));
    let pid = std::process::id();
    assert_eq!(
        message,
        format!(
            "<28>1 2026-01-15T03:00:00.123456Z shop-1 tcp-trace {pid} tcp.degradation [tcptrace@32473 cluster=\"eu\" \
             label.deploy=\"a \\\"b\\\" [c\\]\\\\\\\\u{{a}}\" feature=\"time_wait\" over=\"false\" \
             reason=\"no \\]programs\\\\u{{1b}}\"] degraded: time_wait: no ]programs\\u{{1b}}"
        )
    );
    let json = composed(&config("format = 'json'\nfacility = 'local3'\nenterprise = 7"), &document("x"));
    assert!(json.starts_with("<156>1 ") && json.contains("[tcptrace@7 cluster=\"eu\""), "{json}");
    let (_, line) = json.split_once("] {").unwrap();
    let line: serde_json::Value = serde_json::from_str(&format!("{{{line}")).unwrap();
    assert_eq!(line["event"], "tcp.degradation");
}

#[test]
fn no_message_is_larger_than_it_may_be_and_one_that_was_cut_says_so() {
    for format in ["text", "json"] {
        let config = config(&format!("max_size = '600'\nformat = '{format}'"));
        for length in 0..700 {
            let message = composed(&config, &document(&"ä".repeat(length)));
            assert!(message.len() <= 600, "{}", message.len());
            let reason = "ä".repeat(length);
            let whole = match format {
                "json" => message.ends_with('}'),
                _ => {
                    message.contains(&format!("reason=\"{reason}\""))
                        && message.ends_with(&format!(": {reason}"))
                }
            };
            assert!(whole != message.contains(" cut=\"true\"]"), "{message}");
        }
    }
}

#[test]
fn what_cannot_be_is_refused_with_a_remedy() {
    let wrong = |text: &str| toml::from_str::<Config>(text).unwrap_err().to_string();
    assert!(wrong("address = '/dev/log'").contains("give unix:/PATH"));
    assert!(wrong("address = 'tcp:2001:db8::1:601'").contains("tcp:[2001:db8::1]:601"));
    assert!(wrong("address = 'udp:log'").contains("udp:HOST:PORT"));
    assert!(wrong("facility = 'mail'").contains("local0"));
    assert!(wrong("adress = 'udp:log:514'").contains("unknown field"));
    let refused = |text: &str| Syslog::new(&config(text), &origin()).unwrap_err().to_string();
    assert!(refused("app_name = 'tcp trace'").contains("no blank"));
    assert!(refused("max_size = '100'").contains("480 bytes"));
}

#[test]
fn over_tcp_each_message_has_its_length_and_a_broken_connection_is_made_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut syslog = Syslog::new(&config(&format!("address = 'tcp:{address}'")), &origin()).unwrap();
    syslog.send(&[document("one"), document("two")]).unwrap();
    let (mut first, _) = listener.accept().unwrap();
    let mut text = vec![0; 4096];
    let count = first.read(&mut text).unwrap();
    let text = String::from_utf8(text[..count].to_vec()).unwrap();
    let (length, rest) = text.split_once(' ').unwrap();
    let (one, two) = rest.split_at(length.parse().unwrap());
    assert!(one.ends_with("time_wait: one") && two.ends_with("time_wait: two"), "{text}");
    drop(first);
    std::thread::sleep(std::time::Duration::from_millis(50));
    syslog.send(&[document("three")]).unwrap();
    let (mut second, _) = listener.accept().unwrap();
    drop((syslog.flush().unwrap(), listener));
    let mut text = vec![0; 4096];
    let count = second.read(&mut text).unwrap();
    assert!(text[..count].ends_with(b"time_wait: three"));
    // Nobody listens any more.
    drop(second);
    std::thread::sleep(std::time::Duration::from_millis(50));
    let failure = syslog.send(&[document("four")]).unwrap_err();
    assert!(failure.done == 0 && failure.why.contains("does it listen there?"), "{failure:?}");
}
