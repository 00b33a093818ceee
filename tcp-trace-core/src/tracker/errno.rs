//! Errors of `sk_err` (`include/uapi/asm-generic/errno-base.h`, `errno.h`).

pub(super) const EPIPE: u16 = 32;
pub(super) const ENETUNREACH: u16 = 101;
pub(super) const ECONNABORTED: u16 = 103;
pub(super) const ECONNRESET: u16 = 104;
pub(super) const ETIMEDOUT: u16 = 110;
pub(super) const ECONNREFUSED: u16 = 111;
pub(super) const EHOSTUNREACH: u16 = 113;
