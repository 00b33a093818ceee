//! `docs/metrics.md` has every metric of the catalogue, and the sizes that are measured here.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use tcp_trace::sink::prometheus::{Format, expose};
use tcp_trace_core::metrics::{CATALOGUE, Kind, Metric, Question};

use crate::{Entry, golden, root, source};

pub(crate) const TESTS: &[Entry] =
    &[("it_has_the_catalogue_and_the_sizes", None, it_has_the_catalogue_and_the_sizes)];

const QUESTIONS: [Question; 7] = [
    Question::Findings,
    Question::Activity,
    Question::HalfOpen,
    Question::CloseWait,
    Question::Ports,
    Question::Lives,
    Question::Own,
];

/// The parts between `<!-- NAME -->` and `<!-- /NAME -->` are written here; the rest is the author's.
fn it_has_the_catalogue_and_the_sizes() {
    let path = root().join("docs/metrics.md");
    let mut text = fs::read_to_string(&path).unwrap();
    for (name, part) in [("catalogue", catalogue()), ("labels", labels()), ("sizes", sizes())] {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
        let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
        text = format!("{before}{begin}{part}{end}{after}");
    }
    golden(&path, &text);
}

fn catalogue() -> String {
    let mut text = String::new();
    for question in QUESTIONS {
        let _ = writeln!(text, "\n### {}\n", question.words());
        let _ = writeln!(
            text,
            "| Prometheus, OpenTelemetry | type | unit | labels | meaning |\n|---|---|---|---|---|"
        );
        for metric in CATALOGUE.iter().filter(|metric| metric.question == question) {
            let Metric { otel_name, otel_unit, kind, labels, help, .. } = metric;
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
                Kind::Info => "info",
            };
            let labels: Vec<_> = labels.iter().map(|label| format!("`{}`", label.name)).collect();
            let _ = writeln!(
                text,
                "| `{}`<br>`{otel_name}` | {kind} | `{otel_unit}` | {} | {help} |",
                metric.prometheus_name(),
                labels.join(" ")
            );
        }
    }
    text.push('\n');
    text
}

fn labels() -> String {
    let all: BTreeMap<_, _> =
        CATALOGUE.iter().flat_map(|metric| metric.labels).map(|label| (label.name, label)).collect();
    let mut text = "\n| Prometheus | OpenTelemetry | what it says |\n|---|---|---|\n".to_owned();
    for (name, label) in all {
        let _ = writeln!(text, "| `{name}` | `{}` | {} |", label.otel, label.meaning);
    }
    text.push('\n');
    text
}

fn sizes() -> String {
    let mut text = "\n| host | series | bytes a scrape |\n|---|---:|---:|\n".to_owned();
    for (what, snapshot) in [
        ("idle, one sink", source::idle()),
        ("the recording of an incident in the tests, one sink", source::snapshot()),
        ("every table of owners, listeners and destinations full, five sinks", source::full()),
    ] {
        let bytes = expose(&snapshot, Format::Text).len();
        let _ = writeln!(text, "| {what} | {} | {bytes} |", source::series(&snapshot));
    }
    text.push('\n');
    text
}
