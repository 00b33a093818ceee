//! Debian's kernels: found, fetched once, and kept unpacked.

use std::{
    cmp::Ordering,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::archive::{Archive, UNSTABLE};

/// A line of kernels, and the suite of Debian that has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Series {
    pub(super) name: &'static str,
    suite: &'static str,
}

/// The oldest kernel that tcp-trace is for, the newest, and what people run in between.
pub(super) const ALL: [Series; 4] = [
    Series { name: "5.10", suite: "bullseye" },
    Series { name: "6.1", suite: "bookworm" },
    Series { name: "6.12", suite: "trixie" },
    Series { name: "7.2", suite: UNSTABLE },
];

/// A kernel ready to be booted.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) release: String,
    pub(super) image: PathBuf,
    modules: PathBuf,
}

impl Series {
    /// The kernel kept in `folder`; or, if there is none or an `update` is wanted, the newest patch level
    /// there is, which is kept from now on.
    pub(super) fn kernel(self, folder: &Path, update: bool) -> Result<Kernel> {
        let root = folder.join("root");
        if update || !root.is_dir() {
            self.fetch(folder).with_context(|| {
                format!(
                    "no kernel {} was to be had; to use one that you have, unpack its package: dpkg -x PACKAGE {}",
                    self.name,
                    root.display()
                )
            })?;
        }
        Kernel::unpacked(&root)
    }

    fn fetch(self, folder: &Path) -> Result<()> {
        let apt = folder.join("apt");
        let archive = Archive::open(self.suite, &apt)?;
        let image = self.newest(&archive)?;
        // Newer packages of an image are empty, and depend on others of the same version that have the parts.
        let version = image.trim_start_matches("linux-image-").to_owned();
        let parts = archive.dependencies(&image)?.into_iter().filter(|package| package.ends_with(&version));
        let packages: Vec<_> = std::iter::once(image.clone()).chain(parts).collect();
        // Complete or not there at all.
        let partial = folder.join("partial");
        remove(&partial)?;
        archive.unpack(&packages, &partial)?;
        let root = folder.join("root");
        remove(&root)?;
        fs::rename(&partial, root).with_context(|| format!("renaming {}", partial.display()))?;
        remove(&apt)
    }

    /// The name of the package with the highest patch level.
    fn newest(self, archive: &Archive) -> Result<String> {
        let Self { name, suite } = self;
        let newest = |series: &str| -> Result<Option<String>> {
            let packages = archive.search(&format!("^linux-image-{series}[0-9].*-cloud-amd64$"))?;
            Ok(packages.into_iter().max_by(|a, b| by_number(a, b)))
        };
        if let Some(package) = newest(&format!("{}\\.", name.replace('.', "\\.")))? {
            return Ok(package);
        }
        // That suite moves on with the kernel.
        let other = if suite == UNSTABLE { newest("")? } else { None };
        let other = other.with_context(|| format!("Debian's {suite} has no kernel {name} for the cloud"))?;
        eprintln!("Debian's {suite} has no kernel {name} any more; {other} takes its place");
        Ok(other)
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
    .with_context(|| format!("removing {}", folder.display()))
}

/// Compares the numbers in two names: `6.1.0-9` is before `6.1.0-10`.
fn by_number(a: &str, b: &str) -> Ordering {
    let numbers = |name: &str| -> Vec<u64> {
        name.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
    };
    numbers(a).cmp(&numbers(b))
}

impl Kernel {
    /// Finds the parts in an unpacked package; newer ones have all below `usr`.
    fn unpacked(root: &Path) -> Result<Self> {
        let folder = ["lib/modules", "usr/lib/modules"]
            .map(|path| root.join(path))
            .into_iter()
            .find(|path| path.is_dir());
        let folder = folder.with_context(|| format!("{} holds no modules; remove it", root.display()))?;
        let entry =
            fs::read_dir(&folder)?.next().with_context(|| format!("{} is empty", folder.display()))??;
        let release = entry.file_name().to_string_lossy().into_owned();
        let images = [root.join(format!("boot/vmlinuz-{release}")), entry.path().join("vmlinuz")];
        let image = images.into_iter().find(|image| image.is_file());
        let image = image.with_context(|| format!("{} holds no vmlinuz; remove it", root.display()))?;
        Ok(Self { release, image, modules: entry.path() })
    }

    /// The modules with these names and all that they need, in an order in which they can be loaded. What is
    /// not there as a module is taken to be built in.
    pub(super) fn modules(&self, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        collect(&self.modules, &mut files)?;
        let mut ordered = Vec::new();
        for name in names {
            add(name, &files, &mut ordered)?;
        }
        Ok(ordered)
    }
}

/// Adds a module after those that it depends on.
fn add(name: &str, files: &[PathBuf], ordered: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let Some(file) = files.iter().find(|file| module_name(file).as_deref() == Some(name)) else {
        return Ok(());
    };
    if ordered.iter().any(|(other, _)| other == name) {
        return Ok(());
    }
    let image = read_module(file)?;
    for needed in dependencies(&image) {
        add(&needed, files, ordered)?;
    }
    ordered.push((name.to_owned(), image));
    Ok(())
}

/// All files below a folder.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The kernel's name of a module: files may have a hyphen where that has an underscore.
fn module_name(file: &Path) -> Option<String> {
    let (name, _compression) = file.file_name()?.to_str()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

fn read_module(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|extension| extension == "ko") {
        return fs::read(file).with_context(|| file.display().to_string());
    }
    let mut xz = Command::new("xz");
    let output = xz.arg("-dc").arg(file).stderr(Stdio::inherit()).output().context("starting xz")?;
    ensure!(output.status.success(), "xz cannot unpack {}", file.display());
    Ok(output.stdout)
}

/// The packages have no `modules.dep`, which is made when they are installed; but each module says the same
/// itself, as `depends=a,b` between two zero bytes.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let list = module.iter().skip(at + KEY.len()).copied().take_while(|byte| *byte != 0).collect();
    let list = String::from_utf8(list).unwrap_or_default();
    list.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_found_by_number() {
        let sorted = ["6.12.90+deb13.1", "6.12.115+deb13", "6.12.115+deb13.1", "6.12.117+deb13"];
        let mut names = [sorted[3], sorted[1], sorted[0], sorted[2]];
        names.sort_by(|a, b| by_number(a, b));
        assert_eq!(names, sorted);
    }

    #[test]
    fn a_module_names_what_it_needs() {
        assert_eq!(
            dependencies(b"\x7fELF\0license=GPL\0depends=inet_diag,nf-core\0retpoline=Y\0"),
            ["inet_diag", "nf_core"]
        );
        assert!(dependencies(b"\0depends=\0name=tun\0").is_empty());
    }

    #[test]
    fn a_module_is_known_by_its_own_name() {
        assert_eq!(module_name(Path::new("/x/nf-core.ko.xz")).as_deref(), Some("nf_core"));
        assert_eq!(module_name(Path::new("/x/modules.order")), None);
    }
}
