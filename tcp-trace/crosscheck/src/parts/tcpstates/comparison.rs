//! Two streams of the same transitions, compared as multisets and, socket by socket, by their order.

use std::collections::HashMap;

use super::transition::Transition;

/// What one program printed of one socket's address, in the order that it printed it.
#[derive(Debug, Default)]
struct Tale {
    ours: Vec<(Transition, bool)>,
    theirs: Vec<Transition>,
}

/// Everything that both printed.
#[derive(Debug, Default)]
pub(super) struct Streams {
    tales: HashMap<u64, Tale>,
    /// Lines of theirs and ours, and those of ours inside the window.
    pub(super) theirs: u64,
    pub(super) ours: u64,
    pub(super) inside: u64,
}

/// What differs.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// They have it, we have not.
    pub(super) not_ours: Vec<Transition>,
    /// We have it, in the window, they have not.
    pub(super) not_theirs: Vec<Transition>,
    /// Both have it at this place of the socket's life, with other addresses or ports: ours first.
    pub(super) changed: Vec<(Transition, Transition)>,
    /// Sockets of which both have the same transitions, in another order.
    pub(super) reordered: u64,
    /// Of these, those whose order of ours is no possible one.
    pub(super) ours_impossible: u64,
    /// Of these, those whose order of theirs is no possible one.
    pub(super) theirs_impossible: u64,
    /// Transitions that are equal in everything.
    pub(super) equal: u64,
}

impl Streams {
    /// `inside`: whether the other program was at work then for certain.
    pub(super) fn add_ours(&mut self, transition: Transition, inside: bool) {
        self.ours += 1;
        self.inside += u64::from(inside);
        self.tales.entry(transition.socket).or_default().ours.push((transition, inside));
    }

    pub(super) fn add_theirs(&mut self, transition: Transition) {
        self.theirs += 1;
        self.tales.entry(transition.socket).or_default().theirs.push(transition);
    }

    pub(super) fn compare(&self) -> Differences {
        let mut differences = Differences::default();
        for tale in self.tales.values() {
            tale.compare(&mut differences);
        }
        differences
    }
}

impl Tale {
    fn compare(&self, differences: &mut Differences) {
        let same = self.ours.len() == self.theirs.len()
            && self.ours.iter().zip(&self.theirs).all(|((ours, _), theirs)| ours == theirs);
        if same {
            differences.equal += self.theirs.len() as u64;
            return;
        }
        let mut balance: HashMap<&Transition, i64> = HashMap::new();
        for transition in &self.theirs {
            *balance.entry(transition).or_default() += 1;
        }
        let mut common = Vec::new();
        let mut missing = Vec::new();
        // What lies outside the window is matched last: there nothing is owed.
        let (inside, outside): (Vec<_>, Vec<_>) = self.ours.iter().copied().partition(|(_, inside)| *inside);
        for (transition, inside) in inside.into_iter().chain(outside) {
            match balance.get_mut(&transition) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    common.push(transition);
                }
                _ if inside => missing.push(transition),
                _ => {}
            }
        }
        differences.equal += common.len() as u64;
        let too_many = balance.iter().flat_map(|(transition, left)| {
            std::iter::repeat_n(**transition, usize::try_from(*left).unwrap_or(0))
        });
        pair(&mut missing, too_many, differences);
        differences.not_theirs.append(&mut missing);
        self.compare_order(differences);
    }

    /// Of a socket of which both have everything.
    fn compare_order(&self, differences: &mut Differences) {
        let ours: Vec<Transition> = self.ours.iter().map(|(transition, _)| *transition).collect();
        let mut sorted = [ours.clone(), self.theirs.clone()];
        sorted.iter_mut().for_each(|tale| tale.sort_unstable());
        if sorted[0] != sorted[1] || ours == self.theirs {
            return;
        }
        differences.reordered += 1;
        differences.ours_impossible += u64::from(!is_possible(&ours));
        differences.theirs_impossible += u64::from(!is_possible(&self.theirs));
    }
}

