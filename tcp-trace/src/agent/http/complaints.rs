//! What goes wrong with those who ask: said once a minute at most, however often somebody tries.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tcp_trace_core::process::printable;

/// How often each kind is said.
const EVERY: Duration = Duration::from_secs(60);

/// A kind of trouble.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// The token is missing or wrong.
    Token,
    /// No connection by TLS came about.
    Tls,
    /// The other side speaks TLS where there is none, or none where there is.
    Scheme,
    /// There are too many of them.
    Crowd,
}

/// What has been said, and what has not.
#[derive(Debug, Default)]
pub(super) struct Complaints([Mutex<Said>; 4]);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    /// How often it happened since.
    untold: u64,
}

impl Complaints {
    /// Says it, or counts it.
    pub(super) fn hear(&self, kind: Kind, peer: IpAddr, what: &str) {
        let Self([token, tls, scheme, crowd]) = self;
        let said = match kind {
            Kind::Token => token,
            Kind::Tls => tls,
            Kind::Scheme => scheme,
            Kind::Crowd => crowd,
        };
        let untold = said.lock().unwrap_or_else(PoisonError::into_inner).once(Instant::now());
        if let Some(untold) = untold {
            let more = if untold > 0 {
                format!(" (and {untold} times since it was said last)")
            } else {
                String::new()
            };
            log::warn!("HTTP: {peer}: {}{more}", printable(what));
        }
    }
}

impl Said {
    /// How often it went unsaid, if it is time to say it.
    fn once(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < EVERY) {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_trouble_is_one_line() {
        let (mut said, start) = (Said::default(), Instant::now());
        assert_eq!(said.once(start), Some(0));
        assert_eq!(said.once(start), None);
        assert_eq!(said.once(start + EVERY / 2), None);
        assert_eq!(said.once(start + EVERY), Some(2));
        assert_eq!(said.once(start + 3 * EVERY), Some(0));
    }
}
