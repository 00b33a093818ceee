//! How long a file may be. (How long a function may be is clippy's: `clippy.toml`.)

use super::{Fault, Source};

/// Lines of a file of Rust. What is longer is about two things, or is named below.
const MOST: usize = 400;

/// Files that are one thing and cannot be cut without tearing it, with the most lines that each may have.
const LONGER: &[(&str, usize, &str)] = &[
    ("tcp-trace-core/src/tracker/connection.rs", 580, "one connection's life, state by state"),
    ("tcp-trace-core/src/tracker/mod.rs", 550, "which input changes what: the list is the point"),
    (
        "tcp-trace-core/src/report/document.rs",
        540,
        "the report, field by field, as docs/output-json.md has it",
    ),
    ("tcp-trace-core/src/tracker/survey.rs", 510, "a survey against the table, row by row"),
    (
        "tcp-trace/src/agent/channel.rs",
        490,
        "a sink's queue and thread: what is lost is counted in one place",
    ),
    ("tcp-trace/src/survey/sock_diag/message.rs", 480, "the kernel's message, attribute by attribute"),
    ("tcp-trace/src/bpf/object.rs", 480, "attaching, in its order"),
    ("tcp-trace/src/bpf/btf.rs", 440, "the kernel's types, read without parsing the world"),
    ("tcp-trace/src/source/live.rs", 480, "draining, in its order"),
    ("tcp-trace/src/agent/mod.rs", 490, "an agent from its start to its end"),
    ("tcp-trace/src/top/model.rs", 440, "what the screen shows and which key changes it"),
    ("tcp-trace/src/cli/config.rs", 450, "the file of configuration, key by key"),
    ("tcp-trace/src/sink/report_table/mod.rs", 410, "the report for people, section by section"),
];

/// Files that have grown beyond, and exceptions that nobody needs any more.
pub(super) fn check(sources: &[Source]) -> Vec<Fault> {
    let fault = |path: &str, line, what| Fault { path: path.to_owned(), line, what };
    let mut faults = Vec::new();
    for Source { path, text } in sources.iter().filter(|source| is_judged(&source.path)) {
        let lines = text.lines().count();
        let most = LONGER.iter().find(|(longer, ..)| longer == path).map_or(MOST, |(_, most, _)| *most);
        if lines > most {
            faults.push(fault(
                path,
                most + 1,
                format!("{lines} lines, {most} are enough: which two things is it about?"),
            ));
        }
    }
    for (path, ..) in LONGER {
        let lines =
            sources.iter().find(|source| source.path == *path).map(|source| source.text.lines().count());
        if lines.is_none_or(|lines| lines <= MOST) {
            faults.push(fault(
                path,
                1,
                "needs no exception any more: take it out of xtask/src/tidy/lengths.rs".into(),
            ));
        }
    }
    faults
}

/// Tests may be as long as what they are about has cases.
fn is_judged(path: &str) -> bool {
    path.ends_with(".rs") && !path.contains("/tests/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_found() {
        let source = |path: &str, lines: usize| Source { path: path.to_owned(), text: "\n".repeat(lines) };
        let exceptions: Vec<_> = LONGER.iter().map(|(path, most, _)| source(path, *most)).collect();
        assert_eq!(check(&exceptions), []);
        let with = |path: &str, lines| {
            let mut sources: Vec<_> = LONGER.iter().map(|(path, most, _)| source(path, *most)).collect();
            sources.push(source(path, lines));
            check(&sources).len()
        };
        assert_eq!((with("a/src/b.rs", MOST), with("a/src/b.rs", MOST + 1)), (0, 1));
        assert_eq!(with("a/tests/b.rs", 2 * MOST), 0);
        assert_eq!(check(&[]).len(), LONGER.len());
    }
}
