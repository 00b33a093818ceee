//! What becomes of batches, with collectors of every temper.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::collector::{
    logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse},
    metrics::v1::ExportMetricsServiceRequest,
};
use prost::Message as _;
use tcp_trace_core::log::{Document, FindingStep};

use super::{
    documents::{self, cart, leak},
    encoding::snapshot,
    exporter,
    server::{Request, Server, Step, answer},
};
use crate::{
    agent::{
        export::Failure,
        values::{Period, Size},
    },
    sink::otlp::{Compression, Config, Secret, Signal},
};

fn leaks(count: usize) -> Vec<Document> {
    vec![leak(cart(), FindingStep::Opened); count]
}

fn config(server: &Server) -> Config {
    Config { endpoint: server.url(), timeout: Some(Period(Duration::from_millis(500))), ..Config::default() }
}

fn records(request: &Request) -> usize {
    let request = ExportLogsServiceRequest::decode(request.body.as_slice()).unwrap();
    let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    scopes.map(|scope| scope.log_records.len()).sum()
}

/// What becomes of three documents.
fn fate(step: Step) -> Result<(), Failure> {
    let server = Server::new(vec![step]);
    exporter(&config(&server)).send(&leaks(3))
}

#[test]
fn a_request_is_what_otlp_says() {
    let server = Server::new(vec![answer("200 OK")]);
    let headers = BTreeMap::from([("Authorization".to_owned(), Secret("Bearer abc".to_owned()))]);
    exporter(&Config { headers, ..config(&server) }).send(&leaks(3)).unwrap();
    let [request] = &server.received()[..] else { panic!() };
    assert_eq!(request.path, "/v1/logs");
    assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    assert_eq!(request.header("content-encoding"), Some("gzip"));
    assert_eq!(request.header("authorization"), Some("Bearer abc"));
    assert!(request.header("user-agent").unwrap().starts_with("tcp-trace/"));
    assert_eq!(records(request), 3);
    assert!(request.sent < request.body.len(), "{} bytes of {}", request.sent, request.body.len());
}

#[test]
fn nothing_is_compressed_if_that_is_wanted() {
    let server = Server::new(vec![answer("200 OK")]);
    exporter(&Config { compression: Some(Compression::None), ..config(&server) }).send(&leaks(1)).unwrap();
    let [request] = &server.received()[..] else { panic!() };
    assert_eq!((request.header("content-encoding"), request.sent), (None, request.body.len()));
}

#[test]
fn any_2xx_is_success() {
    for status in ["200 OK", "201 Created", "202 Accepted", "204 No Content"] {
        assert_eq!(fate(answer(status)), Ok(()), "{status}");
    }
    let html = Step::Answer("200 OK", "content-type: text/html\r\n", b"<html>welcome".to_vec());
    assert_eq!(fate(html), Ok(()));
    let garbage = Step::Answer("200 OK", "content-type: application/x-protobuf\r\n", vec![0xff; 999]);
    assert_eq!(fate(garbage), Ok(()));
}

#[test]
fn what_may_be_sent_again_is_offered_again() {
    for status in
        ["429 Too Many Requests", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"]
    {
        let failure = fate(Step::Answer(status, "retry-after: 7\r\n", Vec::new())).unwrap_err();
        assert_eq!((failure.done, failure.refused), (0, 0), "{status}");
        assert_eq!(failure.after, Some(Duration::from_secs(7)), "{status}");
        assert!(failure.why.contains(&status[..3]), "{}", failure.why);
    }
}

#[test]
fn what_will_never_be_taken_is_refused() {
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "404 Not Found",
        "415 Unsupported",
        "500 Oops",
        "307 Elsewhere",
    ] {
        let failure = fate(Step::Answer(status, "location: http://198.18.0.1/\r\n", Vec::new())).unwrap_err();
        assert_eq!((failure.done, failure.refused), (3, 3), "{status}");
        assert!(failure.why.contains(&status[..3]), "{}", failure.why);
    }
}

#[test]
fn a_partial_success_is_counted() {
    let partial = ExportLogsPartialSuccess { rejected_log_records: 2, error_message: "too old".to_owned() };
    let body = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let failure = fate(Step::Answer("200 OK", "content-type: application/x-protobuf\r\n", body)).unwrap_err();
    assert_eq!((failure.done, failure.refused), (3, 2));
    assert!(failure.why.contains("too old"), "{}", failure.why);
}

#[test]
fn a_collector_that_is_not_well_costs_the_time_out_at_most() {
    for step in [Step::HangUp, Step::Garbage, Step::Silence] {
        let start = Instant::now();
        let failure = fate(step.clone()).unwrap_err();
        assert_eq!((failure.done, failure.refused), (0, 0), "{step:?}: {failure}");
        assert!(failure.why.contains("/v1/logs"), "{step:?}: {failure}");
        assert!(start.elapsed() < Duration::from_secs(3), "{step:?}: {:?}", start.elapsed());
    }
    // Its answer was 200, whatever became of the rest.
    let start = Instant::now();
    assert_eq!(fate(Step::Drip), Ok(()));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn nobody_there_is_no_loss() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = Config { endpoint: Some(format!("http://{address}")), ..Config::default() };
    let failure = exporter(&config).send(&leaks(3)).unwrap_err();
    assert_eq!((failure.done, failure.refused, failure.after), (0, 0, None));
}

