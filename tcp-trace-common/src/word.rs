//! A word in memory that kernel programs and user space read and write beside each other.

#[cfg(target_arch = "bpf")]
type Place = core::cell::Cell<u64>;
#[cfg(not(target_arch = "bpf"))]
type Place = core::sync::atomic::AtomicU64;

/// A word that is loaded and stored as a whole, in no particular order with others.
///
/// For eBPF it is a [`Cell`](core::cell::Cell), because LLVM's backend knows atomic loads and stores from the third
/// instruction set on only; its plain ones of a word are what they would be.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Word(Place);

#[cfg(target_arch = "bpf")]
#[expect(unsafe_code, reason = "the one promise that only the target can keep")]
// SAFETY: on this target a load and a store of an aligned word are one instruction each.
unsafe impl Sync for Word {}

impl Word {
    /// Its value.
    #[inline(always)]
    #[must_use]
    pub fn load(&self) -> u64 {
        #[cfg(target_arch = "bpf")]
        return self.0.get();
        #[cfg(not(target_arch = "bpf"))]
        self.0.load(core::sync::atomic::Ordering::Relaxed)
    }

    /// Gives it a value.
    #[inline(always)]
    pub fn store(&self, value: u64) {
        #[cfg(target_arch = "bpf")]
        self.0.set(value);
        #[cfg(not(target_arch = "bpf"))]
        self.0.store(value, core::sync::atomic::Ordering::Relaxed);
    }
}
