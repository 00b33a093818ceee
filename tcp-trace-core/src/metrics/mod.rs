//! The catalogue of metrics: one list, from which every exposition is made.

mod family;

pub use family::{Bucketed, Family, Kind, Labels, Sample, Series, Snapshot};
