//! The note beside the committed object: what it was made from, and what it must be.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::sha256;

/// The committed object and its note, relative to the package `tcp-trace`.
const OBJECT: &str = "bpf/tcp-trace.bpf.o";
const NOTE: &str = "bpf/tcp-trace.bpf.o.toml";

/// What the note says.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Record {
    /// `source::hash` of the sources that the object was made from.
    pub(crate) source: String,
    /// SHA-256 of the object.
    pub(crate) object: String,
    /// The toolchain, for people.
    pub(crate) made_by: String,
}

/// Where the two files are.
pub(crate) struct Committed {
    pub(crate) object: PathBuf,
    pub(crate) note: PathBuf,
}

impl Committed {
    /// `package` is the folder of the package `tcp-trace`.
    pub(crate) fn of(package: &Path) -> Self {
        Self { object: package.join(OBJECT), note: package.join(NOTE) }
    }

    /// Reads both and makes sure that they belong together.
    pub(crate) fn read(&self) -> Result<(Vec<u8>, Record)> {
        let Self { object, note } = self;
        let bytes = fs::read(object).with_context(|| format!("reading {}", object.display()))?;
        let text = fs::read_to_string(note).with_context(|| format!("reading {}", note.display()))?;
        let record = Record::parse(&text).with_context(|| format!("in {}", note.display()))?;
        let actual = sha256(&bytes);
        ensure!(
            actual == record.object,
            "{} is damaged: its SHA-256 is {actual}, recorded is {}; restore it with `git checkout`, \
             or make it anew with `cargo xtask ebpf`",
            object.display(),
            record.object
        );
        Ok((bytes, record))
    }
}

impl Record {
    fn parse(text: &str) -> Result<Self> {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.split_once(" = "))
                .find_map(|(name, value)| (name == key).then(|| value.trim_matches('"').to_owned()))
                .with_context(|| format!("there is no line `{key} = \"...\"`"))
        };
        Ok(Self { source: value("source")?, object: value("object")?, made_by: value("made_by")? })
    }
}

/// The text of the note.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, object, made_by } = self;
        writeln!(
            f,
            "# About the object beside it: written by `cargo xtask ebpf`, checked by it and by tcp-trace/build.rs."
        )?;
        writeln!(f, "# `source` is a hash over the eBPF sources and their locked dependencies;")?;
        writeln!(f, "# while it is current, a build uses the object instead of compiling it.")?;
        writeln!(f, "source = \"{source}\"")?;
        writeln!(f, "object = \"{object}\"")?;
        writeln!(f, "made_by = \"{made_by}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let record = Record { source: "aa".into(), object: "bb".into(), made_by: "rustc 1 (LLVM 2)".into() };
        assert_eq!(Record::parse(&record.to_string()).unwrap(), record);
        assert!(Record::parse("source = \"aa\"").is_err());
    }
}
