//! What a metric is, whoever exposes it.

use crate::time::WallTime;

/// Every metric at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Since when counters count.
    pub start: WallTime,
    /// The moment: the end of the last window.
    pub time: WallTime,
    /// The metrics, in the order of the catalogue.
    pub families: Vec<Family>,
}

/// A metric with all its series.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Prometheus' name without the suffix `_total`: base units, the unit last.
    pub name: &'static str,
    /// OpenTelemetry's name.
    pub otel_name: &'static str,
    /// What it is, in one line.
    pub help: &'static str,
    /// Prometheus' unit, which the name ends in; empty for a number of things.
    pub unit: &'static str,
    /// OpenTelemetry's unit (UCUM), such as `s`, `By`, `{connection}`.
    pub otel_unit: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// One for each set of labels.
    pub series: Vec<Series>,
}

/// Kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in buckets.
    Histogram,
    /// Always 1; its labels are what it says.
    Info,
}

/// Names and values; both forms of a name in the catalogue's own table of labels.
pub type Labels = Vec<(&'static str, String)>;

/// One series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What tells it from its siblings.
    pub labels: Labels,
    /// Its value.
    pub value: Sample,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// A whole number.
    Count(u64),
    /// Any other.
    Real(f64),
    /// A histogram.
    Histogram(Bucketed),
}

/// A histogram in fixed buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bucketed {
    /// Upper bounds, in the family's unit, rising; the last bucket has none.
    pub bounds: &'static [f64],
    /// How many fell into each: one more than there are bounds.
    pub counts: Vec<u64>,
    /// Sum of all values, in the family's unit.
    pub sum: f64,
}

impl Bucketed {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}
