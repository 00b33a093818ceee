//! Debian's archive, in any of its suites, without a change to the machine's own view of it: apt works with a
//! private state, made from the machine's sources with another suite in them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::process;

/// The suite of Debian's unstable, which has neither updates nor security's packages apart.
pub(super) const UNSTABLE: &str = "sid";

/// One suite, as apt sees it.
pub(super) struct Archive {
    suite: &'static str,
    options: Vec<String>,
}

impl Archive {
    /// Fetches the lists of a suite into `folder`.
    pub(super) fn open(suite: &'static str, folder: &Path) -> Result<Self> {
        let sources = folder.join("sources");
        for needed in ["sources", "lists/partial", "cache/archives/partial"] {
            let path = folder.join(needed);
            fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        }
        let own = codename()?;
        let mut written = 0;
        for file in machine_sources() {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let stanzas = file.extension().is_some_and(|extension| extension == "sources");
            let text = if stanzas {
                retarget_stanzas(&text, &own, suite)
            } else {
                retarget_lines(&text, &own, suite)
            };
            if let (Some(text), Some(name)) = (text, file.file_name()) {
                let copy = sources.join(name);
                fs::write(&copy, text).with_context(|| format!("writing {}", copy.display()))?;
                written += 1;
            }
        }
        ensure!(written > 0, "apt has no source of Debian's own packages ({own}) on this machine");
        let setting = |name: &str, path: &Path| ["-o".to_owned(), format!("{name}={}", path.display())];
        let mut options = [
            setting("Dir::Etc::sourcelist", Path::new("/dev/null")),
            setting("Dir::Etc::sourceparts", &sources),
            setting("Dir::State::lists", &folder.join("lists")),
            setting("Dir::Cache", &folder.join("cache")),
        ]
        .concat();
        // Descriptions for software centres are a third of the download.
        options
            .extend(["-o".to_owned(), "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned()]);
        let archive = Self { suite, options };
        process::run(archive.apt("apt-get").args(["-qq", "update", "--error-on=any"])).with_context(
            || format!("fetching the package lists of Debian's {suite}; is there a network?"),
        )?;
        Ok(archive)
    }

    /// Names of packages that match an extended regular expression.
    pub(super) fn search(&self, pattern: &str) -> Result<Vec<String>> {
        let text = self.ask(&["search", "--names-only", pattern])?;
        Ok(text.lines().filter_map(|line| Some(line.split_once(" - ")?.0.to_owned())).collect())
    }

    /// What a package depends on, directly and without a choice.
    pub(super) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let text = self.ask(&["depends", package])?;
        Ok(text.lines().filter_map(|line| Some(line.strip_prefix("  Depends: ")?.to_owned())).collect())
    }

    /// Downloads packages and unpacks them below `root`; nothing is installed.
    pub(super) fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let debs = root.with_extension("debs");
        for folder in [root, &debs] {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let mut download = self.apt("apt-get");
        download.args(["-qq", "download"]).args(packages).current_dir(&debs);
        process::run(&mut download).with_context(|| format!("downloading from Debian's {}", self.suite))?;
        for deb in fs::read_dir(&debs)? {
            process::run(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(root))?;
        }
        fs::remove_dir_all(&debs).with_context(|| format!("removing {}", debs.display()))
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }

    fn ask(&self, question: &[&str]) -> Result<String> {
        let output = self.apt("apt-cache").args(question).output().context("starting apt-cache")?;
        ensure!(output.status.success(), "apt-cache {} ended with {}", question.join(" "), output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The files that tell apt where packages are.
fn machine_sources() -> Vec<PathBuf> {
    let parts =
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let known = |path: &PathBuf| path.extension().is_some_and(|end| end == "list" || end == "sources");
    let mut files: Vec<_> = parts.chain([PathBuf::from("/etc/apt/sources.list")]).filter(known).collect();
    files.retain(|file| file.is_file());
    files.sort();
    files
}

/// The name of the machine's own release.
fn codename() -> Result<String> {
    const FILE: &str = "/etc/os-release";
    let text = fs::read_to_string(FILE).context(FILE)?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.with_context(|| format!("{FILE} has no VERSION_CODENAME"))?.trim_matches('"').to_owned())
}

/// The wanted suite in place of the machine's own; `None` for what the wanted one lacks, and for what is not
/// Debian's.
fn retarget(suite: &str, own: &str, wanted: &str) -> Option<String> {
    let (release, part) =
        suite.split_once('-').map_or((suite, None), |(release, part)| (release, Some(part)));
    let is_debians = release == own || ["stable", "testing", "unstable", UNSTABLE].contains(&release);
    match part {
        _ if !is_debians => None,
        None => Some(wanted.to_owned()),
        Some("security") if wanted != UNSTABLE => Some(format!("{wanted}-security")),
        Some(_) => None,
    }
}

/// A file of the newer form: paragraphs of fields (sources.list(5), "DEB822-STYLE FORMAT").
fn retarget_stanzas(text: &str, own: &str, wanted: &str) -> Option<String> {
    let stanzas = text.split("\n\n").filter_map(|stanza| {
        let line = stanza.lines().find(|line| line.starts_with("Suites:"))?;
        let suites = line.split_whitespace().skip(1).filter_map(|suite| retarget(suite, own, wanted));
        let suites = suites.collect::<Vec<_>>().join(" ");
        (!suites.is_empty()).then(|| stanza.replacen(line, &format!("Suites: {suites}"), 1))
    });
    let text = stanzas.collect::<Vec<_>>().join("\n\n");
    (!text.is_empty()).then(|| format!("{text}\n"))
}

/// A file of the older form: lines of `deb [options] uri suite component…`.
fn retarget_lines(text: &str, own: &str, wanted: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("deb ")?.trim_start();
        let after_options = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
        let suite = after_options.split_whitespace().nth(1)?;
        Some(line.replacen(&format!(" {suite} "), &format!(" {} ", retarget(suite, own, wanted)?), 1))
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    (!text.is_empty()).then(|| format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /keys/debian.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Types: deb
URIs: https://else.example
Suites: nodistro
Components: main
";

    #[test]
    fn paragraphs_keep_all_but_their_suites() {
        let text = retarget_stanzas(STANZAS, "bookworm", "bullseye").unwrap();
        assert_eq!(
            text,
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bullseye\nComponents: main\n\
             Signed-By: /keys/debian.gpg\n\nTypes: deb\nURIs: http://mirror.example/security\n\
             Suites: bullseye-security\nComponents: main\n"
        );
    }

    #[test]
    fn unstable_has_no_security() {
        let text = retarget_stanzas(STANZAS, "bookworm", "sid").unwrap();
        assert_eq!(text.matches("Suites: ").count(), 1, "{text}");
        assert!(text.contains("Suites: sid\n"), "{text}");
    }

    #[test]
    fn lines_keep_all_but_their_suites() {
        let lines = "# a comment\n\
                     deb [signed-by=/keys/a.gpg arch=amd64] http://mirror.example/debian bookworm main contrib\n\
                     deb-src http://mirror.example/debian bookworm main\n\
                     deb http://mirror.example/security bookworm-security main\n\
                     deb https://else.example stuff main\n";
        assert_eq!(
            retarget_lines(lines, "bookworm", "trixie").unwrap(),
            "deb [signed-by=/keys/a.gpg arch=amd64] http://mirror.example/debian trixie main contrib\n\
             deb http://mirror.example/security trixie-security main\n"
        );
        assert_eq!(retarget_lines("deb https://else.example stuff main\n", "bookworm", "trixie"), None);
    }
}
