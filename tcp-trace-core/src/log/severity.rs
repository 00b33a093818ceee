//! How grave a document is, in everybody's numbers.

use super::{Document, FindingStep};
use crate::findings::Severity;

/// Severity; syslog's and the journal's priority (RFC 5424, 6.2.1); OTLP's severity number, as OpenTelemetry's logs data
/// model maps syslog's words.
const RANKS: [(Severity, u8, u8); 3] =
    [(Severity::Info, 6, 9), (Severity::Warning, 4, 13), (Severity::Critical, 2, 18)];

impl Severity {
    /// Syslog's number for it, which the journal's `PRIORITY` is as well: 6 informational, 4 warning, 2 critical.
    #[must_use]
    pub fn syslog(self) -> u8 {
        self.rank().1
    }

    /// OTLP's `severity_number` for it: 9 INFO, 13 WARN, 18 ERROR2.
    #[must_use]
    pub fn otlp(self) -> u8 {
        self.rank().2
    }

    fn rank(self) -> (Self, u8, u8) {
        let [info, ..] = RANKS;
        RANKS.into_iter().find(|(severity, ..)| *severity == self).unwrap_or(info)
    }
}

impl Document {
    /// How grave it is. Of a finding that is over it is `info`: there is nothing to do any more.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Transition(_) | Self::Closed(_) | Self::Report(_) => Severity::Info,
            Self::Finding(change) if change.step == FindingStep::Closed => Severity::Info,
            Self::Finding(change) => change.finding.severity,
            // Without the balance no count can be trusted.
            Self::Loss(notice) if !notice.loss.balanced => Severity::Critical,
            Self::Loss(_) => Severity::Warning,
            Self::Degradation(notice) if notice.over => Severity::Info,
            Self::Degradation(_) => Severity::Warning,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_severity_has_a_rank_and_graver_is_graver_everywhere() {
        assert_eq!(RANKS.map(|(severity, ..)| severity.syslog()), [6, 4, 2]);
        assert_eq!(RANKS.map(|(severity, ..)| severity.otlp()), [9, 13, 18]);
        assert!(RANKS.is_sorted_by_key(|(severity, ..)| *severity));
    }
}
