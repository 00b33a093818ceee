//! The catalogue of metrics, and how reports become them: one list, from which every exposition is made.
//!
//! A [`Meter`] takes the reports of a run ([`Meter::absorb`]) and says at any time what there is to expose
//! ([`Meter::snapshot`]). What is not known is not exposed, and never 0. Label sets are bounded (`bounded.rs`), and what
//! they have no room for is in a series `other`.

mod bounded;
mod catalogue;
mod family;
mod identity;
mod meter;
mod own;
mod rows;
mod settings;
mod snapshot;
mod totals;

pub use catalogue::{CATALOGUE, Label, Metric, Question, otel_label};
pub use family::{Bucketed, Family, Kind, Labels, Sample, Series, Snapshot};
pub use identity::{OTHER, UNKNOWN};
pub use meter::Meter;
pub use own::{Own, SinkHealth};
pub use settings::{Identities, Settings};
