//! The part of `Cargo.lock` that one package depends on.
//!
//! The format is regular enough to be read line by line, which spares the build script a TOML parser.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

/// One locked package.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Locked {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Packages of the workspace have none.
    pub(crate) checksum: Option<String>,
}

/// A `[[package]]` block.
#[derive(Default)]
struct Block {
    locked: Locked,
    dependencies: Vec<String>,
}

/// All packages that `package` needs, itself included, sorted.
pub(crate) fn closure(lockfile: &str, package: &str) -> Result<Vec<Locked>> {
    let blocks: Vec<Block> = lockfile.split("[[package]]").skip(1).map(parse).collect();
    let mut found = BTreeSet::new();
    let mut wanted = vec![package.to_owned()];
    while let Some(dependency) = wanted.pop() {
        let block = blocks
            .iter()
            .find(|block| block.is_meant_by(&dependency))
            .with_context(|| format!("Cargo.lock does not list {dependency:?}"))?;
        if found.insert(block.locked.clone()) {
            wanted.extend(block.dependencies.iter().cloned());
        }
    }
    Ok(found.into_iter().collect())
}

/// One line for each package.
pub(crate) fn text(packages: &[Locked]) -> String {
    let line = |Locked { name, version, checksum }: &Locked| {
        format!("{name} {version} {}\n", checksum.as_deref().unwrap_or("of the workspace"))
    };
    packages.iter().map(line).collect()
}

fn parse(text: &str) -> Block {
    let mut block = Block::default();
    for line in text.lines().map(str::trim) {
        match line.split_once(" = ") {
            Some(("name", value)) => block.locked.name = unquote(value),
            Some(("version", value)) => block.locked.version = unquote(value),
            Some(("checksum", value)) => block.locked.checksum = Some(unquote(value)),
            // Only the entries of the list of dependencies are bare strings.
            None if line.starts_with('"') => block.dependencies.push(unquote(line.trim_end_matches(','))),
            Some(_) | None => {}
        }
    }
    block
}

fn unquote(value: &str) -> String {
    value.trim_matches('"').to_owned()
}

impl Block {
    /// A dependency is written `name` while that is unique in the file, else `name version`.
    fn is_meant_by(&self, dependency: &str) -> bool {
        let mut words = dependency.split(' ');
        words.next() == Some(self.locked.name.as_str())
            && words.next().is_none_or(|version| version == self.locked.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKFILE: &str = r#"
version = 4

[[package]]
name = "app"
version = "0.1.0"
dependencies = [
 "kernel-part",
 "syn 2.0.0",
]

[[package]]
name = "kernel-part"
version = "0.1.0"
dependencies = [
 "syn 1.0.0",
]

[[package]]
name = "syn"
version = "1.0.0"
source = "registry"
checksum = "aa"

[[package]]
name = "syn"
version = "2.0.0"
source = "registry"
checksum = "bb"
"#;

    #[test]
    fn follows_dependencies_to_the_right_version() {
        let found = closure(LOCKFILE, "kernel-part").unwrap();
        assert_eq!(text(&found), "kernel-part 0.1.0 of the workspace\nsyn 1.0.0 aa\n");
    }

    #[test]
    fn a_package_that_is_not_locked_is_an_error() {
        assert!(closure(LOCKFILE, "absent").is_err());
    }
}
