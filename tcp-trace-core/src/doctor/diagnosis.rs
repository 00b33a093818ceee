//! From facts to the document.

use super::{
    capability::Capability,
    cause::{self, Cause, EPERM, cause},
    document::{CapabilityRow, Diagnosis, HookRow, Layout, Member, Outcome, SCHEMA},
    facts::{Attempt, Facts, HookKind, Trial},
    needs::Feature,
};

/// The main program of each way to attach.
pub(super) const MAIN: &str = "set_state";
/// Judges what was found.
#[must_use]
pub fn diagnose(facts: &Facts) -> Diagnosis {
    let judge = Judge { facts };
    Diagnosis {
        schema: SCHEMA,
        host: facts.host.clone(),
        ready: judge.ready(),
        checks: judge.checks(),
        capabilities: Capability::ALL.map(|one| judge.capability(one)).into(),
        layout: Layout {
            tracepoint: facts.tracefs.fields.clone(),
            members: facts
                .btf
                .members
                .iter()
                .map(|(name, offset)| Member { name: name.clone(), offset: *offset })
                .collect(),
        },
        cgroup_mode: facts.cgroup.mode,
        hooks: facts.hooks.iter().map(|trial| judge.hook(trial)).collect(),
        tiers: judge.tiers(),
        next: judge.next(),
    }
}

/// The facts, ready to be judged.
pub(super) struct Judge<'a> {
    pub(super) facts: &'a Facts,
}

impl Judge<'_> {
    pub(super) fn works(&self, name: &str, kind: HookKind) -> bool {
        self.facts.hooks.iter().any(|trial| trial.name == name && trial.kind == kind && trial.attempt.works())
    }

    /// What `tcp-trace report` asks for before it tries anything, and one of the main hooks.
    pub(super) fn ready(&self) -> bool {
        let effective = self.facts.privileges.effective;
        Feature::Trace.missing(effective).is_empty()
            && (self.works(MAIN, HookKind::TpBtf) || self.works(MAIN, HookKind::Tracepoint))
    }

    pub(super) fn cause_of(&self, name: &str, kind: HookKind) -> Option<Cause> {
        let trial = self.facts.hooks.iter().find(|trial| trial.name == name && trial.kind == kind)?;
        cause(self.facts, trial.kind, &trial.attempt)
    }

    fn hook(&self, trial: &Trial) -> HookRow {
        let cause = cause(self.facts, trial.kind, &trial.attempt);
        HookRow {
            name: trial.name.clone(),
            kind: trial.kind,
            target: trial.target.clone(),
            outcome: match trial.attempt {
                Attempt::Works => Outcome::Ok,
                Attempt::Refused { .. } => Outcome::Refused,
                Attempt::NotTried(_) => Outcome::NotTried,
            },
            cause: cause.as_ref().map(Cause::id),
            reason: cause.as_ref().map(Cause::sentence),
            loss: trial.loss.clone(),
        }
    }

    fn capability(&self, capability: Capability) -> CapabilityRow {
        let rights = &self.facts.privileges;
        let old = self.facts.kernel.is_some_and(|version| version < (5, 11));
        CapabilityRow {
            name: capability.name(),
            held: rights.effective.has(capability),
            needed: match capability {
                Capability::SysResource => old,
                Capability::Bpf | Capability::Perfmon => !rights.effective.has(Capability::SysAdmin),
                _ => true,
            },
            purpose: capability.purpose(),
        }
    }

    /// Why a socket cannot be destroyed.
    pub(super) fn destroy_cause(&self) -> Option<Cause> {
        let Attempt::Refused { errno, reason } = &self.facts.destroy else { return None };
        let refused =
            (*errno == Some(EPERM)).then(|| cause::refused(self.facts, Feature::Kill, false)).flatten();
        Some(refused.unwrap_or_else(|| Cause::Kernel(reason.clone())))
    }
}
