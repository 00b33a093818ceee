//! Files: `logrotate`, and a disk that is full.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tcp_trace::sink::file::{Config, File};
use tcp_trace_core::log::{Document, Origin};

use super::{Folder, numbered, numbers, run};
use crate::requirements::{Feature, requires};

fn external(folder: &Folder) -> File {
    let config: Config =
        toml::from_str(&format!("path = '{}'\nrotation = 'external'", folder.path("log").display())).unwrap();
    File::new(&config, &Origin::default()).unwrap()
}

/// Has the file rotated now.
fn logrotate(folder: &Folder, how: &str) {
    let log = folder.path("log").display().to_string();
    let config = folder.write("logrotate.conf", &format!("{log} {{\n rotate 99\n missingok\n {how}\n}}\n"));
    let state = folder.path("state").display().to_string();
    run("logrotate", &["--force", "--state", &state, config.to_str().unwrap()]);
}

/// While lines are written, without a signal: the file is another one by then.
pub(super) fn logrotate_renames_it() {
    requires(&[Feature::Logrotate]);
    let folder = Folder::new();
    let mut file = external(&folder);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let batch: Vec<_> = (number..number + 50).map(|number| numbered(number, "y")).collect();
                file.send(&batch).unwrap();
                number += 50;
                thread::sleep(Duration::from_millis(1));
            }
            number
        })
    };
    for how in ["nocreate", "create 0640 root root", "create 0600 root root", "nocreate"] {
        thread::sleep(Duration::from_millis(100));
        logrotate(&folder, how);
    }
    thread::sleep(Duration::from_millis(100));
    stop.store(true, Ordering::Relaxed);
    let written = writer.join().unwrap();
    let names = ["log.4", "log.3", "log.2", "log.1", "log"];
    let parts = names.map(|name| numbers(&folder.path(name)));
    assert!(parts.iter().all(|part| !part.is_empty()), "each has its part of {written}");
    assert!(parts.concat().into_iter().eq(0..written), "every line once, in order");
}

/// What is written while it copies it leaves out, as its manual says; here nothing is.
pub(super) fn logrotate_copies_and_truncates_it() {
    requires(&[Feature::Logrotate]);
    let folder = Folder::new();
    let mut file = external(&folder);
    for round in 0..3 {
        let batch: Vec<Document> =
            (round * 100..(round + 1) * 100).map(|number| numbered(number, "y")).collect();
        file.send(&batch).unwrap();
        if round < 2 {
            logrotate(&folder, "copytruncate");
            assert_eq!(fs::metadata(folder.path("log")).unwrap().len(), 0);
        }
    }
    let parts = ["log.2", "log.1", "log"].map(|name| numbers(&folder.path(name)));
    assert_eq!(parts.each_ref().map(Vec::len), [100, 100, 100]);
    assert!(parts.concat().into_iter().eq(0..300));
}

/// A small file system of its own, which another file fills up.
pub(super) fn a_full_disk() {
    let folder = Folder::new();
    let disk = folder.path("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Mounted(disk.to_str().unwrap().to_owned());
    mount("tcp-trace-test", &mounted.0, "tmpfs", MountFlags::empty(), c"size=256k").unwrap();
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; 128 << 10]).unwrap();
    let config: Config = toml::from_str(&format!("path = '{}'", disk.join("log").display())).unwrap();
    let mut file = File::new(&config, &Origin::default()).unwrap();
    let batch: Vec<_> = (0..300).map(|number| numbered(number, &"y".repeat(150))).collect();
    let failure = file.send(&batch).unwrap_err();
    assert!(failure.why.contains("No space left on device") && failure.refused == 0, "{failure:?}");
    assert!((1..300).contains(&failure.done), "{failure:?}");
    let whole = numbers(&disk.join("log"));
    assert!(whole.into_iter().eq(0..failure.done as u64), "{failure:?}");
    let again = file.send(&batch[failure.done..]).unwrap_err();
    let done = failure.done + again.done;
    fs::remove_file(ballast).unwrap();
    file.send(&batch[done..]).unwrap();
    assert!(numbers(&disk.join("log")).into_iter().eq(0..300));
    drop(file);
}

struct Mounted(String);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
