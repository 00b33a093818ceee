//! Where records come from: the live kernel or a recording. Nothing below knows which.

mod batch;
mod live;
mod lookout;
mod replay;
mod watch;

pub use batch::{Batch, FrameError};
pub use live::{Live, start};
pub use replay::Replay;
