//! How two programs on one hook see to it that no transition is missed and none is counted twice.
//!
//! The kernel does not run a program on a CPU where that same program is already running (`__bpf_trace_run`,
//! `kernel/trace/bpf_trace.c`, 6.2). A softirq that interrupts it may process a whole batch of 64 packets then, and
//! every transition of them would be skipped; `recursion_misses` tells of most of these, not of all. So
//! `set_state` notes each transition that it takes on in a per-CPU stack, and `set_state_nested`, which the kernel
//! calls right after it for the same transition, takes on those that it does not find there.
//!
//! (Kernels before 6.2 run a program inside itself; then `set_state` takes on the nested ones too, and
//! `set_state_nested` finds them.)
//!
//! Not for PREEMPT_RT, where a tracepoint may be preempted by another task.
//!
//! Interrupts may come anywhere; what holds the protocol together is that a nested transition is over
//! before the interrupted one goes on:
//!
//! * inside `set_state`: nested transitions are not noted, and `set_state_nested` takes them on;
//! * between the two: nested ones are noted and found, so the stack is as it was;
//! * inside `set_state_nested`: nested ones are noted by `set_state` and nobody looks for them; they lie above the
//!   interrupted one, which forgets them together with itself;
//! * in the last instructions of `set_state_nested`, after it has forgotten its own: what nested ones leave there
//!   stays until the next transition finds more below it than can be under way. Only if that very next one is
//!   interrupted between the two programs is it counted twice: the one case that this does not cover.

use core::sync::atomic::{Ordering, compiler_fence};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Transitions that may be under way on one CPU: one in a task, one in a softirq, and room.
pub const DEPTH: usize = 4;

/// Bits of the word that user space sets when all is attached. What there is beside the two programs is known only after
/// these are loaded, so that it cannot stand among their read-only globals; and how transitions reach user space changes
/// while they run. One look serves a whole run of a program.
///
/// While it is 0 neither of the two takes anything on.
pub mod live {
    /// Both programs are attached.
    pub const BOTH: u64 = 1 << 0;
    /// `first_read` is attached: the map of unclaimed sockets is worth filling.
    pub const CLAIMS: u64 = 1 << 1;
    /// `time_wait` is attached: the map of time-wait sockets is worth looking into.
    pub const TIME_WAIT: u64 = 1 << 2;
    /// `last_close` is attached: the map of ended connections that still have a file is worth filling.
    pub const LAST_CLOSE: u64 = 1 << 3;
    /// Transitions are aggregated (`crate::aggregate`); without it they are sent.
    pub const AGGREGATE: u64 = 1 << 4;
    /// Which of two generations of rows is being filled. After a grace period nobody writes into the other one any more,
    /// and it can be taken out without losing a count.
    pub const ODD_ROWS: u64 = 1 << 5;
}

/// One CPU's transitions under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Taken {
    /// How many of `tokens` are under way.
    pub depth: u64,
    /// What identifies each of them, oldest first.
    pub tokens: [Token; DEPTH],
}

/// Identifies a transition among those that can be under way at the same time.
///
/// Two words rather than one: the verifier lets a kernel pointer be stored and compared, not calculated with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Token {
    /// Address of the socket.
    pub skaddr: u64,
    /// `crate::counters::slot`
    pub slot: u64,
}

impl Taken {
    /// `set_state` takes on a transition.
    #[inline(always)]
    pub fn take(&mut self, token: Token) {
        // A batch inside `set_state_nested` fills the stack; the last place serves for all that do not fit.
        let top = if self.depth < DEPTH as u64 { self.depth as usize & (DEPTH - 1) } else { DEPTH - 1 };
        // The place first: a nested transition that comes here before the token stands must not use it.
        self.depth = top as u64 + 1;
        compiler_fence(Ordering::SeqCst);
        self.tokens[top] = token;
    }

