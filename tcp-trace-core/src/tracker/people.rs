//! Who the processes are, and which containers cgroups belong to, as far as somebody has looked.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::gauge::Gauge;
use crate::{
    process::{Owner, ProcessId},
    survey::{ContainerFacts, Facts, ProcessFacts},
};

/// What is known of a process; all `None` while nobody has answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Person {
    pub(super) facts: Option<Arc<ProcessFacts>>,
    pub(super) container: Option<Arc<ContainerFacts>>,
}

/// Cgroup path and container.
type Place = (Arc<str>, Option<Arc<ContainerFacts>>);

/// Processes and cgroups, in two generations: when the younger one is full the older one is forgotten, and whatever
/// is used in between moves to the younger. So a process that has exited keeps its identity as long as anything
/// refers to it, and the table stays bounded.
#[derive(Debug)]
pub(super) struct People {
    young: FxHashMap<ProcessId, Person>,
    old: FxHashMap<ProcessId, Person>,
    places: FxHashMap<u64, Place>,
    wanted: Vec<ProcessId>,
    /// Who was met last, and is among the young: mostly the next one, too.
    met: Option<ProcessId>,
    max: usize,
    pub(super) gauge: Gauge,
}

impl People {
    /// Room for `max` processes of each generation.
    pub(super) fn new(max: usize) -> Self {
        Self {
            young: FxHashMap::default(),
            old: FxHashMap::default(),
            places: FxHashMap::default(),
            wanted: Vec::new(),
            met: None,
            max: max.max(1),
            gauge: Gauge::default(),
        }
    }

    /// Room for so many processes, of both generations.
    pub(super) fn max(&self) -> usize {
        2 * self.max
    }

    /// Processes that are remembered.
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// A process was seen: somebody should look at it, unless somebody has.
    pub(super) fn meet(&mut self, id: ProcessId) {
        // Without its start it could be another process by the time of the look.
        if id.start_ns.is_none() || self.met == Some(id) {
            return;
        }
        if self.young.contains_key(&id) {
            self.met = Some(id);
            return;
        }
        let person = self.old.remove(&id).unwrap_or_else(|| {
            if self.wanted.len() < self.max {
                self.wanted.push(id);
            }
            Person::default()
        });
        self.insert(id, person);
    }

    /// The processes that nobody has looked at yet.
    pub(super) fn take_wanted(&mut self) -> Vec<ProcessId> {
        std::mem::take(&mut self.wanted)
    }

    /// Somebody has looked.
    pub(super) fn learn(&mut self, facts: &Facts) {
        for process in &facts.processes {
            let container = process.container.clone().map(Arc::new);
            self.old.remove(&process.id);
            self.insert(process.id, Person { facts: Some(Arc::new(process.clone())), container });
        }
        for (id, path, container) in &facts.cgroups {
            if self.places.len() < self.max || self.places.contains_key(id) {
                self.places.insert(*id, (path.as_str().into(), container.clone().map(Arc::new)));
            } else {
                self.gauge.drops(1);
            }
        }
    }

    /// Whether nobody has looked at anything.
    pub(super) fn is_empty(&self) -> bool {
        self.young.values().chain(self.old.values()).all(|person| person.facts.is_none())
    }

    /// What is known of a process.
    pub(super) fn get(&self, id: ProcessId) -> Option<&Person> {
        self.young.get(&id).or_else(|| self.old.get(&id))
    }

    /// The container of a socket: of its owner's process, or else of the cgroup that it was created in.
    pub(super) fn container(&self, owner: Option<Owner>, cgroup: Option<u64>) -> Option<Arc<ContainerFacts>> {
        self.container_of(owner.map(|owner| owner.process), cgroup)
    }

    /// The same, of a socket of this process.
    pub(super) fn container_of(
        &self,
        process: Option<ProcessId>,
        cgroup: Option<u64>,
    ) -> Option<Arc<ContainerFacts>> {
        let by_owner = process.and_then(|process| self.get(process)?.container.clone());
        by_owner.or_else(|| self.places.get(&cgroup?)?.1.clone())
    }

    fn insert(&mut self, id: ProcessId, person: Person) {
        if self.young.len() >= self.max && !self.young.contains_key(&id) {
            let forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.met = None;
            self.gauge.drops(forgotten.len());
        }
        self.young.insert(id, person);
        self.gauge.holds(self.young.len() + self.old.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(pid: u32) -> ProcessId {
        ProcessId { pid, start_ns: Some(0) }
    }

    #[test]
    fn each_process_is_asked_for_once() {
        let mut people = People::new(10);
        people.meet(id(1));
        people.meet(id(1));
        people.meet(ProcessId { pid: 2, start_ns: None });
        assert_eq!(people.take_wanted(), [id(1)]);
        people.meet(id(1));
        assert_eq!(people.take_wanted(), []);
    }

    #[test]
    fn who_is_met_now_and_then_is_not_forgotten() {
        let mut people = People::new(10);
        people.meet(id(1));
        for pid in 100..1_000 {
            people.meet(id(pid));
            people.meet(id(1));
        }
        assert_eq!(people.take_wanted().iter().filter(|known| **known == id(1)).count(), 1);
        assert!(people.get(id(1)).is_some());
        assert!(people.get(id(100)).is_none(), "bounded");
        assert!(people.young.len() + people.old.len() <= 20);
    }
}
