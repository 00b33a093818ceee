//! From when on something is a finding: `[findings]` of the configuration file.
//!
//! A key ends in its unit: `_s` seconds, `_share` a number from 0 to 1, `_per_min` so many a minute; others are counts.
//! `docs/findings.md` lists them all, and a test holds it against the defaults here.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::{
    close_wait_leak, connect_failures, cut, fork_leak, listener_backlog, listener_gone, listener_restarted,
    port_exhaustion,
    requests::{AcceptQueueOverflow, HandshakeLoss, SynFlood},
    stuck_closing,
};

/// `[findings]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// A finding ends after so many reports in succession without it, and becomes less severe after as many.
    pub quiet_reports: NonZeroU32,
    /// While a finding is open, its thresholds are this share of themselves.
    pub close_share: Share,
    /// `[findings.close_wait_leak]`.
    pub close_wait_leak: close_wait_leak::Thresholds,
    /// `[findings.syn_flood]`.
    pub syn_flood: SynFlood,
    /// `[findings.accept_queue_overflow]`.
    pub accept_queue_overflow: AcceptQueueOverflow,
    /// `[findings.handshake_loss]`.
    pub handshake_loss: HandshakeLoss,
    /// `[findings.port_exhaustion]`.
    pub port_exhaustion: port_exhaustion::Thresholds,
    /// `[findings.connect_failures]`.
    pub connect_failures: connect_failures::Thresholds,
    /// `[findings.stuck_closing]`.
    pub stuck_closing: stuck_closing::Thresholds,
    /// `[findings.reset_storm]`.
    pub reset_storm: cut::Thresholds,
    /// `[findings.linger_zero_close]`.
    pub linger_zero_close: cut::Thresholds,
    /// `[findings.abort_unread_data]`.
    pub abort_unread_data: cut::Thresholds,
    /// `[findings.listener_backlog]`.
    pub listener_backlog: listener_backlog::Thresholds,
    /// `[findings.listener_restarted]`.
    pub listener_restarted: listener_restarted::Thresholds,
    /// `[findings.listener_gone]`.
    pub listener_gone: listener_gone::Thresholds,
    /// `[findings.fork_leak]`.
    pub fork_leak: fork_leak::Thresholds,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            quiet_reports: NonZeroU32::MIN.saturating_add(1),
            close_share: Share::new(0.5),
            close_wait_leak: close_wait_leak::Thresholds::default(),
            syn_flood: SynFlood::default(),
            accept_queue_overflow: AcceptQueueOverflow::default(),
            handshake_loss: HandshakeLoss::default(),
            port_exhaustion: port_exhaustion::Thresholds::default(),
            connect_failures: connect_failures::Thresholds::default(),
            stuck_closing: stuck_closing::Thresholds::default(),
            reset_storm: cut::Thresholds::default(),
            linger_zero_close: cut::Thresholds::default(),
            abort_unread_data: cut::Thresholds::default(),
            listener_backlog: listener_backlog::Thresholds::default(),
            listener_restarted: listener_restarted::Thresholds::default(),
            listener_gone: listener_gone::Thresholds::default(),
            fork_leak: fork_leak::Thresholds::default(),
        }
    }
}

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(f64);

impl Share {
    /// A constant; what is not between 0 and 1 is cut to it.
    pub(super) const fn new(share: f64) -> Self {
        Self(share.clamp(0.0, 1.0))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

/// A share that is none.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{0} is no share; give a number from 0 to 1")]
pub struct NoShare(f64);

impl TryFrom<f64> for Share {
    type Error = NoShare;

    fn try_from(share: f64) -> Result<Self, NoShare> {
        if (0.0..=1.0).contains(&share) { Ok(Self(share)) } else { Err(NoShare(share)) }
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> Self {
        share.0
    }
}
