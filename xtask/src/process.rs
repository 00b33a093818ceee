//! Starting other programs. Each start is shown, so that the log tells what was done.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Shows a command the way a shell would take it, without its environment.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Tells the reader what is started.
pub(crate) fn announce(command: &Command) {
    eprintln!("$ {}", show(command));
}

/// Runs a command to its end; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| format!("starting `{}`", show(command)))?;
    ensure!(status.success(), "`{}` ended with {status}", show(command));
    Ok(())
}

/// Asks a question that a program answers by its exit status; that is too quiet a thing to be shown.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether a program is on PATH.
pub(crate) fn exists(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