/// Puts those together that are the same step of the same socket, with other addresses.
fn pair(
    missing: &mut Vec<Transition>,
    too_many: impl Iterator<Item = Transition>,
    differences: &mut Differences,
) {
    for theirs in too_many {
        let same = |ours: &Transition| (ours.old, ours.new) == (theirs.old, theirs.new);
        match missing.iter().position(same) {
            Some(at) => differences.changed.push((missing.remove(at), theirs)),
            None => differences.not_ours.push(theirs),
        }
    }
}

/// Whether each transition leaves the state that the one before has entered, or begins a new life.
fn is_possible(tale: &[Transition]) -> bool {
    tale.windows(2).all(|pair| {
        let [before, after] = pair else { return true };
        before.new == after.old || (after.is_birth() && before.new == super::transition::CLOSE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transitions(text: &str) -> Vec<Transition> {
        text.lines()
            .map(|line| {
                let [socket, port, old, new] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                    panic!("{line}")
                };
                Transition::of_ours(&format!("{socket},1,x,4,::1,80,::1,{port},{old},{new},-")).unwrap()
            })
            .collect()
    }

    const LIFE: &str = "a 5 LISTEN SYN_RECV\na 5 SYN_RECV ESTABLISHED\na 5 ESTABLISHED CLOSE";

    fn compare(ours: &str, theirs: &str) -> Differences {
        let mut streams = Streams::default();
        transitions(ours).into_iter().for_each(|transition| streams.add_ours(transition, true));
        transitions(theirs).into_iter().for_each(|transition| streams.add_theirs(transition));
        streams.compare()
    }

    #[test]
    fn equal_streams_do_not_differ() {
        let Differences { not_ours, not_theirs, changed, reordered, equal, .. } = compare(LIFE, LIFE);
        assert_eq!((not_ours.len(), not_theirs.len(), changed.len(), reordered, equal), (0, 0, 0, 0, 3));
    }

    #[test]
    fn what_either_lacks_is_found() {
        let less = "a 5 LISTEN SYN_RECV\na 5 ESTABLISHED CLOSE";
        let missed = compare(LIFE, less);
        assert_eq!((missed.not_theirs.len(), missed.not_ours.len(), missed.equal), (1, 0, 2));
        let missed = compare(less, LIFE);
        assert_eq!((missed.not_theirs.len(), missed.not_ours.len(), missed.equal), (0, 1, 2));
        let twice = format!("{LIFE}\na 5 ESTABLISHED CLOSE");
        assert_eq!(compare(&twice, LIFE).not_theirs.len(), 1);
        assert_eq!(compare(LIFE, &twice).not_ours.len(), 1);
    }

    #[test]
    fn what_lies_outside_the_window_is_not_owed() {
        let mut streams = Streams::default();
        transitions(LIFE).into_iter().for_each(|transition| streams.add_ours(transition, false));
        let differences = streams.compare();
        assert_eq!((differences.not_theirs.len(), differences.equal), (0, 0));
    }

    #[test]
    fn another_port_is_a_change_and_not_two_differences() {
        let other = LIFE.replace("a 5 ESTABLISHED CLOSE", "a 6 ESTABLISHED CLOSE");
        let changed = compare(LIFE, &other);
        assert_eq!((changed.changed.len(), changed.not_ours.len(), changed.not_theirs.len()), (1, 0, 0));
    }

    #[test]
    fn who_prints_an_impossible_order_is_told() {
        let order = "a 5 LISTEN SYN_RECV\na 5 ESTABLISHED CLOSE\na 5 SYN_RECV ESTABLISHED";
        let differences = compare(LIFE, order);
        let Differences { reordered, ours_impossible, theirs_impossible, .. } = differences;
        assert_eq!((reordered, ours_impossible, theirs_impossible), (1, 0, 1));
    }
}
