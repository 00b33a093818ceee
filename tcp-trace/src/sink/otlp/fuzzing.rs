//! Doors for the fuzz targets (`tcp-trace/fuzz`): what an endpoint answers, and what the environment says.

use super::{
    answer::{Answer, Verdict},
    config::Signal,
    environment::Environment,
};

/// What an answer would be said to mean. Returns what was rejected, for how long it is waited, and why.
#[must_use]
pub fn verdict(status: u16, header: &str, body: &[u8]) -> (u64, Option<std::time::Duration>, String) {
    let answer = Answer {
        status,
        retry_after: Some(header.to_owned()),
        location: Some(header.to_owned()),
        protobuf: status & 1 == 0,
        body: body.to_vec(),
    };
    match answer.verdict(jiff::Timestamp::UNIX_EPOCH) {
        Verdict::Taken { rejected, why } => (rejected, None, why),
        Verdict::Again { after, why } => (0, after, why),
        Verdict::TooLarge { why } | Verdict::Refused { why } => (0, None, why),
    }
}

/// What headers and attributes a variable has, as many as there are of both.
#[must_use]
pub fn variables(text: &str) -> (usize, usize) {
    let get = |_: &str| Some(text.to_owned());
    let environment = Environment(&get);
    let headers = environment.headers(Signal::Logs).map_or(0, |headers| headers.len());
    let _ = (environment.compression(Signal::Logs), environment.duration(environment.get("TIMEOUT")));
    (headers, environment.attributes().map_or(0, |attributes| attributes.len()))
}
