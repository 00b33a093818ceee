//! How far long work has come, on standard error: a bar on a terminal, a line now and then elsewhere. What is done before
//! anybody looks up shows nothing.

use std::{
    io::{IsTerminal as _, stderr, stdout},
    path::Path,
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::say;

/// Work that takes less than this shows no bar.
const PATIENCE: Duration = Duration::from_millis(300);
/// How often there is a line where there is no bar.
const LINES_EVERY: Duration = Duration::from_secs(5);

/// The reading of a file.
#[derive(Debug)]
pub struct Progress {
    name: String,
    /// The file's length; `None` where it has none, such as a pipe.
    total: Option<u64>,
    begun: Instant,
    view: View,
}

#[derive(Debug)]
enum View {
    /// On a terminal, once it is worth it.
    Bar(Option<ProgressBar>),
    /// Elsewhere; when the next line is due.
    Lines(Duration),
    /// It would stand in the way of what is printed.
    Nothing,
}

impl Progress {
    /// Nothing was read yet. `prints`: results come on standard output in between, which a bar must not tear on the same
    /// terminal.
    #[must_use]
    pub fn reading(path: &Path, total: Option<u64>, prints: bool) -> Self {
        let view = match (stderr().is_terminal(), prints && stdout().is_terminal()) {
            (_, true) => View::Nothing,
            (true, false) => View::Bar(None),
            (false, false) => View::Lines(LINES_EVERY),
        };
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let name = tcp_trace_core::process::printable(&name).into_owned();
        Self { name, total, begun: Instant::now(), view }
    }

    /// So many bytes were read by now.
    pub fn at(&mut self, bytes: u64) {
        let Self { name, total, begun, view } = self;
        let elapsed = begun.elapsed();
        match view {
            View::Bar(bar) if elapsed >= PATIENCE => {
                bar.get_or_insert_with(|| self::bar(name, *total)).set_position(bytes);
            }
            View::Lines(due) if elapsed >= *due => {
                say!("tcp-trace: {}", line(name, bytes, *total));
                *due = elapsed + LINES_EVERY;
            }
            View::Bar(_) | View::Lines(_) | View::Nothing => {}
        }
    }
}

impl Drop for Progress {
    /// The bar was for the time of reading.
    fn drop(&mut self) {
        if let View::Bar(Some(bar)) = &self.view {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{msg} [{bar:30}] {percent:>3} %  {bytes} of {total_bytes}"),
        None => (ProgressBar::no_length(), "{msg} {bytes}, {elapsed}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.with_message(format!("reading {name}"))
}

/// `reading night.tctrace: 45 % (1.20 GiB of 2.67 GiB)`.
fn line(name: &str, bytes: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => {
            let percent = u128::from(bytes) * 100 / u128::from(total.max(1));
            format!("reading {name}: {percent} % ({} of {})", HumanBytes(bytes), HumanBytes(total))
        }
        None => format!("reading {name}: {}", HumanBytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let total = Some(3 << 30);
        assert_eq!(line("a", 3 << 29, total), "reading a: 50 % (1.50 GiB of 3.00 GiB)");
        assert_eq!(line("a", 0, Some(0)), "reading a: 0 % (0 B of 0 B)");
        assert_eq!(line("-", 2048, None), "reading -: 2.00 KiB");
    }
}
