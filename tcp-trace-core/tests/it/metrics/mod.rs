//! Reports in, metrics out, as text: `name{label="value"} number`.

mod bounded;
mod churn;
mod meter;

use std::collections::BTreeMap;

use tcp_trace_core::{
    metrics::{Meter, Own, Sample, Series, Settings, Snapshot},
    report::Report,
    time::WallTime,
};

/// When the sessions of the tests began.
const START: WallTime = WallTime(1_700_000_000_000_000_000);

/// Every series by its name and labels; of a histogram the number of its durations.
fn values(snapshot: &Snapshot) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    for family in &snapshot.families {
        for Series { labels, value } in &family.series {
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let series = format!("{}{{{}}}", family.name, labels.join(","));
            let number = match value {
                Sample::Count(count) => *count as f64,
                Sample::Real(value) => *value,
                Sample::Histogram(histogram) => histogram.count() as f64,
            };
            assert_eq!(values.insert(series.clone(), number), None, "{series} is there twice");
        }
    }
    values
}

/// The series of some metrics after these reports, a line each.
fn told(settings: Settings, reports: &[Report], names: &[&str]) -> String {
    let mut meter = Meter::new(settings, START);
    for report in reports {
        meter.absorb(report);
    }
    let values = values(&meter.snapshot(&Own::default()));
    let wanted = |series: &str| names.iter().any(|name| series.starts_with(&format!("{name}{{")));
    let lines = values.iter().filter(|(series, _)| wanted(series));
    lines.map(|(series, value)| format!("{series} {value}\n")).collect()
}

#[track_caller]
fn check(input: &str, names: &[&str], expect: &str) {
    check_with(Settings::default(), input, names, expect);
}

#[track_caller]
fn check_with(settings: Settings, input: &str, names: &[&str], expect: &str) {
    let actual = told(settings, &crate::check::reports(input), names);
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    assert!(lines(expect) == lines(&actual), "\n--- expected\n{expect}\n--- actual\n{actual}");
}