    /// Whether `set_state_nested` has to take the transition on. One that was taken on already is forgotten.
    #[inline(always)]
    pub fn is_missed(&mut self, token: Token) -> bool {
        // Undisturbed, as nearly all are: nothing below, nothing above.
        let [first, ..] = &mut self.tokens;
        if self.depth == 1 && first.skaddr == token.skaddr && first.slot == token.slot {
            first.skaddr = 0;
            compiler_fence(Ordering::SeqCst);
            self.depth = 0;
            return false;
        }
        let mut found = DEPTH;
        for (index, taken) in self.tokens.iter().enumerate() {
            let same = taken.skaddr == token.skaddr && taken.slot == token.slot;
            if same && index < self.depth as usize && found == DEPTH {
                found = index;
            }
        }
        if found == DEPTH {
            return true;
        }
        let keep = if found >= 2 {
            // Only one transition can be under way below this one, the interrupted one just below; what else is
            // there came after an earlier transition was forgotten, when nobody looked for it any more.
            self.tokens[0] = self.tokens[(found - 1) & (DEPTH - 1)];
            1
        } else {
            found
        };
        for (index, taken) in self.tokens.iter_mut().enumerate() {
            if index >= keep {
                taken.skaddr = 0; // No socket's, so that a place without its token yet matches nothing.
            }
        }
        compiler_fence(Ordering::SeqCst);
        self.depth = keep as u64;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(skaddr: u64) -> Token {
        Token { skaddr, slot: 0x14 }
    }

    #[test]
    fn an_undisturbed_transition_is_taken_on_once() {
        let mut cpu = Taken::default();
        for token in 1..1000 {
            cpu.take(of(token));
            assert!(!cpu.is_missed(of(token)));
        }
        assert_eq!(cpu.depth, 0);
    }

    #[test]
    fn one_that_began_before_is_taken_on_by_the_second() {
        let mut cpu = Taken::default();
        assert!(cpu.is_missed(of(7)), "the word was still 0 when `set_state` looked");
    }

    #[test]
    fn a_batch_inside_the_first_program_is_taken_on_by_the_second() {
        let mut cpu = Taken::default();
        cpu.take(of(1));
        for nested in 2..66 {
            assert!(cpu.is_missed(of(nested)), "the first one was skipped");
        }
        assert!(!cpu.is_missed(of(1)));
        assert_eq!(cpu.depth, 0);
    }

    #[test]
    fn a_batch_between_the_programs_leaves_no_trace() {
        let mut cpu = Taken::default();
        cpu.take(of(1));
        for nested in 2..66 {
            cpu.take(of(nested));
            assert!(!cpu.is_missed(of(nested)));
        }
        assert!(!cpu.is_missed(of(1)));
        assert_eq!(cpu.depth, 0);
    }

    #[test]
    fn a_batch_at_the_very_end_of_the_second_program_does_no_harm() {
        let mut cpu = Taken::default();
        cpu.take(of(1));
        assert!(!cpu.is_missed(of(1)));
        for nested in 2..66 {
            cpu.take(of(nested)); // And the second program is skipped.
        }
        cpu.take(of(99));
        assert!(!cpu.is_missed(of(99)), "and tidies up");
        for task in 100..200 {
            cpu.take(of(task));
            for nested in [300, 301, 302] {
                cpu.take(of(nested));
                assert!(!cpu.is_missed(of(nested)));
            }
            assert!(!cpu.is_missed(of(task)));
        }
        cpu.take(of(1));
        for nested in 400..464 {
            assert!(cpu.is_missed(of(nested)), "the first one was skipped");
        }
        assert!(!cpu.is_missed(of(1)));
    }

    #[test]
    fn a_batch_inside_the_second_program_is_forgotten_with_the_interrupted_one() {
        let mut cpu = Taken::default();
        cpu.take(of(1));
        for nested in 2..66 {
            cpu.take(of(nested)); // And the second program is skipped.
        }
        assert!(!cpu.is_missed(of(1)));
        assert_eq!(cpu.depth, 0);
    }
}
