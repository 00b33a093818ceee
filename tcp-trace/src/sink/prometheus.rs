//! Metrics as Prometheus scrapes them: its text format 0.0.4, and OpenMetrics 1.0.
//!
//! Written here, because no crate that is kept writes both: `prometheus-client` has OpenMetrics only, which `promtool check
//! metrics` does not read, `prometheus` the text format only.

use std::fmt::Write as _;

use tcp_trace_core::metrics::{Bucketed, Family, Kind, Sample, Series, Snapshot};

/// How it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4, which everything reads.
    #[default]
    Text,
    /// OpenMetrics 1.0, which has units, and an end: one that was cut off is refused.
    OpenMetrics,
}

impl Format {
    /// The one that a client wants most, by its `Accept` header (RFC 9110, 12.5.1); of two that it likes equally,
    /// OpenMetrics.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Self {
        let (mut text, mut open) = (0.0_f64, 0.0_f64);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1.0, None);
            for (key, value) in parts.filter_map(|part| part.split_once('=')) {
                match key.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"').to_owned()),
                    _ => {}
                }
            }
            match (media.as_str(), version.as_deref()) {
                ("application/openmetrics-text", None | Some("1.0.0")) => open = open.max(quality),
                ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => text = text.max(quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// The value of `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Everything of a snapshot, as the body of an answer.
#[must_use]
pub fn expose(snapshot: &Snapshot, format: Format) -> String {
    let mut writer = Writer { out: String::with_capacity(32 << 10), format };
    for family in &snapshot.families {
        writer.family(family);
    }
    if format == Format::OpenMetrics {
        writer.out.push_str("# EOF\n");
    }
    writer.out
}

struct Writer {
    out: String,
    format: Format,
}

impl Writer {
    fn family(&mut self, family: &Family) {
        let Family { name, help, unit, kind, series, .. } = family;
        let open = self.format == Format::OpenMetrics;
        // The text format names a family as its samples are named, OpenMetrics as they are without their suffixes.
        let named = match (open, kind) {
            (true, Kind::Info) => name.strip_suffix("_info").unwrap_or(name).to_owned(),
            (false, Kind::Counter) => format!("{name}_total"),
            _ => (*name).to_owned(),
        };
        let kind_name = match (open, kind) {
            (_, Kind::Counter) => "counter",
            (_, Kind::Gauge) | (false, Kind::Info) => "gauge",
            (_, Kind::Histogram) => "histogram",
            (true, Kind::Info) => "info",
        };
        self.out.push_str("# HELP ");
        self.out.push_str(&named);
        self.out.push(' ');
        escape(&mut self.out, help, open);
        self.line(format_args!("\n# TYPE {named} {kind_name}"));
        if open && !unit.is_empty() {
            self.line(format_args!("# UNIT {named} {unit}"));
        }
        let suffix = if *kind == Kind::Counter { "_total" } else { "" };
        for Series { labels, value } in series {
            match value {
                Sample::Count(count) => self.sample(name, suffix, labels, None, format_args!("{count}")),
                Sample::Real(value) => {
                    self.sample(name, suffix, labels, None, format_args!("{}", Real(*value)));
                }
                Sample::Histogram(histogram) => self.histogram(name, labels, histogram),
            }
        }
    }

    fn histogram(&mut self, name: &str, labels: &[(&'static str, String)], histogram: &Bucketed) {
        let mut below = 0_u64;
        let bounds = histogram.bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, count) in bounds.zip(&histogram.counts) {
            below = below.saturating_add(*count);
            self.sample(name, "_bucket", labels, Some(bound), format_args!("{below}"));
        }
        self.sample(name, "_sum", labels, None, format_args!("{}", Real(histogram.sum)));
        self.sample(name, "_count", labels, None, format_args!("{below}"));
    }

    fn sample(
        &mut self,
        name: &str,
        suffix: &str,
        labels: &[(&'static str, String)],
        bound: Option<f64>,
        value: std::fmt::Arguments<'_>,
    ) {
        let out = &mut self.out;
        out.push_str(name);
        out.push_str(suffix);
        let mut before = '{';
        for (label, value) in labels {
            out.push(before);
            out.push_str(label);
            out.push_str("=\"");
            escape(out, value, true);
            out.push('"');
            before = ',';
        }
        if let Some(bound) = bound {
            // The same in both formats, so that a series is the same series.
            let shown = Real(bound);
            _ = write!(out, "{before}le=\"{shown}\"");
            before = ',';
        }
        if before == ',' {
            out.push('}');
        }
        _ = writeln!(out, " {value}");
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // To a string nothing fails.
        _ = writeln!(self.out, "{line}");
    }
}

/// A number as both formats have it: `0.1`, `1.0`, `+Inf`.
struct Real(f64);

impl std::fmt::Display for Real {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            value if value.is_infinite() => f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
            value if value.fract() == 0.0 && value.abs() < 1e15 => write!(f, "{value:.1}"),
            value => write!(f, "{value}"),
        }
    }
}

/// What would end a text or its line; `quotes` where it stands in quotation marks.
fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use tcp_trace_core::time::WallTime;

    use super::*;

    fn family(name: &'static str, unit: &'static str, kind: Kind, series: Vec<Series>) -> Family {
        Family { name, otel_name: "", help: "A \"line\"\nof \\ help.", unit, otel_unit: "", kind, series }
    }

    fn snapshot() -> Snapshot {
        static BOUNDS: [f64; 2] = [0.001, 1.0];
        let labels = vec![("comm", "a\"b\\c\nd".to_owned()), ("state", "listen".to_owned())];
        let histogram = Bucketed { bounds: &BOUNDS, counts: vec![1, 2, 3], sum: 20.5 };
        Snapshot {
            start: WallTime(0),
            time: WallTime(0),
            families: vec![
                family("x_things", "things", Kind::Counter, vec![Series { labels, value: Sample::Count(7) }]),
                family(
                    "x_age_seconds",
                    "seconds",
                    Kind::Histogram,
                    vec![Series { labels: Vec::new(), value: Sample::Histogram(histogram) }],
                ),
                family(
                    "x_used_ratio",
                    "ratio",
                    Kind::Gauge,
                    vec![Series { labels: Vec::new(), value: Sample::Real(0.25) }],
                ),
                family(
                    "x_build_info",
                    "",
                    Kind::Info,
                    vec![Series { labels: vec![("version", "1".to_owned())], value: Sample::Count(1) }],
                ),
            ],
        }
    }

    #[test]
    fn the_text_format_is_what_it_should_be() {
        let expected = r#"# HELP x_things_total A "line"\nof \\ help.
# TYPE x_things_total counter
x_things_total{comm="a\"b\\c\nd",state="listen"} 7
# HELP x_age_seconds A "line"\nof \\ help.
# TYPE x_age_seconds histogram
x_age_seconds_bucket{le="0.001"} 1
x_age_seconds_bucket{le="1.0"} 3
x_age_seconds_bucket{le="+Inf"} 6
x_age_seconds_sum 20.5
x_age_seconds_count 6
# HELP x_used_ratio A "line"\nof \\ help.
# TYPE x_used_ratio gauge
x_used_ratio 0.25
# HELP x_build_info A "line"\nof \\ help.
# TYPE x_build_info gauge
x_build_info{version="1"} 1
"#;
        assert_eq!(expose(&snapshot(), Format::Text), expected);
    }

    #[test]
    fn open_metrics_names_families_without_suffixes_and_has_units_and_an_end() {
        let text = expose(&snapshot(), Format::OpenMetrics);
        for line in [
            "# HELP x_things A \\\"line\\\"\\nof \\\\ help.",
            "# TYPE x_things counter",
            "# UNIT x_things things",
            "# TYPE x_build info",
            "x_build_info{version=\"1\"} 1",
        ] {
            assert!(text.lines().any(|there| there == line), "no `{line}` in\n{text}");
        }
        assert!(text.ends_with("} 1\n# EOF\n"));
        assert!(!text.contains("# UNIT x_build"));
    }

    #[test]
    fn clients_get_what_they_ask_for() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (accept, format) in [
            (Some(prometheus_2), Format::OpenMetrics),
            (Some(prometheus_3), Format::OpenMetrics),
            (
                Some(
                    "text/plain;version=0.0.4;q=0.5, application/openmetrics-text; version=\"1.0.0\"; q=0.2",
                ),
                Format::Text,
            ),
            (Some("application/openmetrics-text; version=0.0.1"), Format::Text),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some("*/*"), Format::Text),
            (Some(";;q=,=,"), Format::Text),
            (None, Format::Text),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept:?}");
        }
    }
}
