//! Sets of sockets that the kernel programs remember by their cookies.
//!
//! An array of small buckets instead of a hash map of the kernel: cookies are counted up, so their low bits spread them
//! evenly, and a socket costs a few loads instead of some hundred nanoseconds. CPUs do not wait for each other; what is
//! lost when two write one place at the same time is an owner that has to be looked up later.

use crate::Word;

/// Buckets of a set: 16,384 sockets in 128 KiB, which a CPU's second cache holds beside what else is there.
pub const BUCKETS: u32 = 1 << 12;
/// Sockets of a bucket.
pub const WAYS: usize = 4;

/// Where a cookie is.
#[inline(always)]
#[must_use]
pub const fn bucket(cookie: u64) -> u32 {
    cookie as u32 & (BUCKETS - 1)
}

/// Sockets whose cookies have the low bits in common; 0 where there is none.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Bucket([Word; WAYS]);

impl Bucket {
    /// Puts a socket in, where there is room or else in the place of the oldest: the one with the lowest cookie.
    #[inline(always)]
    pub fn put(&self, cookie: u64) {
        let (mut way, mut lowest) = (0, u64::MAX);
        for (index, place) in self.0.iter().enumerate() {
            let found = place.load();
            if found < lowest {
                (way, lowest) = (index, found);
            }
        }
        self.0[way].store(cookie);
    }

    /// Whether it is in; not if it is 0.
    #[inline(always)]
    #[must_use]
    pub fn has(&self, cookie: u64) -> bool {
        cookie != 0 && self.0.iter().any(|place| place.load() == cookie)
    }

    /// Takes a socket out; whether it was in.
    #[inline(always)]
    pub fn take(&self, cookie: u64) -> bool {
        if cookie == 0 {
            return false;
        }
        for place in &self.0 {
            if place.load() == cookie {
                place.store(0);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_taken_out_once() {
        let bucket = Bucket::default();
        bucket.put(5);
        bucket.put(3);
        assert!(bucket.has(3) && bucket.has(5) && !bucket.has(4));
        assert!(bucket.take(3));
        assert!(!bucket.take(3) && !bucket.has(3));
        assert!(bucket.has(5));
    }

    #[test]
    fn no_cookie_is_no_socket() {
        let bucket = Bucket::default();
        assert!(!bucket.has(0) && !bucket.take(0));
    }

    #[test]
    fn a_full_bucket_gives_up_its_oldest() {
        let bucket = Bucket::default();
        for cookie in [30, 10, 20, 40, 50] {
            bucket.put(cookie);
        }
        assert!(!bucket.has(10));
        assert!([20, 30, 40, 50].into_iter().all(|cookie| bucket.has(cookie)));
    }
}
