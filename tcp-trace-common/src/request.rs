//! A half-open request, as the kernel programs remember it from its SYN until its handshake completes; and the table
//! of them.
//!
//! The table is an array that user space maps into its memory and reads now and then: what is in it and is not listed
//! by the kernel any more has died. Hash maps of the kernel would do the same, at ten times the cost of an entry.
//! Socket cookies make that easy: each CPU counts them up (`gen_cookie_next`, `include/linux/cookie.h`, 5.11; before, all
//! CPUs together), so that their low bits spread requests over the buckets by themselves.
//!
//! CPUs do not wait for each other. Two that write the same place at the same time leave a mixture there, which its check
//! sum gives away; one that forgets a request while another one takes its place forgets that one too. Either way a
//! duration is unknown, and never wrong.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

use crate::Word;

/// Values of [`Details::source`].
pub mod source {
    /// Queued; seen by sock_ops.
    pub const SOCK_OPS: u16 = 0;
    /// TCP Fast Open: there is a child from the SYN on, and never was a queued request.
    pub const FAST_OPEN: u16 = 1;
    /// Queued; seen by fentry.
    pub const FENTRY: u16 = 2;
}

/// Buckets of the table: `FAR`, and after them those that [`near`] leads to. 69,632 requests in 4.25 MiB.
pub const BUCKETS: u32 = FAR + BATCHES * NEAR;
/// Buckets that [`bucket`] leads to. A request is bounded by its listener's backlog, so their 65,536 requests are the
/// half-opens of several full listeners.
const FAR: u32 = 1 << 14;
/// Batches of cookies that have near buckets of their own, before they share them.
const BATCHES: u32 = 64;
/// Near buckets of a batch.
const NEAR: u32 = 16;
/// Requests of a bucket.
pub const WAYS: usize = 4;

/// Where a request with that cookie is that found no room in its [`near`] bucket.
#[inline(always)]
#[must_use]
pub const fn bucket(cookie: u64) -> u32 {
    cookie as u32 & (FAR - 1)
}

/// Where a request with that cookie is first put: one of a few buckets that the next requests of its CPU will come to,
/// too, so that they are in its caches. Most requests have gone by then, and made room; of the whole table each would find
/// a place that no cache has, which costs more than all the rest.
///
/// A CPU takes its cookies 4096 at a time (`COOKIE_LOCAL_BATCH`, `include/linux/cookie.h`, 5.11): those that share these
/// bits are one CPU's. These buckets are nobody's far ones: requests of a flood fill them and stay, and a busy host would
/// soon put a request of its own in the place of one of them.
#[inline(always)]
#[must_use]
pub const fn near(cookie: u64) -> u32 {
    FAR + ((cookie >> 12) as u32 & (BATCHES - 1)) * NEAR + (cookie as u32 & (NEAR - 1))
}

/// A half-open request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Socket cookie, which its connection will have; never 0.
    pub cookie: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub queued_ns: u64,
    /// All else.
    pub details: Details,
}

/// What is known of a request beside who it is and when it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Details {
    /// Local address, as in [`crate::address`], in its two halves as they are in memory.
    pub local_addr: [u64; 2],
    /// Peer address.
    pub peer_addr: [u64; 2],
    /// Local port in host order.
    pub local_port: u16,
    /// Peer port in host order.
    pub peer_port: u16,
    /// The listener's family.
    pub family: u16,
    /// A value of [`source`].
    pub source: u16,
}

/// Words of [`Details`].
const WORDS: usize = size_of::<Details>() / 8;

/// Requests whose cookies have the low bits in common. What decides about them is in its first 64 bytes: one cache line,
/// as the map begins at a page.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Bucket {
    /// 0 where there is none.
    cookies: [Word; WAYS],
    queued_ns: [Word; WAYS],
    rest: [Rest; WAYS],
}

#[derive(Debug, Default)]
#[repr(C)]
struct Rest {
    details: [Word; WORDS],
    check: Word,
}

impl Bucket {
    /// Puts a request in: in its own place if it has one, where there is room, or in the place of the one that began
    /// first.
    #[inline(always)]
    pub fn put(&self, request: &Request) {
        let (mut way, mut first) = (0, u64::MAX);
        for (index, (cookie, queued)) in self.cookies.iter().zip(&self.queued_ns).enumerate() {
            let rank = match cookie.load() {
                found if found == request.cookie => 0,
                0 => 1,
                _ => queued.load(),
            };
            if rank < first {
                (way, first) = (index, rank);
            }
        }
        self.write(way, request);
    }

    /// Puts a request in if there is room; returns whether there was.
    #[inline(always)]
    pub fn put_where_free(&self, request: &Request) -> bool {
        for way in 0..WAYS {
            if self.cookies[way].load() == 0 {
                self.write(way, request);
                return true;
            }
        }
        false
    }

    #[inline(always)]
    fn write(&self, way: usize, request: &Request) {
        let words: [u64; WORDS] = transmute!(request.details);
        let rest = &self.rest[way];
        for (place, word) in rest.details.iter().zip(words) {
            place.store(word);
        }
        rest.check.store(check(request.cookie, request.queued_ns, &words));
        self.queued_ns[way].store(request.queued_ns);
        self.cookies[way].store(request.cookie);
    }

