//! Users of this host, by `/etc/passwd` (passwd(5)). Users of a directory service are not in it and stay numbers.

use std::{fs::File, io::Read as _, path::PathBuf, sync::OnceLock};

use rustc_hash::FxHashMap;

/// More than a passwd file ever has.
const LONGEST: u64 = 4 << 20;

/// A user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) home: PathBuf,
}

/// The users by id, as they were when this was asked first.
pub(super) fn users() -> &'static FxHashMap<u32, User> {
    static USERS: OnceLock<FxHashMap<u32, User>> = OnceLock::new();
    USERS.get_or_init(|| {
        let mut bytes = Vec::new();
        match File::open("/etc/passwd").and_then(|file| file.take(LONGEST).read_to_end(&mut bytes)) {
            Ok(_) => parse(&String::from_utf8_lossy(&bytes)),
            Err(error) => {
                log::debug!("/etc/passwd: {error}");
                FxHashMap::default()
            }
        }
    })
}

pub(super) fn parse(passwd: &str) -> FxHashMap<u32, User> {
    let mut users = FxHashMap::default();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let (name, uid, home) = (fields.next(), fields.nth(1), fields.nth(2));
        if let (Some(name), Some(Ok(uid)), Some(home)) = (name, uid.map(str::parse), home)
            && !name.is_empty()
        {
            // As getpwuid(3): the first line counts.
            users.entry(uid).or_insert_with(|| User { name: name.to_owned(), home: PathBuf::from(home) });
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_an_id_counts_and_broken_ones_do_not() {
        let users = parse(
            "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/other:\n# no user\n:x:5:5::/:\nx:y:z:0::/:\n+::\nme:x:1000:1000:,,:/home/me:\n",
        );
        assert_eq!(users.len(), 2);
        assert_eq!(users[&0], User { name: "root".into(), home: "/root".into() });
        assert_eq!(users[&1000], User { name: "me".into(), home: "/home/me".into() });
    }
}
