//! Files that a command was told to write: recordings and pages. They say who talks to whom, so that only their owner may read
//! them; and whoever can write to the folder that they are made in, such as `/tmp`, is not to choose where they go.
//!
//! | what is there | what happens |
//! |---|---|
//! | nothing | it is made, with mode 0600 whatever the umask |
//! | one of the same kind, or an empty file, of this user | it is replaced, and keeps its mode |
//! | a file of this user that is something else | refused: it was not written here |
//! | a file or a named pipe of another user | refused: that user could read what is written |
//! | a symbolic link of this user or root's (`/dev/stdout`) | it is followed |
//! | a symbolic link of another user | refused |
//! | a device or a pipe | it is written to |

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Seek as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    fs::{FileType, Mode, OFlags, Stat, fstat, open},
    process::geteuid,
};

use crate::shown::shown;

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct What {
    /// Its name in errors.
    pub(crate) name: &'static str,
    /// The bytes that every one of them begins with.
    pub(crate) beginning: &'static [u8],
}

/// Opens a file for writing. One that is there already keeps its content until there is something to replace it with.
pub(crate) fn create(path: &Path, what: What) -> Result<File> {
    let at = || format!("creating the {} {}", what.name, shown(path));
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            // A umask that takes away more than others' access is not meant for what it was told to write.
            file.set_permissions(Permissions::from_mode(0o600)).with_context(at)?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => existing(path, what).with_context(at),
        Err(error) => Err(error).with_context(at),
    }
}

/// Empties a file that was there before; a pipe or a device has nothing to be emptied of. Returns whether it is a file.
pub(crate) fn empty(file: &File) -> io::Result<bool> {
    let is_file = file.metadata()?.is_file();
    if is_file {
        file.set_len(0)?;
    }
    Ok(is_file)
}

/// What is looked at is what is written to: it is opened by its descriptor, not by its name, which may be another's by then.
fn existing(path: &Path, what: What) -> Result<File> {
    let (mut found, mut stat) = look(path, OFlags::NOFOLLOW)?;
    let is_link = kind(&stat) == FileType::Symlink;
    if is_link {
        if !is_trusted(&stat) {
            bail!(
                "it is a symbolic link of another user ({}), who could have it point anywhere; give the path that it points to",
                stat.st_uid
            );
        }
        (found, stat) = look(path, OFlags::empty())
            .context("it is a symbolic link, and what it points to cannot be had")?;
    }
    let kind = kind(&stat);
    // What root or this user has a link to is meant, whosever it is, as a redirection that `/dev/stdout` leads to.
    if !is_link && matches!(kind, FileType::RegularFile | FileType::Fifo) && stat.st_uid != geteuid().as_raw()
    {
        bail!(
            "it belongs to another user ({}), who could read what is written; remove it, or give another path",
            stat.st_uid
        );
    }
    let mut file = open_found(&found, kind == FileType::RegularFile)?;
    if kind == FileType::RegularFile {
        let mut beginning = Vec::new();
        (&file).take(what.beginning.len() as u64).read_to_end(&mut beginning)?;
        ensure!(
            beginning.is_empty() || beginning == what.beginning,
            "it is no {}, and is left as it is; remove it, or give another path",
            what.name
        );
        file.rewind()?;
    }
    Ok(file)
}

fn look(path: &Path, more: OFlags) -> io::Result<(OwnedFd, Stat)> {
    let found = open(path, OFlags::PATH | OFlags::CLOEXEC | more, Mode::empty())?;
    let stat = fstat(&found)?;
    Ok((found, stat))
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn is_trusted(stat: &Stat) -> bool {
    stat.st_uid == 0 || stat.st_uid == geteuid().as_raw()
}

fn open_found(found: &OwnedFd, is_file: bool) -> io::Result<File> {
    OpenOptions::new().read(is_file).write(true).open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// Opens a file that is another's business to have made; not through a link that somebody has put in its place.
pub(crate) fn open_no_link(path: &Path) -> io::Result<File> {
    Ok(open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty())?
        .into())
}

/// Whether a file stands in a folder where everybody may make files, and is neither this user's nor the folder's owner's:
/// somebody may have put it there to read, or to change, what is written to it (`fs.protected_regular` is this in the kernel,
/// where it is on: `may_create_in_sticky` in `fs/namei.c`, since 4.19).
pub(crate) fn is_planted(path: &Path, file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (folder, owner) = (fs::metadata(folder)?, file.metadata()?.uid());
    let is_shared = folder.mode() & 0o1002 == 0o1002;
    Ok(is_shared && owner != geteuid().as_raw() && owner != folder.uid())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, chown, symlink};

    use super::*;

    const WHAT: What = What { name: "recording", beginning: b"TCPTRACE" };

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tcp-trace-new-file-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn with(&self, name: &str, text: &str) -> std::path::PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn refused(path: &Path) -> String {
        format!("{:#}", create(path, WHAT).unwrap_err())
    }

    #[test]
    fn what_is_there_is_replaced_only_if_it_is_ours() {
        let folder = Folder::new("kinds");
        let before = folder.with("before", "TCPTRACE and much more");
        fs::set_permissions(&before, Permissions::from_mode(0o640)).unwrap();
        let file = create(&before, WHAT).unwrap();
        assert_eq!(fs::read(&before).unwrap(), b"TCPTRACE and much more", "it holds until there is another");
        assert!(empty(&file).unwrap());
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o640);
        create(&folder.with("empty", ""), WHAT).unwrap();
        let script = folder.with("report.py", "import this\n");
        let why = refused(&script);
        assert!(why.contains("report.py: it is no recording, and is left as it is; remove it"), "{why}");
        assert_eq!(fs::read(&script).unwrap(), b"import this\n");
        assert!(refused(&folder.with("short", "TCP")).contains("it is no recording"));
        assert!(refused(&folder.0).contains("Is a directory"));
        let file = create(&folder.0.join("new"), WHAT).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn our_links_are_followed_and_those_of_others_are_not() {
        let folder = Folder::new("links");
        let link = |name: &str, to: &Path| {
            let link = folder.0.join(name);
            symlink(to, &link).unwrap();
            link
        };
        let target = folder.with("target", "TCPTRACE");
        create(&link("ours", &target), WHAT).unwrap();
        create(Path::new("/dev/null"), WHAT).unwrap();
        let why = refused(&link("nowhere", &folder.0.join("nothing")));
        assert!(why.contains("it is a symbolic link, and what it points to cannot be had"), "{why}");
        assert!(!folder.0.join("nothing").exists());
        if !geteuid().is_root() {
            return;
        }
        let theirs = link("theirs", &target);
        std::os::unix::fs::lchown(&theirs, Some(65_534), None).unwrap();
        let why = refused(&theirs);
        assert!(why.contains("it is a symbolic link of another user (65534)"), "{why}");
        let planted = folder.with("planted", "");
        chown(&planted, Some(65_534), None).unwrap();
        let why = refused(&planted);
        assert!(why.contains("it belongs to another user (65534), who could read what is written"), "{why}");
        create(&link("to-planted", &planted), WHAT).unwrap();
    }

    #[test]
    fn files_that_others_have_put_into_a_shared_folder_are_known() {
        let folder = Folder::new("shared");
        let path = folder.with("log", "");
        let is = || is_planted(&path, &File::open(&path).unwrap()).unwrap();
        assert!(!is());
        if !geteuid().is_root() {
            return;
        }
        chown(&path, Some(65_534), None).unwrap();
        assert!(!is(), "logrotate makes files for others, too");
        fs::set_permissions(&folder.0, Permissions::from_mode(0o1777)).unwrap();
        assert!(is());
    }
}
