//! From how many addresses, and from where: estimates in bounded memory.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::requests::Death;

/// Registers of the estimate, a power of two: 4 KiB, standard error 1.6 %.
const REGISTERS: usize = 4096;
/// Prefixes that are counted; of more, the rarest make room.
const PREFIXES: usize = 64;

/// Distinct addresses (HyperLogLog; Flajolet et al. 2007), and how many requests came from each /24 or /64.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    registers: Box<[u8; REGISTERS]>,
    prefixes: Vec<(Prefix, Requests)>,
}

/// What became of the requests from one prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Requests {
    pub(super) all: u64,
    pub(super) completed: u64,
    pub(super) expired: u64,
    pub(super) reset: u64,
    /// One of these two.
    pub(super) dead: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Completed,
    Died(Death),
}

/// The first 24 bits of an IPv4 address, or 64 of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix(IpAddr);

impl Default for Sources {
    fn default() -> Self {
        Self { registers: Box::new([0; REGISTERS]), prefixes: Vec::new() }
    }
}

impl Sources {
    /// Counts one request.
    pub(super) fn add(&mut self, address: IpAddr) {
        let hash = mixed(match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        });
        let index = usize::try_from(hash % REGISTERS as u64).unwrap_or(0);
        let rank =
            u8::try_from(((hash / REGISTERS as u64) | (1 << 52)).trailing_zeros() + 1).unwrap_or(u8::MAX);
        if let Some(register) = self.registers.get_mut(index) {
            *register = rank.max(*register);
        }
        self.add_prefix(Prefix::of(address));
    }

    /// A request has ended. Of a prefix that had to make room nobody keeps account.
    pub(super) fn ended(&mut self, address: IpAddr, outcome: Outcome) {
        let prefix = Prefix::of(address);
        if let Some((_, requests)) = self.prefixes.iter_mut().find(|(known, _)| *known == prefix) {
            *match outcome {
                Outcome::Completed => &mut requests.completed,
                Outcome::Died(Death::Expired) => &mut requests.expired,
                Outcome::Died(Death::Reset) => &mut requests.reset,
                Outcome::Died(Death::Unknown) => &mut requests.dead,
            } += 1;
        }
    }

    /// How many distinct addresses there were, about.
    pub(super) fn distinct(&self) -> u64 {
        let registers = REGISTERS as f64;
        let sum: f64 = self.registers.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
        let estimate = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let empty = self.registers.iter().filter(|rank| **rank == 0).count();
        // Few addresses leave registers empty, and how many is the better estimate then.
        let estimate = if estimate <= 2.5 * registers && empty > 0 {
            registers * (registers / empty as f64).ln()
        } else {
            estimate
        };
        estimate.round() as u64
    }

    /// The prefixes that most requests came from, most first. Where more than [`PREFIXES`] came, a count may be
    /// too high by that of one that made room, never too low.
    pub(super) fn prefixes(&self, max: usize) -> Vec<(Prefix, Requests)> {
        let mut prefixes = self.prefixes.clone();
        prefixes.sort_by_key(|(prefix, requests)| (std::cmp::Reverse(requests.all), *prefix));
        prefixes.truncate(max);
        prefixes
    }

    /// Space-saving counters (Metwally et al. 2005).
    fn add_prefix(&mut self, prefix: Prefix) {
        let first = Requests { all: 1, ..Requests::default() };
        if let Some((_, requests)) = self.prefixes.iter_mut().find(|(known, _)| *known == prefix) {
            requests.all += 1;
        } else if self.prefixes.len() < PREFIXES {
            self.prefixes.push((prefix, first));
        } else if let Some(rarest) =
            self.prefixes.iter_mut().min_by_key(|(prefix, requests)| (requests.all, *prefix))
        {
            *rarest = (prefix, Requests { all: rarest.1.all + 1, ..first });
        }
    }
}

impl Prefix {
    /// The one that an address is in.
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !0xff).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        })
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0, if self.0.is_ipv4() { 24 } else { 64 })
    }
}

/// 64 bits that each depend on every bit of the address (the finaliser of SplitMix64, twice).
fn mixed(address: u128) -> u64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let (high, low) = ((address >> 64) as u64, address as u64);
    mix(mix(high.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_is_within_five_percent() {
        for count in [0_u32, 1, 2, 60, 1_000, 5_000, 20_000, 131_072] {
            let mut sources = Sources::default();
            for host in 0..count {
                for _twice in 0..2 {
                    sources.add(IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 + host)));
                }
            }
            let error = (sources.distinct() as f64 - f64::from(count)).abs();
            assert!(error <= f64::from(count) * 0.05, "{count}: {}", sources.distinct());
        }
    }

    #[test]
    fn the_prefixes_of_a_flood_are_found_among_many_others() {
        let mut sources = Sources::default();
        for host in 0..10_000_u32 {
            sources.add(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + host * 256)));
            sources.add(IpAddr::V4(Ipv4Addr::from_bits(0xc612_0700 + host % 256)));
        }
        let (prefix, requests) = sources.prefixes(1)[0];
        assert_eq!(prefix.to_string(), "198.18.7.0/24");
        assert!((10_000..=10_400).contains(&requests.all), "{requests:?}");
        sources.add("2001:db8:1:2:3::4".parse().unwrap());
        assert_eq!(Prefix::of("2001:db8:1:2:3::4".parse().unwrap()).to_string(), "2001:db8:1:2::/64");
    }
}