    /// Takes the request with that cookie out.
    #[inline(always)]
    pub fn take(&self, cookie: u64) -> Option<Request> {
        for way in 0..WAYS {
            if self.cookies[way].load() == cookie {
                let request = self.request(way);
                self.cookies[way].store(0);
                return request;
            }
        }
        None
    }

    /// The requests in it.
    pub fn requests(&self) -> impl Iterator<Item = Request> {
        (0..WAYS).filter_map(|way| self.request(way))
    }

    #[inline(always)]
    fn request(&self, way: usize) -> Option<Request> {
        let cookie = self.cookies[way].load();
        let queued_ns = self.queued_ns[way].load();
        let Rest { details, check: sum } = &self.rest[way];
        let mut words = [0; WORDS];
        for (word, place) in words.iter_mut().zip(details) {
            *word = place.load();
        }
        let whole = cookie != 0 && sum.load() == check(cookie, queued_ns, &words);
        whole.then(|| Request { cookie, queued_ns, details: transmute!(words) })
    }
}

/// A sum that a mixture of two requests does not have. Multiplied, because times and ports of neighbours differ in a few
/// bits only.
#[inline(always)]
fn check(cookie: u64, queued_ns: u64, details: &[u64; WORDS]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut sum = (cookie.wrapping_mul(ODD) ^ queued_ns).wrapping_mul(ODD);
    for word in details {
        sum = (sum ^ word).wrapping_mul(ODD);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(cookie: u64, queued_ns: u64) -> Request {
        let details = Details { peer_port: cookie as u16, family: 2, ..Details::default() };
        Request { cookie, queued_ns, details }
    }

    #[test]
    fn the_table_has_the_size_that_it_claims() {
        assert_eq!(size_of::<Bucket>(), 256);
        assert_eq!(size_of::<Bucket>() * BUCKETS as usize, (4 << 20) + (256 << 10));
    }

    #[test]
    fn what_was_put_in_is_taken_out_once() {
        let bucket = Bucket::default();
        for cookie in 1..=4 {
            bucket.put(&request(cookie, 10 * cookie));
        }
        assert_eq!(bucket.requests().count(), 4);
        assert_eq!(bucket.take(3), Some(request(3, 30)));
        assert_eq!(bucket.take(3), None);
        assert_eq!(bucket.take(9), None);
        assert!(bucket.requests().map(|found| found.cookie).eq([1, 2, 4]));
    }

    #[test]
    fn a_request_has_one_place() {
        let bucket = Bucket::default();
        bucket.put(&request(1, 10));
        bucket.put(&request(2, 20));
        assert!(bucket.take(1).is_some());
        bucket.put(&request(2, 30));
        assert!(bucket.requests().eq([request(2, 30)]));
    }

    #[test]
    fn no_room_is_made_where_none_is() {
        let bucket = Bucket::default();
        for cookie in 1..=4 {
            assert!(bucket.put_where_free(&request(cookie, 10)));
        }
        assert!(!bucket.put_where_free(&request(5, 10)));
        assert_eq!(bucket.take(2), Some(request(2, 10)));
        assert!(bucket.put_where_free(&request(5, 10)));
        assert!(bucket.requests().map(|found| found.cookie).eq([1, 5, 3, 4]));
    }

    #[test]
    fn near_buckets_are_few_and_those_of_one_batch_of_cookies_only() {
        let mut batches = [None; BUCKETS as usize];
        for cookie in 77 << 12..(77 + 64) << 12 {
            let batch = batches[near(cookie) as usize].get_or_insert(cookie >> 12);
            assert_eq!(*batch, cookie >> 12);
        }
        assert_eq!(batches.iter().flatten().count(), 64 * 16);
    }

    #[test]
    fn nobody_is_put_in_the_place_of_those_in_near_buckets() {
        for cookie in (0..1 << 21).step_by(7) {
            assert!(bucket(cookie) < FAR && (FAR..BUCKETS).contains(&near(cookie)));
        }
    }

    #[test]
    fn a_full_bucket_gives_up_its_oldest() {
        let bucket = Bucket::default();
        for (cookie, queued_ns) in [(1, 50), (2, 20), (3, 30), (4, 40), (5, 60)] {
            bucket.put(&request(cookie, queued_ns));
        }
        assert_eq!(bucket.take(2), None);
        for cookie in [1, 3, 4, 5] {
            assert!(bucket.take(cookie).is_some(), "{cookie}");
        }
    }

    #[test]
    fn a_mixture_is_none() {
        let (one, other) = (request(1, 1000), request(1 + u64::from(FAR), 1001));
        let bucket = Bucket::default();
        bucket.put(&one);
        bucket.queued_ns[0].store(other.queued_ns);
        assert_eq!(bucket.take(1), None);
        bucket.put(&one);
        let words: [u64; WORDS] = transmute!(other.details);
        bucket.rest[0].details[WORDS - 1].store(words[WORDS - 1]);
        assert_eq!(bucket.requests().count(), 0);
    }

    #[test]
    fn cookies_that_follow_each_other_spread_evenly() {
        let mut buckets = [0_u8; FAR as usize];
        for cookie in (7 << 40)..(7 << 40) + u64::from(FAR) * WAYS as u64 {
            buckets[bucket(cookie) as usize] += 1;
        }
        assert!(buckets.iter().all(|&count| usize::from(count) == WAYS));
    }
}