#[test]
fn requests_are_bounded_and_go_in_order() {
    let server = Server::new(vec![answer("200 OK")]);
    let all: Vec<_> = documents::of_the_recording();
    let max = 16 << 10;
    exporter(&Config { max_request: Some(Size(max)), ..config(&server) }).send(&all).unwrap();
    let requests = server.received();
    assert!(requests.len() > 3, "{}", requests.len());
    assert!(requests.iter().all(|request| request.body.len() as u64 <= max || records(request) == 1));
    assert_eq!(requests.iter().map(records).sum::<usize>(), all.len());
    let first_times = requests.iter().map(|request| {
        let request = ExportLogsServiceRequest::decode(request.body.as_slice()).unwrap();
        request.resource_logs[0].scope_logs[0].log_records[0].time_unix_nano
    });
    assert!(first_times.is_sorted());
}

#[test]
fn what_was_sent_before_a_failure_is_not_sent_again() {
    let server = Server::new(vec![answer("200 OK"), answer("400 Bad Request"), answer("503 Unavailable")]);
    let mut exporter = exporter(&Config { max_request: Some(Size(4096)), ..config(&server) });
    let all = leaks(50);
    let failure = exporter.send(&all).unwrap_err();
    let counts: Vec<_> = server.received().iter().map(records).collect();
    assert_eq!(counts.len(), 3);
    assert_eq!((failure.done, failure.refused), (counts[0] + counts[1], counts[1]));
}

#[test]
fn a_request_that_is_too_large_is_sent_in_parts_from_then_on() {
    let server = Server::new(vec![answer("413 Too Large"), answer("413 Too Large"), answer("200 OK")]);
    let mut exporter = exporter(&config(&server));
    exporter.send(&leaks(64)).unwrap();
    let counts: Vec<_> = server.received().iter().map(records).collect();
    assert_eq!((counts[0], counts[2..].iter().sum::<usize>()), (64, 64), "{counts:?}");
    assert!(counts[2..].iter().all(|count| *count <= 17), "{counts:?}");
    exporter.send(&leaks(64)).unwrap();
    assert!(server.received().iter().all(|request| records(request) <= 17));
    // One that is too large by itself is lost, and the others are not.
    let server = Server::new(vec![answer("413 Too Large")]);
    let failure = super::exporter(&config(&server)).send(&leaks(4)).unwrap_err();
    assert_eq!((failure.done, failure.refused), (4, 4));
}

#[test]
fn metrics_have_a_path_of_their_own_and_the_last_ones_are_not_forgotten() {
    let server = Server::new(vec![answer("200 OK")]);
    let mut exporter = exporter(&config(&server));
    exporter.metrics(&snapshot(0)).unwrap();
    exporter.metrics(&snapshot(0)).unwrap();
    let [request] = &server.received()[..] else { panic!() };
    assert_eq!(request.path, "/v1/metrics");
    exporter.flush().unwrap();
    exporter.flush().unwrap();
    let [request] = &server.received()[..] else { panic!("the last metrics are sent once") };
    let request = ExportMetricsServiceRequest::decode(request.body.as_slice()).unwrap();
    assert_eq!(request.resource_metrics[0].scope_metrics[0].metrics.len(), snapshot(0).families.len());
}

#[test]
fn signals_that_are_not_wanted_are_not_sent() {
    let server = Server::new(vec![answer("200 OK")]);
    let mut logs = exporter(&Config { signals: Some(vec![Signal::Logs]), ..config(&server) });
    logs.metrics(&snapshot(0)).unwrap();
    let mut metrics = exporter(&Config { signals: Some(vec![Signal::Metrics]), ..config(&server) });
    metrics.send(&leaks(1)).unwrap();
    assert!(server.received().is_empty());
}

/// What one host costs at the default level: `docs/fleet.md` works with these bounds.
#[test]
fn a_report_is_a_few_kilobytes_and_less_on_the_wire() {
    let server = Server::new(vec![answer("200 OK")]);
    let mut exporter = exporter(&config(&server));
    let reports =
        documents::of_the_recording().into_iter().filter(|document| matches!(document, Document::Report(_)));
    for report in reports {
        exporter.send(&[report]).unwrap();
    }
    for request in server.received() {
        assert!(
            request.body.len() < 16 << 10 && request.sent < 3 << 10,
            "{} {}",
            request.body.len(),
            request.sent
        );
        println!("{} bytes, {} on the wire", request.body.len(), request.sent);
    }
}
