//! Rotation, and what a crash, a full disk and `logrotate` leave behind.

use std::{
    io::Read as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    sync::atomic::{AtomicU32, Ordering},
};

use tcp_trace_core::{log::DegradationNotice, session::Degradation, time::WallTime};

use super::*;

/// A folder for the length of a test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tcp-trace-file-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn config(&self, text: &str) -> Config {
        toml::from_str(&format!("path = '{}'\n{text}", self.0.join("log").display())).unwrap()
    }

    fn file(&self, text: &str) -> File {
        File::new(&self.config(text), &Origin::default()).unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// All that is in it but the file itself, oldest first.
    fn rotated(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "log")
            .collect();
        names.sort();
        names
    }

    /// The times of all lines in all files, oldest first: every line is one document.
    fn times(&self) -> Vec<u64> {
        let mut text = String::new();
        for name in self.rotated().iter().map(String::as_str).chain(["log"]) {
            let bytes = fs::read(self.0.join(name)).unwrap();
            if name.ends_with(".gz") {
                flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
            } else {
                text += std::str::from_utf8(&bytes).unwrap();
            }
            assert!(text.is_empty() || text.ends_with('\n'), "{name}");
        }
        times(&text)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn times(text: &str) -> Vec<u64> {
    let time = |line: &str| {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        line["time"].as_str().unwrap()[20..29].parse().unwrap()
    };
    text.lines().map(time).collect()
}

fn documents(range: std::ops::Range<u64>) -> Vec<Document> {
    let document = |number| {
        Document::Degradation(DegradationNotice {
            time: WallTime(number),
            degradation: Degradation { feature: "x".into(), reason: "y".repeat(700), remedy: None },
            over: false,
        })
    };
    range.map(document).collect()
}

#[test]
fn it_is_rotated_before_it_grows_too_large_compressed_and_bounded() {
    let folder = Folder::new();
    let mut file = folder.file("max_size = '64k'\nkeep = 3");
    for round in 0..60 {
        file.send(&documents(round * 20..(round + 1) * 20)).unwrap();
        let size = fs::metadata(folder.0.join("log")).unwrap().len();
        assert!(size <= 64 * 1024, "{size}");
    }
    file.flush().unwrap();
    let rotated = folder.rotated();
    assert!(rotated.len() == 3 && rotated.iter().all(|name| name.ends_with("Z.gz")), "{rotated:?}");
    let times = folder.times();
    let first = times[0];
    assert!(times.iter().copied().eq(first..1200), "in order, without a gap: {times:?}");
    for name in rotated.iter().map(String::as_str).chain(["log"]) {
        let mode = fs::metadata(folder.0.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_period_ends_where_its_multiple_does() {
    let folder = Folder::new();
    let mut file = folder.file("every = '1h'\ncompress = false");
    file.send(&documents(0..1)).unwrap();
    file.send(&documents(1..2)).unwrap();
    // An agent that was away for a day.
    drop(file);
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    fs::File::options().write(true).open(folder.0.join("log")).unwrap().set_modified(yesterday).unwrap();
    let mut file = folder.file("every = '1h'\ncompress = false");
    file.send(&documents(2..3)).unwrap();
    assert_eq!(folder.rotated().len(), 1);
    assert_eq!((times(&folder.read("log")), folder.times()), (vec![2], vec![0, 1, 2]));
}

#[test]
fn what_a_crash_has_left_of_a_line_is_cut_off() {
    let folder = Folder::new();
    folder.file("").send(&documents(0..2)).unwrap();
    for rest in ["{\"schema\":\"tcp-tr", "{", ""] {
        let mut text = folder.read("log");
        let lines = text.lines().count() as u64;
        text += rest;
        fs::write(folder.0.join("log"), text).unwrap();
        folder.file("").send(&documents(lines..lines + 1)).unwrap();
        assert_eq!(folder.times(), (0..=lines).collect::<Vec<_>>());
    }
    fs::write(folder.0.join("log"), "{\"only\":\"the beginning of a line").unwrap();
    folder.file("").send(&documents(7..8)).unwrap();
    assert_eq!(folder.times(), [7]);
    // Somebody's file, by mistake: nothing of it is lost.
    for theirs in ["127.0.0.1 localhost", "a = 1\nb = 2"] {
        fs::write(folder.0.join("log"), theirs).unwrap();
        folder.file("").send(&documents(8..9)).unwrap();
        let text = folder.read("log");
        let rest = text.strip_prefix(&format!("{theirs}\n")).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(times(rest), [8]);
    }
}

#[test]
fn what_a_killed_compression_has_left_is_made_good() {
    let folder = Folder::new();
    folder.file("").send(&documents(0..1)).unwrap();
    let old = folder.0.join("log.20260115T030000.000Z");
    fs::rename(folder.0.join("log"), &old).unwrap();
    fs::write(folder.0.join("log.20260115T030000.000Z.gz.part"), "half").unwrap();
    fs::write(folder.0.join("log.conf"), "not one of ours").unwrap();
    let mut file = folder.file("");
    file.send(&documents(1..2)).unwrap();
    file.flush().unwrap();
    assert_eq!(folder.rotated(), ["log.20260115T030000.000Z.gz", "log.conf"]);
    fs::remove_file(folder.0.join("log.conf")).unwrap();
    assert_eq!(folder.times(), [0, 1]);
}

#[test]
fn a_file_that_was_renamed_or_removed_is_begun_anew() {
    let folder = Folder::new();
    let mut file = folder.file("rotation = 'external'");
    file.send(&documents(0..2)).unwrap();
    fs::rename(folder.0.join("log"), folder.0.join("log.1")).unwrap();
    // Nobody has said so.
    file.send(&documents(2..4)).unwrap();
    fs::rename(folder.0.join("log"), folder.0.join("log.2")).unwrap();
    file.reopen().unwrap();
    file.reopen().unwrap();
    assert_eq!(folder.read("log"), "");
    file.send(&documents(4..5)).unwrap();
    fs::remove_file(folder.0.join("log")).unwrap();
    file.send(&documents(5..6)).unwrap();
    let all = ["log.1", "log.2", "log"].map(|name| times(&folder.read(name)));
    assert_eq!(all, [vec![0, 1], vec![2, 3], vec![5]]);
}

#[test]
fn a_file_that_was_emptied_begins_at_its_beginning() {
    let folder = Folder::new();
    let mut file = folder.file("rotation = 'external'");
    file.send(&documents(0..5)).unwrap();
    fs::copy(folder.0.join("log"), folder.0.join("log.1")).unwrap();
    fs::File::options().write(true).open(folder.0.join("log")).unwrap().set_len(0).unwrap();
    file.send(&documents(5..6)).unwrap();
    assert_eq!([times(&folder.read("log.1")), times(&folder.read("log"))], [vec![0, 1, 2, 3, 4], vec![5]]);
}

#[test]
fn what_cannot_be_written_to_is_refused_with_a_remedy() {
    let folder = Folder::new();
    let refused = |config: &Config| format!("{:#}", File::new(config, &Origin::default()).unwrap_err());
    let first = folder.file("");
    assert!(refused(&folder.config("")).contains("another process writes to it"));
    drop(first);
    fs::remove_file(folder.0.join("log")).unwrap();
    symlink(folder.0.join("elsewhere"), folder.0.join("log")).unwrap();
    assert!(refused(&folder.config("")).contains("symbolic link"));
    assert!(!folder.0.join("elsewhere").exists());
    fs::remove_file(folder.0.join("log")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.0.join("log"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    assert!(refused(&folder.config("")).contains("`stdout`"));
    let mut config = folder.config("");
    config.path = folder.0.join("missing/log");
    assert!(refused(&config).contains("create it"));
    let wrong = |text: &str| toml::from_str::<Config>(text).unwrap_err().to_string();
    assert!(wrong("path = 'x'\nmode = '400'").contains("\"0640\""));
    assert!(wrong("path = 'x'\nkep = 1").contains("unknown field"));
}
