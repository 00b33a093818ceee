//! bpf-linker: whether it is there, whether it starts, and which LLVM is inside.

use std::{env, fmt, fs, path::PathBuf, process::Command};

use super::toolchain::Missing;

/// The program's name, which is also the name of its crate.
pub(crate) const NAME: &str = "bpf-linker";

/// A version of LLVM; patch levels read each other's bitcode.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Llvm {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// A linker that starts.
#[derive(Debug)]
pub(crate) struct Linker {
    pub(crate) version: String,
    /// `None` if the program does not show it; it is then taken to be new enough.
    pub(crate) llvm: Option<Llvm>,
}

impl Linker {
    /// The linker that the compiler will find.
    pub(crate) fn find() -> Result<Self, Missing> {
        let program = on_path().ok_or(Missing::Linker)?;
        let output = Command::new(&program).arg("--version").output();
        let output = output.map_err(|error| Missing::LinkerBroken(error.to_string()))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(Missing::LinkerBroken(stderr.trim().to_owned()));
        }
        let stdout = String::from_utf8_lossy(&output.stdout);
        let version = stdout.split_whitespace().nth(1).unwrap_or("of unknown version").to_owned();
        let llvm = fs::read(&program).ok().and_then(|binary| llvm_inside(&binary));
        Ok(Self { version, llvm })
    }
}

fn on_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(NAME)).find(|program| program.is_file())
}

/// bpf-linker has no option that tells its LLVM, but the name of the shared library it loads does
/// (`libLLVM.so.22.1`, `libLLVM-21.so`), and so does the mark that LLVM puts into bitcode (`LLVM22.1.8`).
fn llvm_inside(binary: &[u8]) -> Option<Llvm> {
    const MARK: &[u8] = b"LLVM";
    const LONGEST: usize = 16;
    binary.windows(MARK.len() + LONGEST).filter_map(|window| window.strip_prefix(MARK)).find_map(|rest| {
        let rest = String::from_utf8_lossy(rest);
        Llvm::parse(rest.strip_prefix(".so.").or_else(|| rest.strip_prefix('-')).unwrap_or(&rest))
    })
}

impl Llvm {
    /// Reads `22.1.8`, `22.1` or `22`, whatever follows.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().ok());
        let major = numbers.next()??;
        Some(Self { major, minor: numbers.next().flatten().unwrap_or(0) })
    }
}

impl fmt::Display for Llvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor } = self;
        write!(f, "LLVM {major}.{minor}")
    }
}

impl fmt::Display for Linker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.llvm {
            Some(llvm) => write!(f, "{NAME} {} ({llvm})", self.version),
            None => write!(f, "{NAME} {}", self.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_is_found_in_either_kind_of_binary() {
        let check = |text: &str, expected: Option<(u32, u32)>| {
            let binary = format!("\0\x7f{text}\0the rest of the file is longer than a name\0");
            let expected = expected.map(|(major, minor)| Llvm { major, minor });
            assert_eq!(llvm_inside(binary.as_bytes()), expected, "{text}");
        };
        check("libLLVM.so.22.1", Some((22, 1)));
        check("libLLVM-21.so", Some((21, 0)));
        check("LLVM command line\0LLVM23.0.1git", Some((23, 0)));
        check("LLVM issued diagnostic", None);
    }
}
