//! Exit codes, and the one error type that has a code of its own.

use std::process::ExitCode;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; also Ctrl-C after a summary, and a reader that went away.
    Done,
    /// Something went wrong.
    Error,
    /// The command line makes no sense.
    Usage,
    /// Not permitted, or not supported by this kernel.
    Unsupported,
    /// `--strict`, and something was lost.
    Lossy,
    /// `--fail-on`, and there was a finding as severe as that.
    Found,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::Unsupported => 3,
            Self::Lossy => 4,
            Self::Found => 5,
        }
    }

    /// What an error comes to. A broken pipe on standard output is no error: `tcp-trace stream | head` is a fine
    /// thing to do. One that a recording is written into is.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        let broken_pipe = |output: &Output| output.0.kind() == std::io::ErrorKind::BrokenPipe;
        if error.chain().any(|cause| cause.downcast_ref().is_some_and(broken_pipe)) {
            Self::Done
        } else if error.chain().any(<dyn std::error::Error>::is::<Unsupported>) {
            Self::Unsupported
        } else if error.chain().any(<dyn std::error::Error>::is::<Usage>) {
            Self::Usage
        } else {
            Self::Error
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("writing to standard output")]
pub struct Output(#[from] std::io::Error);

/// This host does not allow, or does not have, what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsupported(pub String);

/// The command line asks for something that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_cause_decides_however_deep_it_lies() {
        let deep = |error: anyhow::Error| error.context("attaching").context("starting");
        assert_eq!(Exit::of(&deep(Unsupported("no BTF".into()).into())), Exit::Unsupported);
        assert_eq!(Exit::of(&deep(Usage("two filters".into()).into())), Exit::Usage);
        assert_eq!(Exit::of(&deep(anyhow::anyhow!("disk full"))), Exit::Error);
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let error = Err::<(), _>(Output(pipe)).context("reporting").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Done);
        let recording = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(Exit::of(&recording.into()), Exit::Error);
    }
}
