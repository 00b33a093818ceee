//! What the arguments come to on this host: checked values, and no clap types below.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use tcp_trace_common::filter::MAX_CGROUPS;
use tcp_trace_core::{
    filter::FilterSpec, findings::Severity, mode::Mode, process::printable, session::Attach, tracker,
};

use super::{
    args::{AttachArg, FailOn, FilterArgs, MemoryArgs, ModeArg, ReportArgs, SourceArgs, StreamArgs},
    top::TopArgs,
};
use crate::{
    bpf::{self, AttachChoice, Layout, ModeChoice},
    exit::Usage,
    sink::Columns,
    survey::Containers,
};

/// The live source.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// What the programs are to do.
    pub options: bpf::Options,
    /// The filter, as it is recorded.
    pub filter: FilterSpec,
    /// When to stop.
    pub duration: Option<Duration>,
    /// Whether to take the stacks of those who open connections.
    pub stacks: bool,
}

/// Settings of a live run.
///
/// # Errors
///
/// If a filter names something that does not exist here, or has too many ports.
pub fn live(source: &SourceArgs, filter: &FilterArgs, verbose: u8) -> anyhow::Result<LiveSettings> {
    let spec = filter_spec(filter)?;
    if source.stacks && source.mode == ModeArg::Count {
        return Err(Usage(
            "--stacks: with --mode count no connection is looked at; leave --mode out".to_owned(),
        )
        .into());
    }
    let options = bpf::Options {
        attach: match source.attach {
            AttachArg::Auto => AttachChoice::Auto,
            AttachArg::TpBtf => AttachChoice::Only(Attach::TpBtf),
            AttachArg::Tracepoint => AttachChoice::Only(Attach::Tracepoint),
        },
        filter: spec.compile()?,
        mode: mode(source.mode, &spec)?,
        buffers: Layout::of(source.buffer),
        debug: verbose >= 2,
    };
    Ok(LiveSettings { options, filter: spec, duration: source.duration, stacks: source.stacks })
}

/// Settings of a live run that shows single transitions, which are never aggregated then.
///
/// # Errors
///
/// As [`live`], and if aggregation is asked for.
pub fn stream(source: &SourceArgs, filter: &FilterArgs, verbose: u8) -> anyhow::Result<LiveSettings> {
    let refused = match source.mode {
        ModeArg::Aggregate => "aggregate",
        ModeArg::Count => "count",
        ModeArg::Auto | ModeArg::Stream => "",
    };
    if !refused.is_empty() {
        return Err(Usage(format!(
            "--mode {refused}: `stream` shows single transitions, which are not sent then; use `report`"
        ))
        .into());
    }
    let mut settings = live(source, filter, verbose)?;
    settings.options.mode = ModeChoice::Only(Mode::Stream);
    Ok(settings)
}

/// Refuses to take stacks that nobody will see.
///
/// # Errors
///
/// If they are asked for with single transitions, which come before their stacks.
pub fn check_stacks(args: &StreamArgs) -> Result<(), Usage> {
    if args.source.stacks && !args.closed && args.record.is_none() {
        return Err(Usage(
            "--stacks: `stream` tells where connections were opened when they have finished; add --closed, or use `report`"
                .to_owned(),
        ));
    }
    Ok(())
}

/// How transitions are to reach user space.
fn mode(wanted: ModeArg, filter: &FilterSpec) -> Result<ModeChoice, Usage> {
    match wanted {
        ModeArg::Auto => Ok(ModeChoice::Auto),
        ModeArg::Stream => Ok(ModeChoice::Only(Mode::Stream)),
        ModeArg::Aggregate if filter.is_decided_in_kernel() => Ok(ModeChoice::Only(Mode::Aggregate)),
        ModeArg::Count if *filter == FilterSpec::default() => Ok(ModeChoice::Only(Mode::Count)),
        ModeArg::Count => Err(Usage(
            "--mode count: it counts the transitions of the whole host and looks at nothing that a filter could go by; \
             use --mode aggregate with --netns, --cgroup or --container"
                .to_owned(),
        )),
        ModeArg::Aggregate => Err(Usage(
            "--mode aggregate: the kernel programs cannot decide a filter by process, port or IP version alone, so that \
             their counts would hold what it does not want; filter by --netns, --cgroup or --container, or not at all"
                .to_owned(),
        )),
    }
}

