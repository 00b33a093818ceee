//! The pure half of tcp-trace: records in, reports out.
//!
//! Nothing here reads a clock, a file, a socket or the environment, and nothing panics on input. Whatever is
//! not computed is an input, so the same recording gives the same bytes on any machine.
//!
//! Reading order, which is the order of the data's path: `state`, `diagram`, `time`, `endpoint`, `process`, `filter`,
//! `json`, `session`, `record`, `survey`, `container`, `input`, `decode`, `mode`, `histogram`, `tracker`, `report`,
//! `findings`, `log`, `metrics`, `snapshot`, `doctor`, `explain`, `kill`.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod container;
pub mod decode;
pub mod diagram;
pub mod doctor;
pub mod endpoint;
pub mod explain;
pub mod filter;
pub mod findings;
pub mod histogram;
pub mod input;
pub mod json;
pub mod kill;
pub mod log;
pub mod metrics;
pub mod mode;
pub mod process;
pub mod record;
pub mod report;
pub mod session;
pub mod snapshot;
pub mod stack;
pub mod state;
pub mod survey;
pub mod time;
pub mod tracker;
