//! `report --html` and `--svg`: the files.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use crate::{
    incident,
    tape::{MS, Process, SECOND, Tape, client_life, session},
    tracer::{Recording, assert_golden, data, replay, run},
};

/// A file that does not exist yet, for the length of a test.
struct Target(PathBuf);

impl Target {
    fn new(name: &str) -> Self {
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id())))
    }

    fn flag(&self, name: &str) -> String {
        format!("{name} {}", self.0.display())
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).expect("it was written, in UTF-8")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It lies in a folder of cargo's own, where it harms nobody.
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn the_page_and_the_picture_are_what_they_were() {
    let (page, picture) = (Target::new("report.html"), Target::new("states.svg"));
    let recording = data("incident.tctrace");
    let command =
        format!("report {} {} --from {}", page.flag("--html"), picture.flag("--svg"), recording.display());
    let printed = run(&command);
    assert!(printed.stderr.contains(&format!("wrote {}", page.0.display())), "{printed:#?}");
    assert_golden("report.txt", printed.good().as_bytes());
    assert_golden("report.html", page.text().as_bytes());
    assert_golden("states.svg", picture.text().as_bytes());
    let mode = fs::metadata(&page.0).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it tells who talks to whom");
}

#[test]
fn a_page_takes_the_place_of_a_longer_one() {
    let page = Target::new("again.html");
    fs::write(&page.0, "<!DOCTYPE html>".to_owned() + &"x".repeat(1 << 20))
        .expect("the test's folder can be written");
    let recording = Recording::new("again", &Tape::new(session()).end());
    replay(&recording, &format!("report {}", page.flag("--html"))).good();
    let text = page.text();
    assert!(text.starts_with("<!DOCTYPE html>") && text.ends_with("</html>\n"), "{text}");
}

#[test]
fn what_is_no_page_is_left_as_it_is() {
    let notes = Target::new("notes.md");
    fs::write(&notes.0, "# Notes\n").expect("the test's folder can be written");
    for flag in ["--html", "--svg"] {
        let run = crate::tracer::incident(&format!("report {}", notes.flag(flag)));
        assert_eq!(run.code, Some(1), "{run:#?}");
        assert!(run.stderr.contains(", and is left as it is; remove it, or give another path"), "{run:#?}");
    }
    assert_eq!(notes.text(), "# Notes\n");
    for (flag, name) in [("--html", "twice.html"), ("--svg", "twice.svg")] {
        let page = Target::new(name);
        crate::tracer::incident(&format!("report {}", page.flag(flag))).good();
        let first = page.text();
        crate::tracer::incident(&format!("report {}", page.flag(flag))).good();
        assert_eq!(page.text(), first, "what was written here is replaced");
    }
}

#[test]
fn a_recording_that_is_cut_off_has_a_page_of_what_was_read() {
    let page = Target::new("cut.html");
    let bytes = incident::recording();
    let recording = Recording::new("cut-page", &bytes[..bytes.len() / 2]);
    let run = replay(&recording, &format!("report {}", page.flag("--html")));
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(page.text().contains("id=\"diagram\""));
}

#[test]
fn a_file_that_cannot_be_written_is_told_before_anything_is_read() {
    let recording = Recording::new("nowhere", b"not even a recording");
    let run = replay(&recording, "report --html /nowhere/report.html");
    assert_eq!(run.code, Some(1), "{run:#?}");
    let run = crate::tracer::incident("report --html /nowhere/report.html");
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:#?}");
    assert!(run.stderr.contains("creating the page /nowhere/report.html"), "{run:#?}");
}

#[test]
fn a_page_is_of_the_whole_run() {
    let run = crate::tracer::incident("report --interval 2s --html /nowhere/report.html");
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert!(run.stderr.contains("'--interval <D>' cannot be used with '--html <FILE>'"), "{run:#?}");
}

/// An hour in which everything is plentiful: readings of the counters, processes, destinations, ports.
#[test]
fn the_page_of_an_hour_is_under_two_megabytes() {
    let mut tape = Tape::new(session());
    for second in 0..3_600_u64 {
        let started = tape.now;
        let client = Process { pid: 10_000 + second as u32, comm: b"curl" };
        let (local, peer) = (
            format!("10.{}.{}.1:{}", second / 250, second % 250, 20_000 + second),
            format!("198.18.{}.{}:443", second / 250, second % 250),
        );
        client_life(&mut tape, client, 1 + second, &local, &peer, 5 * MS);
        tape.now = started + SECOND;
        tape.read_counters();
    }
    let page = Target::new("hour.html");
    replay(&Recording::new("hour", &tape.end()), &format!("report {}", page.flag("--html"))).good();
    let text = page.text();
    assert!(text.len() < 2_000_000, "{} bytes", text.len());
    assert!(text.contains("more (<code>--json</code> has all)"), "tables are cut, and say so");
    assert!(
        text.contains("each is the one with the most sockets of up to 8 readings of the counters"),
        "and so is time"
    );
}
