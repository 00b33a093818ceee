//! How addresses cross the border: always 16 bytes, IPv4 as `::ffff:a.b.c.d`.
//!
//! One shape for both families keeps the event flat, and makes a v4-mapped peer of a dual-stack socket
//! equal to the same peer seen from an IPv4 socket without any later normalisation.

/// `AF_INET` (`include/linux/socket.h`).
pub const AF_INET: u16 = 2;
/// `AF_INET6` (`include/linux/socket.h`).
pub const AF_INET6: u16 = 10;

/// The first twelve bytes of every v4-mapped address.
pub const V4_MAPPED_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// Whether these 16 bytes hold an IPv4 address.
#[inline(always)]
#[must_use]
pub const fn is_v4(address: &[u8; 16]) -> bool {
    let (high, middle) = halves(address);
    high == 0 && middle == u32::from_ne_bytes([0, 0, 0xff, 0xff])
}

/// Whether these 16 bytes are the IPv6 unspecified address `::`.
#[inline(always)]
#[must_use]
pub const fn is_unspecified_v6(address: &[u8; 16]) -> bool {
    u128::from_ne_bytes(*address) == 0
}

/// Bytes 0..8 and 8..12, in memory order.
#[inline(always)]
const fn halves(address: &[u8; 16]) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, _, _, _, _] = *address;
    (u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u32::from_ne_bytes([i, j, k, l]))
}

/// An IPv4 address (network order, as in memory) in v4-mapped form, in its two halves as they are in memory.
#[inline(always)]
#[must_use]
pub const fn mapped(v4: u32) -> [u64; 2] {
    [0, u32::from_ne_bytes([0, 0, 0xff, 0xff]) as u64 | (v4 as u64) << 32]
}

/// Whether an address is one that [`mapped`] gives.
#[inline(always)]
#[must_use]
pub const fn is_mapped(halves: [u64; 2]) -> bool {
    halves[0] == 0 && halves[1] as u32 == mapped(0)[1] as u32
}
