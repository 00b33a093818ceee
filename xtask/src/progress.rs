//! How far long chores have come: bars on a terminal, the lines themselves elsewhere, so that a log has everything.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Read, stderr},
    process::{Command, Stdio},
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::process;

/// How often a bar moves while nothing is heard.
const TICK: Duration = Duration::from_millis(200);
/// Lines that are kept of a command, to be shown if it fails.
const KEPT: usize = 100;

/// Bars below each other.
#[derive(Clone, Debug)]
pub(crate) struct Board(Option<MultiProgress>);

/// Tests that run somewhere, as their output tells.
#[derive(Debug)]
pub(crate) struct Tests {
    name: &'static str,
    board: Board,
    bar: Option<ProgressBar>,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self(stderr().is_terminal().then(MultiProgress::new))
    }

    /// A bar for tests; where there are none its lines are printed behind `name`.
    pub(crate) fn tests(&self, name: &'static str) -> Tests {
        let bar = self.0.as_ref().map(|board| {
            board.add(bar("{prefix:>5} [{bar:30}] {pos:>3} of {len:<3} {elapsed:>4}  {wide_msg}"))
        });
        if let Some(bar) = &bar {
            bar.set_prefix(name);
            bar.set_length(0);
        }
        Tests { name, board: self.clone(), bar }
    }

    /// Says something above the bars.
    pub(crate) fn say(&self, text: &str) {
        match &self.0 {
            Some(board) => board.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

impl Tests {
    /// Takes a line of their output, or of what starts them.
    pub(crate) fn line(&self, line: &str) {
        let Some(bar) = &self.bar else {
            eprintln!("{:>4} | {line}", self.name);
            return;
        };
        match Said::of(line) {
            Said::Count(count) => bar.set_length(count),
            Said::Done(test) => {
                bar.inc(1);
                bar.set_message(test.to_owned());
            }
            Said::Trouble => self.board.say(&format!("{:>4} | {line}", self.name)),
            Said::Other if bar.position() == 0 => bar.set_message(line.to_owned()),
            Said::Other => {}
        }
    }

    /// They are over.
    pub(crate) fn done(&self, how: &str) {
        match &self.bar {
            Some(bar) => bar.finish_with_message(how.to_owned()),
            None => eprintln!("{}: {how}", self.name),
        }
    }
}

/// What a line of tests says.
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    /// So many will run.
    Count(u64),
    /// One has ended.
    Done(&'a str),
    /// Somebody should read it.
    Trouble,
    Other,
}

impl<'a> Said<'a> {
    fn of(line: &'a str) -> Self {
        let count = || line.strip_prefix("running ")?.split(' ').next()?.parse().ok();
        if line.contains("FAILED") || line.contains("panicked at") || line.contains("Kernel panic") {
            return Self::Trouble;
        }
        if let Some(count) = count() {
            return Self::Count(count);
        }
        match line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            Some((test, _)) => Self::Done(test.trim_end()),
            None => Self::Other,
        }
    }
}

/// Runs a command that takes long and says much. On a terminal its last line is seen, and if it fails the last hundred.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    if !stderr().is_terminal() {
        return process::run(command);
    }
    process::announce(command);
    let bar = bar("{spinner} {elapsed:>4}  {wide_msg}");
    bar.enable_steady_tick(TICK);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{}`", process::show(command)))?;
    let (sender, lines) = channel();
    forward(child.stdout.take(), sender.clone());
    forward(child.stderr.take(), sender);
    let mut kept = VecDeque::new();
    for line in lines {
        bar.set_message(line.clone());
        kept.push_back(line);
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }
    let status = child.wait().context("waiting for it")?;
    bar.finish_and_clear();
    if !status.success() {
        kept.iter().for_each(|line| eprintln!("{line}"));
    }
    ensure!(status.success(), "`{}` ended with {status}", process::show(command));
    Ok(())
}

/// Sends lines on until there are no more. What cannot be read is not worth a failure.
fn forward(from: Option<impl Read + Send + 'static>, to: Sender<String>) {
    let Some(from) = from else { return };
    thread::spawn(move || {
        // Progress of other programs moves by carriage returns.
        let lines = BufReader::new(from).split(b'\n').map_while(io::Result::ok);
        for line in lines {
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end().rsplit('\r').next().unwrap_or_default();
            if !line.is_empty() && to.send(line.to_owned()).is_err() {
                return;
            }
        }
    });
}

fn bar(template: &str) -> ProgressBar {
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tests_are_understood() {
        assert_eq!(Said::of("running 122 tests"), Said::Count(122));
        assert_eq!(Said::of("test counts::exact    ... ok"), Said::Done("counts::exact"));
        assert_eq!(Said::of("test a ... FAILED"), Said::Trouble);
        assert_eq!(Said::of("[    0.00] Linux version 6.12"), Said::Other);
        assert_eq!(Said::of("running late"), Said::Other);
    }

    #[test]
    fn a_command_that_fails_is_an_error_that_names_it() {
        let error = run(Command::new("sh").args(["-c", "echo gone; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains('3'), "{error}");
        run(&mut Command::new("true")).unwrap();
    }
}
