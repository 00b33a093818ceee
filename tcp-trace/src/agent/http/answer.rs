//! Requests and their answers.

use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    body::Bytes,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE},
};

use super::{
    access::{Access, Refusal},
    board::Board,
};
use crate::sink::prometheus;

pub(super) type Answer = Response<Full<Bytes>>;

/// Answers; `refused` hears why, if it is not what was asked for.
///
/// Whether the main loop turns, anybody may ask: those who look after the agent often cannot show a token, and it is one word.
pub(super) fn answer(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    board: &Board,
    access: &Access,
    refused: impl FnOnce(Refusal),
) -> Answer {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        return with(answer, ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    match path {
        "/healthz" | "/livez" if board.is_alive() => return text(StatusCode::OK, "ok\n"),
        "/healthz" | "/livez" => return unavailable("the main loop does not turn\n"),
        "/readyz" if board.is_ready() => return text(StatusCode::OK, "ok\n"),
        "/readyz" => return unavailable("the first report is not there yet\n"),
        _ => {}
    }
    if let Err(refusal) = access.admits(headers) {
        refused(refusal);
        return unauthorized(refusal);
    }
    match path {
        "/metrics" => {
            let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
            match board.metrics() {
                Some(snapshot) => {
                    let format = prometheus::Format::negotiate(accept);
                    with_type(StatusCode::OK, format.content_type(), prometheus::expose(&snapshot, format))
                }
                None => unavailable("the first report is not there yet\n"),
            }
        }
        "/" => text(StatusCode::OK, "tcp-trace: /metrics, /healthz, /readyz\n"),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    }
}

/// For those who do not speak TLS though they should.
pub(super) fn only_tls() -> Answer {
    text(StatusCode::BAD_REQUEST, "this port speaks TLS; use https://\n")
}

fn unavailable(body: &'static str) -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, body)
}

/// RFC 6750, 3: nothing is said of an error where nothing was shown.
fn unauthorized(refusal: Refusal) -> Answer {
    let (challenge, body) = match refusal {
        Refusal::Missing => (
            r#"Bearer realm="tcp-trace""#,
            "a token is needed: Authorization: Bearer TOKEN, with one of those in http.token_file of the agent\n",
        ),
        Refusal::Wrong => (
            r#"Bearer realm="tcp-trace", error="invalid_token""#,
            "this is not a token of this agent; those in its http.token_file are, as it was read last\n",
        ),
    };
    with(text(StatusCode::UNAUTHORIZED, body), WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body.to_owned())
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let answer = with(answer, CONTENT_TYPE, HeaderValue::from_static(content_type));
    with(answer, CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

fn with(mut answer: Answer, name: HeaderName, value: HeaderValue) -> Answer {
    answer.headers_mut().insert(name, value);
    answer
}
