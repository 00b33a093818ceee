//! The document of `doctor --json`, `tcp-trace.doctor/1`.

use serde::Serialize;

use super::facts::{CgroupMode, Field, HookKind};
use crate::session::Host;

/// The value of `schema`.
pub const SCHEMA: &str = "tcp-trace.doctor/1";

/// What a host allows, and what to do about the rest.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The host.
    pub host: Host,
    /// Whether the main job can run: transitions can be traced.
    pub ready: bool,
    /// Facts of the host, each judged.
    pub checks: Vec<Check>,
    /// Capabilities, the most needed first.
    pub capabilities: Vec<CapabilityRow>,
    /// Where the programs read what they read.
    pub layout: Layout,
    /// How the cgroup hierarchies are mounted.
    pub cgroup_mode: CgroupMode,
    /// Each hook, tried.
    pub hooks: Vec<HookRow>,
    /// What will work.
    pub tiers: Vec<Tier>,
    /// The next thing to get; `None` when there is nothing left.
    pub next: Option<Next>,
}

/// How a fact is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Something is lost by it.
    Limits,
    /// It could not be found out.
    Unknown,
    /// It neither helps nor hinders.
    Info,
}

/// A fact of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, as a short stable word.
    pub name: &'static str,
    /// How it is to be taken.
    pub status: Status,
    /// What was found.
    pub value: String,
    /// What follows from it; `None` where nothing does.
    pub note: Option<String>,
}

/// A capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CapabilityRow {
    /// Its name.
    pub name: &'static str,
    /// Whether this process holds it.
    pub held: bool,
    /// Whether this kernel asks for it at all.
    pub needed: bool,
    /// What it is for.
    pub purpose: &'static str,
}

/// Where the programs read what they read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Fields of the tracepoint's record, from tracefs; empty where that was not to be read.
    pub tracepoint: Vec<Field>,
    /// Members of the kernel's structs, from its BTF; empty where there is none.
    pub members: Vec<Member>,
}

/// A member of a struct.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Struct and member, as C writes them.
    pub name: String,
    /// Bytes before it (of a bit field: bits); `None` where this kernel has none such.
    pub offset: Option<u32>,
}

/// What a trial came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Loaded, attached, detached.
    Ok,
    /// The kernel refused it.
    Refused,
    /// It could not be tried.
    NotTried,
}

/// A hook that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookRow {
    /// The program.
    pub name: String,
    /// How it hangs on the kernel.
    pub kind: HookKind,
    /// What it hangs on.
    pub target: String,
    /// What it came to.
    pub outcome: Outcome,
    /// Why it is not to be had, as a short stable word; `None` where it is.
    pub cause: Option<&'static str>,
    /// The same as a sentence.
    pub reason: Option<String>,
    /// What is not known without it; `None` of a main program.
    pub loss: Option<String>,
}

/// Whether something will work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Works {
    /// All of it.
    Yes,
    /// Some of it.
    Partly,
    /// Nothing of it.
    No,
}

/// A tier of sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tier {
    /// `0`, `1`, `1s`, `2`, `S`, `K`.
    pub tier: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Whether it will work.
    pub works: Works,
    /// What it gives.
    pub gives: &'static str,
    /// What stands in its way, each once.
    pub missing: Vec<String>,
}

/// The next thing to get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Next {
    /// What is gained.
    pub gives: String,
    /// Why it is not there.
    pub reason: String,
    /// The command that gets it; `None` where no command does.
    pub command: Option<String>,
    /// What to do, where a command cannot, or what to know about it.
    pub how: Option<String>,
}
