//! What is shown, in the words of the command line: `-p 1234`, `-L 8080`, `--container web`; and a bare word for a name.

use clap::{Args, Parser};
use tcp_trace_core::{
    endpoint::{Endpoint, Family},
    process::printable,
    report::{Listener, StateChange},
    state::TcpState,
};

use super::rows::{Row, Who};
use crate::cli::args::FilterArgs;

/// What was typed, understood.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What was typed.
    pub text: String,
    words: Option<Words>,
}

#[derive(Clone, Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Words {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    own: Own,
}

#[derive(Args, Clone, Debug)]
struct Own {
    /// States entered or left
    #[arg(long = "state", value_delimiter = ',')]
    states: Vec<TcpState>,
    /// Part of a process's name or of its container's
    name: Vec<String>,
}

impl View {
    /// Understands what was typed.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let words = Words::try_parse_from(text.split_ascii_whitespace()).map_err(|error| {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            printable(line.trim_start_matches("error: ")).into_owned()
        })?;
        if words.filter.cgroup.as_deref().is_some_and(|cgroup| cgroup.parse::<u64>().is_err()) {
            return Err("--cgroup: here only as an id (its directory's inode number)".to_owned());
        }
        if words.filter.netns.as_deref().is_some_and(|netns| netns.parse::<u32>().is_err()) {
            return Err("--netns: here only as an inode number".to_owned());
        }
        Ok(Self { text: printable(text).into_owned(), words: Some(words) })
    }

    /// Whether everything is shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_none()
    }

    /// Of what was typed, the words that rows of processes and containers do not have: those of single connections.
    #[must_use]
    pub fn of_connections(&self) -> bool {
        self.words.as_ref().is_some_and(|Words { filter, own }| {
            !filter.local_ports.is_empty()
                || !filter.peer_ports.is_empty()
                || filter.ipv4
                || filter.ipv6
                || filter.netns.is_some()
                || filter.cgroup.is_some()
                || !own.states.is_empty()
        })
    }

    /// Whether a row of a process or container is wanted. Ports, families and states are not asked for: it has none.
    #[must_use]
    pub fn row(&self, row: &Row) -> bool {
        let Some(Words { filter, own }) = &self.words else { return true };
        let pid = match &row.who {
            Who::Process(pid, _) => Some(*pid),
            _ => None,
        };
        filter.pid.is_none_or(|wanted| pid == Some(wanted))
            && filter.container.as_deref().is_none_or(|wanted| match &row.who {
                Who::Container(id) if id.starts_with(wanted) => true,
                _ => row.container.as_deref().is_some_and(|name| name.contains(wanted)),
            })
            && own.names(&row.name, row.container.as_deref())
    }

    /// Whether a listener is wanted.
    #[must_use]
    pub fn listener(&self, listener: &Listener) -> bool {
        let Some(Words { filter, own }) = &self.words else { return true };
        let process = listener.process.as_ref();
        let container = process.and_then(|process| process.container.as_ref()).map(super::words::container);
        filter.pid.is_none_or(|wanted| process.is_some_and(|process| process.pid == wanted))
            && filter.end(listener.local, None)
            && filter.netns(listener.netns)
            && filter
                .container
                .as_deref()
                .is_none_or(|wanted| container.as_deref().is_some_and(|name| name.contains(wanted)))
            && own.names(&super::words::who(process), container.as_deref())
    }

    /// Whether a transition is wanted.
    #[must_use]
    pub fn change(&self, change: &StateChange) -> bool {
        let Some(Words { filter, own }) = &self.words else { return true };
        let container = || change.container.as_deref().map(super::words::container);
        filter.pid.is_none_or(|wanted| change.owner.is_some_and(|owner| owner.process.pid == wanted))
            && filter.end(Some(change.local), Some(change.peer))
            && (!filter.ipv4 || change.family == Family::Ipv4)
            && (!filter.ipv6 || change.family == Family::Ipv6)
            && filter.netns(change.netns)
            && filter.cgroup.as_deref().is_none_or(|wanted| change.cgroup_id == wanted.parse().ok())
            && filter.container.as_deref().is_none_or(|wanted| {
                change.container.as_deref().is_some_and(|facts| facts.id.starts_with(wanted))
                    || container().is_some_and(|name| name.contains(wanted))
            })
            && (own.states.is_empty() || own.states.contains(&change.old) || own.states.contains(&change.new))
            && (own.name.is_empty() || {
                let comm = change.owner.and_then(|owner| owner.comm).map(|comm| comm.to_string());
                own.names(&comm.unwrap_or_default(), container().as_deref())
            })
    }
}

impl Own {
    fn names(&self, name: &str, container: Option<&str>) -> bool {
        self.name.iter().all(|word| {
            name.contains(word.as_str())
                || container.is_some_and(|container| container.contains(word.as_str()))
        })
    }
}

impl FilterArgs {
    fn end(&self, local: Option<Endpoint>, peer: Option<Endpoint>) -> bool {
        let among = |ports: &[u16], end: Option<Endpoint>| {
            ports.is_empty() || end.is_some_and(|end| ports.contains(&end.port))
        };
        among(&self.local_ports, local) && (peer.is_none() || among(&self.peer_ports, peer))
    }

    fn netns(&self, netns: Option<u32>) -> bool {
        self.netns.as_deref().is_none_or(|wanted| netns.is_some() && netns == wanted.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_command_line() {
        let view = View::parse(" -p 7 -L 80,443 --state close-wait web ").unwrap();
        assert!(!view.is_empty() && view.of_connections());
        assert_eq!(view.text, "-p 7 -L 80,443 --state close-wait web");
        assert!(View::parse("").unwrap().is_empty());
        assert!(View::parse("-p many").unwrap_err().contains("invalid value 'many'"));
        assert!(View::parse("--netns blue").unwrap_err().contains("inode number"));
    }
}
