//! What will work, and the next thing to get.

use super::{
    cause::{self, Cause, cause},
    checks::joined,
    diagnosis::{Judge, MAIN},
    document::{Next, Tier, Works},
    facts::{Attempt, HookKind, Trial},
    needs::Feature,
    remedy,
};

/// The program that tells half-opens from their SYN on.
const HALF_OPEN: &str = "half_open";
/// The iterator over descriptors.
const HOLDERS: &str = "holders";

/// Something that could be had, and why it is not.
type Lack = (&'static str, Cause);

impl Judge<'_> {
    pub(super) fn tiers(&self) -> Vec<Tier> {
        vec![self.tier_0(), self.tier_1(), self.tier_1s(), self.tier_2(), self.tier_s(), self.tier_k()]
    }

    /// Either main hook shows every transition.
    fn tier_0(&self) -> Tier {
        let missing = if self.ready() { Vec::new() } else { self.lacks_of_main() };
        tier("0", "tracepoints", "every transition, exactly counted", works(self.ready()), missing)
    }

    fn lacks_of_main(&self) -> Vec<String> {
        let causes = [HookKind::TpBtf, HookKind::Tracepoint].map(|kind| self.cause_of(MAIN, kind));
        let mut lacks = Vec::new();
        for cause in causes.into_iter().flatten() {
            push_once(&mut lacks, cause.sentence());
        }
        lacks
    }

    fn tier_1(&self) -> Tier {
        let gives = "cookies, owners, netns, cgroup, tcp_sock facts";
        let cause = self.cause_of(MAIN, HookKind::TpBtf);
        let on_tracepoints: Vec<_> = self.optional(false).collect();
        let mut missing: Vec<String> = cause.iter().map(Cause::sentence).collect();
        let all = on_tracepoints.iter().all(|trial| trial.attempt.works());
        if cause.is_none() {
            missing.extend(self.missing(&on_tracepoints));
        }
        let works = match (self.works(MAIN, HookKind::TpBtf), all) {
            (true, true) => Works::Yes,
            (true, false) => Works::Partly,
            _ => Works::No,
        };
        tier("1", "BTF", gives, works, missing)
    }

    /// The tier of sock_ops is only of use to `tp_btf`, which joins a request to its connection.
    fn tier_1s(&self) -> Tier {
        let base = self.cause_of(MAIN, HookKind::TpBtf);
        let own = self.cause_of(HALF_OPEN, HookKind::SockOps);
        let works = works(base.is_none() && own.is_none() && self.works(HALF_OPEN, HookKind::SockOps));
        let missing = base.or(own).iter().map(Cause::sentence).collect();
        tier("1s", "sock_ops", "true half-open times, from the SYN on", works, missing)
    }

    fn optional(&self, on_function: bool) -> impl Iterator<Item = &Trial> {
        let of_kind = move |trial: &&Trial| {
            trial.loss.is_some()
                && match trial.kind {
                    HookKind::Fentry | HookKind::Fexit => on_function,
                    HookKind::TpBtf | HookKind::Iter => !on_function,
                    HookKind::SockOps | HookKind::Tracepoint => false,
                }
        };
        self.facts.hooks.iter().filter(of_kind)
    }

    /// Why programs are not to be had, with their names.
    fn missing(&self, trials: &[&Trial]) -> Vec<String> {
        let mut found: Vec<(String, Vec<&str>)> = Vec::new();
        for trial in trials {
            let Some(cause) = cause(self.facts, trial.kind, &trial.attempt) else { continue };
            let sentence = cause.sentence();
            match found.iter_mut().find(|(other, _)| *other == sentence) {
                Some((_, names)) => names.push(&trial.name),
                None => found.push((sentence, vec![&trial.name])),
            }
        }
        found.into_iter().map(|(sentence, names)| format!("{}: {sentence}", names.join(", "))).collect()
    }

    fn tier_2(&self) -> Tier {
        let gives = "exact TIME_WAIT, accept() owners, ends of half-opens";
        let trials: Vec<_> = self.optional(true).collect();
        let base = self.cause_of(MAIN, HookKind::TpBtf);
        let on = trials.iter().filter(|trial| trial.attempt.works()).count();
        let works = match (on, base.is_none()) {
            (0, _) | (_, false) => Works::No,
            (on, true) if on == trials.len() => Works::Yes,
            _ => Works::Partly,
        };
        let missing = match base {
            Some(cause) => vec![cause.sentence()],
            None => self.missing(&trials),
        };
        tier("2", "fentry", gives, works, missing)
    }

    fn tier_s(&self) -> Tier {
        let gives = "older sockets, queues, TIME_WAIT, holders";
        let mut missing = Vec::new();
        if let Attempt::Refused { reason, .. } | Attempt::NotTried(reason) = &self.facts.sock_diag {
            missing.push(reason.clone());
        }
        missing.extend(self.facts.namespaces.1.iter().chain(&self.facts.holders).cloned());
        if !self.facts.privileges.first_pid_namespace {
            missing.push("this is a pid namespace of its own: only its processes can be named".into());
        }
        let works = match (self.facts.sock_diag.works(), missing.is_empty()) {
            (false, _) => Works::No,
            (true, true) => Works::Yes,
            (true, false) => Works::Partly,
        };
        tier("S", "snapshot", gives, works, missing)
    }

    fn tier_k(&self) -> Tier {
        let cause = self.destroy_cause();
        let missing = cause.iter().map(Cause::sentence).collect();
        tier("K", "kill", "tcp-trace kill: destroys leaked sockets", works(cause.is_none()), missing)
    }

    /// Of what is missing, in the order of what it is worth, the first that a command gets; else the first that something
    /// gets.
    pub(super) fn next(&self) -> Option<Next> {
        if !self.ready() {
            return Some(self.to_the_main_job());
        }
        let all = self.lacks().into_iter().filter(|(_, cause)| !matches!(cause, Cause::Unknown(_)));
        let mut all = all.map(|(gives, cause)| remedy::next(self.facts, gives, &cause)).peekable();
        let first = all.peek().cloned();
        all.find(|next| next.command.is_some()).or(first)
    }

    /// Of two hooks one will do: the one that a command opens, before the one that takes another kernel.
    fn to_the_main_job(&self) -> Next {
        const GIVES: &str = "the main job: every transition, with its owner";
        let causes: Vec<_> = [HookKind::TpBtf, HookKind::Tracepoint]
            .into_iter()
            .filter_map(|kind| self.cause_of(MAIN, kind))
            .collect();
        let helps = |cause: &&Cause| remedy::next(self.facts, GIVES, cause).command.is_some();
        let cause = causes.iter().find(helps).or(causes.first()).cloned();
        let cause = cause.unwrap_or(Cause::Kernel("neither main hook could be tried".into()));
        remedy::next(self.facts, GIVES, &cause)
    }

    fn lacks(&self) -> Vec<Lack> {
        let facts = self.facts;
        let mut lacks: Vec<Lack> = Vec::new();
        let mut lack = |gives, cause: Option<Cause>| lacks.extend(cause.map(|cause| (gives, cause)));
        lack("tier 1: owners, cookies, containers", self.cause_of(MAIN, HookKind::TpBtf));
        lack("tier 1s: true half-open times, from the SYN on", self.cause_of(HALF_OPEN, HookKind::SockOps));
        let unknown = |text: &Vec<String>| joined(text).map(Cause::Unknown);
        let hidden = unknown(&facts.holders)
            .map(|other| cause::refused(facts, Feature::Holders, false).unwrap_or(other));
        lack("tier S: who holds the sockets of other users", hidden);
        let closed = unknown(&facts.namespaces.1)
            .map(|other| cause::refused(facts, Feature::Namespaces, false).unwrap_or(other));
        lack("tier S: sockets in other network namespaces", closed);
        lack("tier S: holders of sockets, from the kernel", self.cause_of(HOLDERS, HookKind::Iter));
        let functions = self.optional(true).find_map(|trial| cause(facts, trial.kind, &trial.attempt));
        lack("tier 2: exact TIME_WAIT, accept() owners, ends of half-opens", functions);
        lack("tcp-trace kill", self.destroy_cause());
        lacks
    }
}

fn works(yes: bool) -> Works {
    if yes { Works::Yes } else { Works::No }
}

fn tier(
    tier: &'static str,
    name: &'static str,
    gives: &'static str,
    works: Works,
    missing: Vec<String>,
) -> Tier {
    Tier { tier, name, works, gives, missing }
}

fn push_once(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}
