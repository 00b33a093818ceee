//! What an answer means: OTLP's own rules for HTTP, as a function from what came back.

use std::time::Duration;

use prost::Message;
use tcp_trace_core::process::printable;

/// The part of an answer that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The header of that name, as it came.
    pub(super) retry_after: Option<String>,
    /// Where a redirection points.
    pub(super) location: Option<String>,
    /// Whether the body says that it is protobuf.
    pub(super) protobuf: bool,
    /// Its beginning.
    pub(super) body: Vec<u8>,
}

/// What is to be done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was taken, except for this many records or points, for this reason.
    Taken { rejected: u64, why: String },
    /// It may be sent again, not before this time has passed.
    Again { after: Option<Duration>, why: String },
    /// It was more than the other side takes at once.
    TooLarge { why: String },
    /// It will never be taken.
    Refused { why: String },
}

/// What came back with a 2xx: both kinds of answer look the same on the wire.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// `google.rpc.Status`, the body of an error.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The longest that another side may silence us.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// Characters of an answer's text that are worth a line.
const SHOWN: usize = 200;

impl Answer {
    /// Any 2xx is a success. Only 429, 502, 503 and 504 may be sent again (OTLP, "Failures"); a redirection is not
    /// followed, because a client that follows a 301 or 302 drops the body.
    pub(super) fn verdict(&self, now: jiff::Timestamp) -> Verdict {
        match self.status {
            200..=299 => self.taken(),
            413 => Verdict::TooLarge { why: self.why() },
            429 | 502..=504 => Verdict::Again { after: self.wait(now), why: self.why() },
            300..=399 => {
                let to = self.location.as_deref().unwrap_or("somewhere else");
                let why = format!("{}; the endpoint should be {}", self.why(), short(to));
                Verdict::Refused { why }
            }
            401 | 403 => {
                Verdict::Refused { why: format!("{}; check the header `authorization`", self.why()) }
            }
            404 => {
                let hint = "; check the path: OTLP over HTTP is at /v1/logs and /v1/metrics as a rule";
                Verdict::Refused { why: format!("{}{hint}", self.why()) }
            }
            _ => Verdict::Refused { why: self.why() },
        }
    }

    fn taken(&self) -> Verdict {
        let partial = self.protobuf.then(|| Response::decode(self.body.as_slice()).ok()).flatten();
        match partial.and_then(|response| response.partial_success) {
            Some(PartialSuccess { rejected, error_message }) if rejected > 0 => Verdict::Taken {
                rejected: rejected.unsigned_abs(),
                why: format!("rejected by the collector: {}", short(&error_message)),
            },
            // With 0 rejected it is a warning.
            Some(PartialSuccess { rejected: _, error_message }) => {
                Verdict::Taken { rejected: 0, why: short(&error_message) }
            }
            None => Verdict::Taken { rejected: 0, why: String::new() },
        }
    }

    fn why(&self) -> String {
        let text = match Status::decode(self.body.as_slice()) {
            Ok(status) if self.protobuf => status.message,
            _ => String::from_utf8_lossy(&self.body).trim().to_owned(),
        };
        let text = short(&text);
        let colon = if text.is_empty() { "" } else { ": " };
        format!("HTTP {}{colon}{text}", self.status)
    }

    /// `Retry-After`: seconds, or a date.
    fn wait(&self, now: jiff::Timestamp) -> Option<Duration> {
        let text = self.retry_after.as_deref()?.trim();
        let wait = match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_no_number) => {
                let until = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
                Duration::try_from(until.duration_since(now)).unwrap_or_default()
            }
        };
        Some(wait.min(MAX_WAIT))
    }
}

/// In one line, whatever it is.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut chars = line.chars();
    let mut start: String = chars.by_ref().take(SHOWN).collect();
    if chars.next().is_some() {
        start.push('…');
    }
    printable(&start).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(answer: &Answer) -> Verdict {
        answer.verdict("2026-11-22T20:00:00Z".parse().unwrap())
    }

    fn status(status: u16, body: &str) -> Verdict {
        verdict(&Answer { status, body: body.into(), ..Answer::default() })
    }

    fn again(retry_after: &str) -> Option<Duration> {
        let answer = Answer { status: 429, retry_after: Some(retry_after.to_owned()), ..Answer::default() };
        match verdict(&answer) {
            Verdict::Again { after, .. } => after,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_2xx_is_success_whatever_its_body() {
        for code in [200, 201, 202, 204] {
            assert_eq!(status(code, "<html>"), Verdict::Taken { rejected: 0, why: String::new() });
        }
    }

    #[test]
    fn what_was_rejected_is_counted() {
        let partial = PartialSuccess { rejected: 3, error_message: "too\told".to_owned() };
        let body = Response { partial_success: Some(partial) }.encode_to_vec();
        let answer = Answer { status: 200, protobuf: true, body, ..Answer::default() };
        let why = "rejected by the collector: too old".to_owned();
        assert_eq!(verdict(&answer), Verdict::Taken { rejected: 3, why });
    }

    #[test]
    fn only_four_codes_may_be_sent_again() {
        let retried: Vec<u16> =
            (100..600).filter(|code| matches!(status(*code, ""), Verdict::Again { .. })).collect();
        assert_eq!(retried, [429, 502, 503, 504]);
    }

    #[test]
    fn the_other_side_says_when_and_not_for_ever() {
        assert_eq!(again("7"), Some(Duration::from_secs(7)));
        assert_eq!(again("Sun, 22 Nov 2026 20:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(again("Sun, 22 Nov 2026 19:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(again("99999999"), Some(MAX_WAIT));
        assert_eq!(again("soon"), None);
    }

    #[test]
    fn the_reason_is_told_in_one_line() {
        let body = Status { code: 3, message: "bad\r\nrecord\u{1b}[31m".to_owned() }.encode_to_vec();
        let answer = Answer { status: 400, protobuf: true, body, ..Answer::default() };
        let why = "HTTP 400: bad record\\u{1b}[31m".to_owned();
        assert_eq!(verdict(&answer), Verdict::Refused { why });
        assert_eq!(status(500, ""), Verdict::Refused { why: "HTTP 500".to_owned() });
        assert!(matches!(status(413, ""), Verdict::TooLarge { .. }));
        let Verdict::Refused { why } = status(400, &"x".repeat(10_000)) else { panic!() };
        assert!(why.chars().count() < 250, "{why}");
    }
}
