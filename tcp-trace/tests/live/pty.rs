//! A terminal of one's own, and just enough of an emulator to know what stands on it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, ioctl_tiocsctty, kill_process, set_parent_process_death_signal, setsid},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::tracer::PATIENCE;

/// A program on a terminal.
pub(crate) struct Pty {
    child: Child,
    terminal: File,
    /// The program's side; it keeps the terminal open.
    side: OwnedFd,
    size: (u16, u16),
    raw: Arc<Mutex<Vec<u8>>>,
    done: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Pty {
    /// Starts tcp-trace on a terminal of this many columns and rows.
    pub(crate) fn spawn(arguments: &[&str], size: (u16, u16)) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let side = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        tcsetwinsize(&side, winsize(size)).unwrap();
        let stdio = || side.try_clone().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-trace"));
        command.args(arguments).env("TERM", "xterm-256color").env_remove("NO_COLOR");
        command.stdin(stdio()).stdout(stdio()).stderr(stdio());
        // SAFETY: between fork and exec the hook makes three system calls; it allocates and locks nothing.
        unsafe {
            command.pre_exec(|| {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                setsid()?;
                Ok(ioctl_tiocsctty(rustix::stdio::stdin())?)
            });
        }
        let child = command.spawn().unwrap();
        let (raw, done) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let mut from = File::from(terminal.try_clone().unwrap());
        let (into, end) = (Arc::clone(&raw), Arc::clone(&done));
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read) = from.read(&mut bytes) {
                into.lock().unwrap().extend_from_slice(&bytes[..read]);
                if end.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        Self { child, terminal: terminal.into(), side, size, raw, done, reader: Some(reader) }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types.
    pub(crate) fn send(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), signal).unwrap();
    }

    /// Makes the window another size, of which the kernel tells the program.
    pub(crate) fn resize(&mut self, size: (u16, u16)) {
        self.size = size;
        tcsetwinsize(&self.side, winsize(size)).unwrap();
    }

    /// Whether keys come one by one and unseen, as a full screen needs it and a shell does not.
    pub(crate) fn is_raw(&self) -> bool {
        !tcgetattr(self.side.as_fd()).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    /// Forgets what was drawn so far.
    pub(crate) fn forget(&self) {
        self.raw.lock().unwrap().clear();
    }

    /// What stands on the screen.
    pub(crate) fn screen(&self) -> String {
        emulate(&self.raw.lock().unwrap(), self.size)
    }

    /// Waits until this stands on the screen, which is returned.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, wanted: &str) -> String {
        self.wait_until(wanted, |text| text.contains(wanted))
    }

    /// Waits until the screen is as it should be.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.screen();
            if wanted(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "no {what}:\n{text}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end, and sees to it that the terminal is as it was; its exit code, and what it wrote after the screen.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.screen());
            thread::sleep(Duration::from_millis(10));
        };
        thread::sleep(Duration::from_millis(50));
        let raw = String::from_utf8_lossy(&self.raw.lock().unwrap()).into_owned();
        let (_, after) = raw
            .rsplit_once("\u{1b}[?1049l")
            .unwrap_or_else(|| panic!("the alternate screen is not left: {raw:?}"));
        assert!(after.contains("\u{1b}[?25h"), "the cursor is shown again: {after:?}");
        assert!(!self.is_raw(), "the terminal is given back");
        (status.code(), after.to_owned())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // Already ended, unless the test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.done.store(true, Ordering::SeqCst);
        // The reader hears of it by what is written next.
        let _ = rustix::io::write(&self.side, b"\n");
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn winsize((columns, rows): (u16, u16)) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// The screen after these bytes: cursor positions, erasing and text; colours and modes are passed over.
fn emulate(raw: &[u8], (columns, rows): (u16, u16)) -> String {
    let (columns, rows) = (usize::from(columns), usize::from(rows));
    let mut cells = vec![vec![' '; columns]; rows];
    let (mut x, mut y) = (0, 0);
    let text = String::from_utf8_lossy(raw);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => {
                if letters.next() != Some('[') {
                    continue;
                }
                let mut arguments = String::new();
                let last = letters.by_ref().find(|letter| {
                    arguments.push(*letter);
                    letter.is_ascii_alphabetic()
                });
                let number = |place: usize| -> usize {
                    let digits = arguments.trim_end_matches(char::is_alphabetic).split(';').nth(place);
                    digits.and_then(|digits| digits.parse().ok()).unwrap_or(1)
                };
                match last {
                    Some('H') => (y, x) = (number(0) - 1, number(1) - 1),
                    Some('h') if arguments == "?1049h" => cells = vec![vec![' '; columns]; rows],
                    Some('J') => cells = vec![vec![' '; columns]; rows],
                    _ => {}
                }
            }
            '\r' => x = 0,
            '\n' => y += 1,
            letter => {
                if let Some(cell) = cells.get_mut(y).and_then(|row| row.get_mut(x)) {
                    *cell = letter;
                }
                x += 1;
            }
        }
    }
    cells.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned() + "\n").collect()
}