/// The filter.
///
/// # Errors
///
/// If it names a namespace or cgroup that does not exist here, or too many ports.
pub fn filter_spec(filter: &FilterArgs) -> anyhow::Result<FilterSpec> {
    let FilterArgs { pid, local_ports, peer_ports, ipv4, ipv6, netns, cgroup, container } = filter;
    let container = container.as_deref().map(inside).transpose()?.unwrap_or_default();
    let spec = FilterSpec {
        pid: *pid,
        netns: netns.as_deref().map(netns_inode).transpose()?.or(container.netns),
        cgroup_ids: match cgroup.as_deref().map(cgroup_id).transpose()? {
            Some(id) => vec![id],
            None => container.cgroup_ids,
        },
        ip_version: match (ipv4, ipv6) {
            (true, _) => Some(4),
            (_, true) => Some(6),
            _ => None,
        },
        local_ports: local_ports.clone(),
        peer_ports: peer_ports.clone(),
    };
    spec.compile().map_err(|error| Usage(error.to_string()))?;
    Ok(spec)
}

/// How the tracker is to keep a report.
#[must_use]
pub fn report(args: &ReportArgs) -> tracker::Settings {
    let close_wait_after_ns = u64::try_from(args.close_wait_after.as_nanos()).unwrap_or(u64::MAX);
    tracker::Settings { close_wait_after_ns, ..tracker(args.memory) }
}

/// How the tracker is to keep what a screen shows.
#[must_use]
pub fn top(args: &TopArgs) -> tracker::Settings {
    let close_wait_after_ns = u64::try_from(args.close_wait_after.as_nanos()).unwrap_or(u64::MAX);
    tracker::Settings { close_wait_after_ns, ..tracker(args.memory) }
}

/// From which severity on a finding is a failure.
#[must_use]
pub fn severity(arg: FailOn) -> Severity {
    match arg {
        FailOn::Warning => Severity::Warning,
        FailOn::Critical => Severity::Critical,
    }
}

/// How the tracker is to keep anything.
#[must_use]
pub fn tracker(args: MemoryArgs) -> tracker::Settings {
    let MemoryArgs { max_connections } = args;
    tracker::Settings { max_connections, ..tracker::Settings::default() }
}

/// Which columns a stream has.
#[must_use]
pub fn columns(args: &StreamArgs) -> Columns {
    Columns { time: args.time, timestamp: args.timestamp, wide: args.wide, csv: args.csv, stacks: false }
}

/// What the sockets of a container have in common.
#[derive(Debug, Default)]
struct Inside {
    netns: Option<u32>,
    cgroup_ids: Vec<u64>,
}

/// A container's cgroups, by which its sockets are known; its network namespace where the sockets of this host do not
/// know their cgroup, and nobody else is in that namespace.
fn inside(text: &str) -> Result<Inside, Usage> {
    let usage = |why: &dyn std::fmt::Display| Usage(format!("--container {}: {why}", printable(text)));
    let found = Containers::new().resolve(text).map_err(|error| usage(&error))?;
    if !found.cgroup_ids.is_empty() && found.cgroup_ids.len() <= MAX_CGROUPS {
        return Ok(Inside { netns: None, cgroup_ids: found.cgroup_ids });
    }
    match found.netns {
        Some(netns) if !found.host_netns && !found.shared_netns => {
            Ok(Inside { netns: Some(netns), cgroup_ids: Vec::new() })
        }
        _ => Err(usage(&format_args!(
            "nothing tells its sockets from those of others: it shares its network namespace, and has no cgroup of \
             its own in the cgroup2 hierarchy (or more than {MAX_CGROUPS}); give -p with one of its processes ({})",
            found.pids.iter().take(8).map(u32::to_string).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// An inode number, the path of a namespace file, or a name as `ip netns` keeps them.
pub(crate) fn netns_inode(text: &str) -> Result<u32, Usage> {
    if let Ok(inode) = text.parse() {
        return Ok(inode);
    }
    let path = if text.contains('/') { text.to_owned() } else { format!("/run/netns/{text}") };
    let (text, shown) = (printable(text), printable(&path));
    let inode = inode_of(Path::new(&path)).map_err(|error| {
        Usage(format!("--netns {text}: {shown}: {error}; give a path such as /proc/PID/ns/net, a name of `ip netns`, or an inode number"))
    })?;
    u32::try_from(inode).map_err(|_too_large| Usage(format!("--netns {text}: {shown} is no namespace file")))
}

/// An id, or a directory of the cgroup2 hierarchy, whose inode number is the id.
fn cgroup_id(text: &str) -> Result<u64, Usage> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let mount = bpf::cgroup_mount_point();
    let inside = mount.map(|mount| mount.join(text.trim_start_matches('/')));
    inside.into_iter().chain([Path::new(text).to_owned()]).find_map(|path| inode_of(&path).ok()).ok_or_else(
        || {
            Usage(format!(
                "--cgroup {}: no such directory in the cgroup2 hierarchy; give its path there, or an id",
                printable(text)
            ))
        },
    )
}

fn inode_of(path: &Path) -> std::io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}
