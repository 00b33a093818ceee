//! One hash over everything that decides what the eBPF object contains.
//!
//! A change to a user-space dependency must not look like a change of the kernel half, so of the lock file and
//! of the workspace manifest only what concerns the eBPF crate is counted.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{Object, lockfile, recipe, sha256};

/// What belongs to a package; its tests and docs do not.
const PARTS: [&str; 3] = ["Cargo.toml", "build.rs", "src"];

/// In the root of the workspace.
pub(crate) const LOCKFILE: &str = "Cargo.lock";
pub(crate) const MANIFEST: &str = "Cargo.toml";

/// The files and folders with the code of an object, whether or not each of them exists.
pub(crate) fn code(root: &Path, object: &Object) -> Vec<PathBuf> {
    object.code.iter().flat_map(|package| PARTS.map(|part| root.join(package).join(part))).collect()
}

/// The SHA-256 of the sources, the locked dependencies and the recipe.
pub(crate) fn hash(root: &Path, object: &Object) -> Result<String> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    let dependencies = lockfile::closure(&read(&root.join(LOCKFILE))?, object.package)?;
    let settings = workspace_settings(&read(&root.join(MANIFEST))?, &dependencies);

    let mut files = BTreeSet::new();
    for path in code(root, object) {
        collect(&path, &mut files)?;
    }
    let mut framed = Vec::new();
    frame(&mut framed, "recipe", recipe::identity().as_bytes());
    frame(&mut framed, LOCKFILE, lockfile::text(&dependencies).as_bytes());
    frame(&mut framed, MANIFEST, settings.as_bytes());
    for file in files {
        let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        frame(&mut framed, &name, &content);
    }
    Ok(sha256(&framed))
}

/// Adds a file, or all files below a folder; what does not exist adds nothing.
fn collect(path: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path).with_context(|| format!("listing {}", path.display()))? {
            collect(&entry?.path(), files)?;
        }
    } else if path.is_file() {
        files.insert(path.to_path_buf());
    }
    Ok(())
}

/// Lengths keep two different sets of files from ever looking the same when strung together.
fn frame(framed: &mut Vec<u8>, name: &str, content: &[u8]) {
    framed.extend(format!("{name}\n{}\n", content.len()).as_bytes());
    framed.extend(content);
}

/// The lines of the workspace manifest that reach the eBPF crate: its edition, and the features that
/// `[workspace.dependencies]` turns on in what it uses.
fn workspace_settings(manifest: &str, dependencies: &[lockfile::Locked]) -> String {
    let mut section = "";
    let mut settings = String::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        let key = line.split(['=', '.', ' ']).next().unwrap_or_default();
        let counts = match section {
            "[workspace.package]" => key == "edition",
            "[workspace.dependencies]" => dependencies.iter().any(|locked| locked.name == key),
            _ => false,
        };
        if counts {
            settings.push_str(line);
            settings.push('\n');
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_of_the_ebpf_crate_count() {
        let manifest = "[workspace.package]\nversion = \"1\"\nedition = \"2024\"\n\
                        [workspace.dependencies]\naya-ebpf = \"0.2\"\nserde = \"1\"\n\
                        [profile.release]\nlto = \"thin\"\n";
        let locked = lockfile::Locked { name: "aya-ebpf".into(), version: "0.2.1".into(), checksum: None };
        assert_eq!(workspace_settings(manifest, &[locked]), "edition = \"2024\"\naya-ebpf = \"0.2\"\n");
    }

    #[test]
    fn moving_a_byte_between_files_is_a_change() {
        let framed = |first: &str, second: &str| {
            let mut framed = Vec::new();
            frame(&mut framed, "a", first.as_bytes());
            frame(&mut framed, "b", second.as_bytes());
            framed
        };
        assert_ne!(framed("xy", "z"), framed("x", "yz"));
    }
}
