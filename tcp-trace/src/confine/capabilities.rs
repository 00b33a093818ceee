//! Capabilities of the calling thread.

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    },
};
use tcp_trace_core::doctor::{Capabilities, Capability, Feature};

use super::NotConfined;

/// CAP_SETPCAP, which giving up of the bounding set takes, and CAP_CHECKPOINT_RESTORE
/// (`include/uapi/linux/capability.h`).
const SETPCAP: CapabilitySet = CapabilitySet::SETPCAP;
const CHECKPOINT_RESTORE: u64 = 1 << 40;

/// Of what this thread holds, keeps what these take.
pub(super) fn keep(features: &[Feature], more: &[Capability]) -> Result<(), NotConfined> {
    let held = capabilities(None)?;
    let kept = CapabilitySet::from_bits_retain(kept(held.permitted.bits(), features, more));
    if held.effective.contains(SETPCAP) {
        give_up_bounds(!kept)?;
    }
    // What is ambient has to be inheritable, and goes with it.
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

fn kept(held: u64, features: &[Feature], more: &[Capability]) -> u64 {
    let capabilities = Capabilities(held);
    let mut kept = capabilities.kept_for(features).0;
    // Mapped files can be opened with either (`proc_map_files_get_link`, `fs/proc/base.c`, since 5.9): the lesser one will
    // do, where entering namespaces does not take the greater.
    if features.contains(&Feature::Mappings) && held & CHECKPOINT_RESTORE != 0 {
        kept |= CHECKPOINT_RESTORE;
        if !features.contains(&Feature::Namespaces) {
            kept &= !(1 << Capability::SysAdmin.number());
        }
    }
    more.iter().fold(kept, |kept, one| kept | capabilities.kept(*one).0)
}

/// What a program that is started could have at most.
fn give_up_bounds(capabilities: CapabilitySet) -> Result<(), NotConfined> {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if capabilities.contains(one) {
            match remove_capability_from_bounding_set(one) {
                Ok(()) => {}
                // No kernel has so many.
                Err(Errno::INVAL) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYS_ADMIN: u64 = 1 << 21;

    #[test]
    fn mapped_files_take_the_lesser_of_two() {
        let of = |held, features: &[Feature]| kept(held, features, &[]);
        assert_eq!(of(u64::MAX, &[Feature::Mappings]), CHECKPOINT_RESTORE);
        assert_eq!(of(SYS_ADMIN, &[Feature::Mappings]), SYS_ADMIN);
        assert_eq!(of(u64::MAX, &[Feature::Mappings, Feature::Namespaces]), CHECKPOINT_RESTORE | SYS_ADMIN);
        assert_eq!(of(u64::MAX, &[Feature::Namespaces]), SYS_ADMIN);
    }

    #[test]
    fn a_thread_that_needs_nothing_keeps_nothing() {
        // A thread of its own: the others go on as they are.
        let kept = std::thread::spawn(|| {
            keep(&[], &[]).unwrap();
            let CapabilitySets { effective, permitted, inheritable } = capabilities(None).unwrap();
            effective | permitted | inheritable
        });
        assert!(kept.join().unwrap().is_empty());
    }
}
