//! What systemd is told, if it has started the agent: ready, reloading, stopping, and that it still turns.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The service manager; nobody, where there is none.
#[derive(Debug)]
pub(super) struct Manager {
    /// How often it wants to hear of the agent.
    watchdog: Option<Duration>,
    heard: Instant,
}

impl Manager {
    /// Asks the environment (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    #[must_use]
    pub(super) fn from_environment() -> Self {
        // Half of it, as `sd_watchdog_enabled(3)` recommends.
        let watchdog = sd_notify::watchdog_enabled().map(|within| within / 2);
        Self { watchdog, heard: Instant::now() }
    }

    /// Everything is attached, and sinks are at work.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The configuration is read again.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => log::debug!("telling the service manager of a reload: {error}"),
        }
    }

    /// The end begins.
    pub(super) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// The main loop turns; says so when it is time.
    pub(super) fn turn(&mut self) {
        if self.watchdog.is_some_and(|every| self.heard.elapsed() >= every) {
            self.heard = Instant::now();
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// How often to call [`Manager::turn`] at least.
    #[must_use]
    pub(super) fn every(&self) -> Duration {
        self.watchdog.unwrap_or(Duration::from_secs(5)).min(Duration::from_secs(5))
    }

    #[expect(clippy::unused_self, reason = "whoever has no manager has nobody to tell")]
    fn tell(&self, states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            log::debug!("telling the service manager: {error}");
        }
    }
}
