//! Landlock (landlock(7), since 5.13): which files the calling thread may change, and whether it may use TCP.
//!
//! Reading is left to the owner's rights: what an instrument reads is in every corner of a host, and in other mount
//! namespaces, of which no rule can speak.

use std::{
    ffi::c_long,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use rustix::fs::{Mode, OFlags};

use super::NotConfined;

/// What a thread may.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// Where it may make, change, rename and remove files.
    pub(super) write_below: Option<&'a Path>,
    /// Whether it may connect by TCP.
    pub(super) connect: bool,
}

/// The calls, numbered alike on every architecture.
const CREATE_RULESET: c_long = 444;
const ADD_RULE: c_long = 445;
const RESTRICT_SELF: c_long = 446;
/// `LANDLOCK_CREATE_RULESET_VERSION`, `LANDLOCK_RULE_PATH_BENEATH` (`include/uapi/linux/landlock.h`).
const VERSION: u32 = 1;
const PATH_BENEATH: u32 = 1;

/// `LANDLOCK_ACCESS_FS_*`.
mod fs {
    pub(super) const EXECUTE: u64 = 1 << 0;
    pub(super) const WRITE_FILE: u64 = 1 << 1;
    pub(super) const REMOVE_FILE: u64 = 1 << 5;
    pub(super) const MAKE_REG: u64 = 1 << 8;
    /// To remove folders and files, and to make them, of any kind.
    pub(super) const REMOVE_AND_MAKE: u64 = 0x1ff0;
    /// To move between folders; ABI 2, kernel 5.19.
    pub(super) const REFER: u64 = 1 << 13;
    /// ABI 3, kernel 6.2.
    pub(super) const TRUNCATE: u64 = 1 << 14;
}

/// `LANDLOCK_ACCESS_NET_*`; ABI 4, kernel 6.7.
const BIND_TCP: u64 = 1 << 0;
const CONNECT_TCP: u64 = 1 << 1;

/// Terminals and what swallows everything: whoever may write at all may write there.
const ALWAYS: [&str; 2] = ["/dev/null", "/dev/tty"];

/// `struct landlock_ruleset_attr` as far as ABI 4 has it. An older kernel takes it if what it does not know is 0
/// (`copy_struct_from_user`).
#[repr(C)]
struct RulesetAttr {
    handled_fs: u64,
    handled_net: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneathAttr {
    allowed: u64,
    parent: i32,
}

/// Which version of the interface this kernel has; `None` without Landlock.
#[must_use]
pub fn abi() -> Option<u32> {
    // SAFETY: with this flag there is no address to read.
    let version = unsafe { libc::syscall(CREATE_RULESET, std::ptr::null::<RulesetAttr>(), 0_usize, VERSION) };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

/// Restricts the calling thread, and those that it starts.
pub(super) fn restrict(rules: &Rules<'_>) -> Result<(), NotConfined> {
    let Some(abi) = abi() else {
        return Err(NotConfined::Lacking(
            "this kernel has no Landlock (since 5.13), or starts without it (lsm=)",
        ));
    };
    let attr = handled(abi, rules.connect);
    // SAFETY: the kernel reads as many bytes as the size says.
    let made = unsafe { libc::syscall(CREATE_RULESET, &raw const attr, size_of::<RulesetAttr>(), 0) };
    let made = i32::try_from(check(made)?).map_err(io::Error::other)?;
    // SAFETY: new and nobody else's; the kernel opens these with close-on-exec.
    let ruleset = unsafe { OwnedFd::from_raw_fd(made) };
    let change = (fs::WRITE_FILE | fs::TRUNCATE) & attr.handled_fs;
    for path in ALWAYS {
        // There need not be one.
        let _ = allow(&ruleset, Path::new(path), change);
    }
    if let Some(folder) = rules.write_below {
        allow(&ruleset, folder, change | fs::REMOVE_FILE | fs::MAKE_REG)?;
    }
    // SAFETY: no address in it.
    check(unsafe { libc::syscall(RESTRICT_SELF, ruleset.as_raw_fd(), 0) })?;
    Ok(())
}

/// What is forbidden but for the rules.
fn handled(abi: u32, connect: bool) -> RulesetAttr {
    let since = |version, right| if abi >= version { right } else { 0 };
    let tcp = if connect { BIND_TCP } else { BIND_TCP | CONNECT_TCP };
    RulesetAttr {
        handled_fs: fs::EXECUTE
            | fs::WRITE_FILE
            | fs::REMOVE_AND_MAKE
            | since(2, fs::REFER)
            | since(3, fs::TRUNCATE),
        handled_net: since(4, tcp),
    }
}

/// Adds a rule: this much of it and, of a folder, of what is below.
fn allow(ruleset: &OwnedFd, path: &Path, allowed: u64) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let attr = PathBeneathAttr { allowed, parent: file.as_raw_fd() };
    // SAFETY: the kernel reads a struct of this layout.
    check(unsafe { libc::syscall(ADD_RULE, ruleset.as_raw_fd(), PATH_BENEATH, &raw const attr, 0) })?;
    Ok(())
}

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, read_to_string, remove_file, rename, write},
        net::{TcpListener, TcpStream},
        path::PathBuf,
        thread,
    };

    use super::*;

    #[test]
    fn an_old_kernel_is_asked_for_what_it_knows() {
        assert_eq!(handled(1, false).handled_fs, 0x1ff3);
        assert_eq!((handled(3, false).handled_net, handled(4, true).handled_net), (0, BIND_TCP));
    }

    /// On a thread that is restricted so, if this kernel has Landlock; returns whether it has.
    fn restricted(rules: &Rules<'_>, work: impl FnOnce() + Send) -> bool {
        thread::scope(|scope| {
            let restricted = scope.spawn(|| {
                rustix::thread::set_no_new_privs(true).unwrap();
                match restrict(rules) {
                    Ok(()) => work(),
                    Err(NotConfined::Lacking(_)) => return false,
                    Err(NotConfined::Failed(error)) => panic!("{error}"),
                }
                true
            });
            restricted.join().unwrap()
        })
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tcp-trace-landlock-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn only_below_its_folder_can_it_write() {
        let (inside, outside) = (folder("in"), folder("out"));
        let rules = Rules { write_below: Some(&inside), connect: false };
        let has = restricted(&rules, || {
            write(inside.join("a"), "1").unwrap();
            write(inside.join("a"), "2").unwrap();
            rename(inside.join("a"), inside.join("b")).unwrap();
            assert_eq!(read_to_string(inside.join("b")).unwrap(), "2");
            remove_file(inside.join("b")).unwrap();
            assert!(write(outside.join("a"), "1").is_err());
            assert!(
                File::open("/etc/passwd").is_ok() && File::options().write(true).open("/dev/null").is_ok()
            );
        });
        // A thread without rules is none that they could hold.
        assert_eq!(write(outside.join("a"), "1").is_ok(), has || abi().is_none());
        for folder in [inside, outside] {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn who_does_not_send_does_not_connect() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connects = |connect| {
            let mut connected = true;
            restricted(&Rules { write_below: None, connect }, || {
                connected = TcpStream::connect(address).is_ok();
            });
            connected
        };
        let knows = abi().is_some_and(|abi| abi >= 4);
        assert_eq!((connects(true), connects(false)), (true, !knows));
    }
}
