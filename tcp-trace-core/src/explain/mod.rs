//! `tcp-trace explain`: what a state or a finding means.
//!
//! The texts are the pages of `docs/explain`, which are part of the program: there is one of each.

mod nearest;
mod plain;

use crate::state::TcpState;

pub use plain::plain;

/// What a topic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// How things go, over several states.
    Overview,
    /// A state.
    State,
    /// A finding of a report.
    Finding,
}

/// Something that can be explained.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// Its name: of a finding its id, of a state the Linux name in small letters.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Other words for it.
    pub others: &'static [&'static str],
    /// The page, in Markdown.
    pub page: &'static str,
}

macro_rules! topics {
    ($($kind:ident $name:literal $others:expr;)*) => {
        /// Everything that can be explained, in the order in which it is best read.
        pub const TOPICS: &[Topic] = &[$(Topic {
            name: $name,
            kind: Kind::$kind,
            others: &$others,
            page: include_str!(concat!("../../../docs/explain/", $name, ".md")),
        }),*];
    };
}

topics! {
    Overview "states" ["all", "diagram", "state", "tcp"];
    Overview "handshake" ["opening", "open", "three_way_handshake", "simultaneous_open", "connect", "accept"];
    Overview "teardown" ["four_way_close", "simultaneous_close", "half_close", "shutdown", "fin"];
    State "listen" ["backlog", "accept_queue", "somaxconn"];
    State "syn_sent" ["syn"];
    State "new_syn_recv" ["half_open", "syn_queue", "request"];
    State "syn_recv" [];
    State "established" [];
    State "fin_wait1" [];
    State "fin_wait2" [];
    State "closing" [];
    State "time_wait" ["2msl", "msl", "tw_reuse", "tcp_tw_reuse", "tcp_tw_recycle"];
    State "close_wait" [];
    State "last_ack" [];
    State "close" [];
    State "bound_inactive" ["bound"];
    Finding "close_wait_leak" ["leak", "emfile"];
    Finding "syn_flood" ["flood", "syn_cookies", "syncookies", "cookies"];
    Finding "accept_queue_overflow" ["overflow", "listenoverflows", "slow_accept"];
    Finding "handshake_loss" ["loss"];
    Finding "port_exhaustion" ["ports", "ephemeral_ports", "eaddrnotavail"];
    Finding "connect_failures" ["econnrefused", "refused", "etimedout", "ehostunreach", "enetunreach"];
    Finding "stuck_closing" ["stuck", "orphans"];
    Finding "reset_storm" ["reset", "rst", "econnreset"];
    Finding "linger_zero_close" ["linger", "so_linger"];
    Finding "abort_unread_data" ["abort", "unread_data"];
    Finding "listener_backlog" [];
    Finding "listener_restarted" [];
    Finding "listener_gone" [];
    Finding "fork_leak" ["fork", "shared"];
}

/// No topic has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{word}` is nothing that can be explained{}; `tcp-trace explain` lists what is",
    suggestion(nearest)
)]
pub struct UnknownTopic {
    word: String,
    /// Names that look like it, the nearest first.
    pub nearest: Vec<&'static str>,
}

fn suggestion(nearest: &[&str]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; did you mean {}?", nearest.join(", ")) }
}

impl Topic {
    /// The topic of a state; `None` for a number that is no known state.
    #[must_use]
    pub fn of_state(state: TcpState) -> Option<&'static Self> {
        let name = state.name()?.to_ascii_lowercase();
        TOPICS.iter().find(|topic| topic.kind == Kind::State && topic.name == name)
    }

    /// The topic that a word means: a state in every usual spelling, a finding's id, or another word for one.
    ///
    /// # Errors
    ///
    /// If there is none; with the names that come nearest.
    pub fn find(word: &str) -> Result<&'static Self, UnknownTopic> {
        if let Some(topic) = word.parse().ok().and_then(Self::of_state) {
            return Ok(topic);
        }
        let wanted = word.trim().to_ascii_lowercase().replace(['-', ' '], "_");
        let named = TOPICS.iter().find(|topic| topic.name == wanted);
        let called = || TOPICS.iter().find(|topic| topic.others.contains(&wanted.as_str()));
        named
            .or_else(called)
            .ok_or_else(|| UnknownTopic { word: word.trim().to_owned(), nearest: nearest::names(&wanted) })
    }

    /// The first line of the page.
    #[must_use]
    pub fn title(&self) -> &'static str {
        let first = self.page.lines().next().unwrap_or_default();
        first.trim_start_matches(['#', ' '])
    }

    /// What the title says about the name.
    #[must_use]
    pub fn gist(&self) -> &'static str {
        let title = self.title();
        title.split_once(": ").map_or(title, |(_, gist)| gist)
    }
}

#[cfg(test)]
mod tests;
