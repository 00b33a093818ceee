//! What people are told on standard error while work goes on.
//!
//! `eprintln!` panics where standard error takes nothing: its reader has gone, its terminal was hung up, the disk that it is
//! written to is full. None of that is a reason to end.

use std::{fmt, io::Write as _};

/// Says a line, as `eprintln!` does, unless nobody can be told.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::say::line(::std::format_args!($($argument)*))
    };
}

/// What [`say!`] does. While the screen is ours the line waits for its end.
pub fn line(text: fmt::Arguments<'_>) {
    // In one piece, so that lines of several processes do not mix.
    let _ = crate::top::Log.write_all(format!("{text}\n").as_bytes());
}
