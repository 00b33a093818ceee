//! The configuration file: TOML, of which every key has a default.

use std::{fs, path::Path};

use serde::Deserialize;
use tcp_trace_core::{findings::Thresholds, process::printable};

use crate::exit::Usage;

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[findings]`: from when on something is one.
    pub findings: Thresholds,
}

/// Reads a file.
///
/// # Errors
///
/// If it cannot be read, or has a key or a value that means nothing: one that is ignored would be a setting that
/// somebody believes in.
pub fn read(path: &Path) -> Result<Config, Usage> {
    let text = fs::read_to_string(path).map_err(|error| {
        Usage(format!("--config {}: {error}; give a readable file of TOML", path.display()))
    })?;
    parse(&text).map_err(|error| Usage(format!("--config {}: {error}", path.display())))
}

fn parse(text: &str) -> Result<Config, String> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
        let what = printable(error.message()).into_owned();
        format!("line {line}: {what}; correct it or leave it out, docs/findings.md has every key, its unit and its default")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_has_its_default() {
        assert_eq!(parse("").unwrap(), Config::default());
        let text = "[findings]\nquiet_reports = 3\n[findings.close_wait_leak]\nmin_sockets = 2\n";
        let config = parse(text).unwrap();
        assert_eq!(config.findings.close_wait_leak.min_sockets.get(), 2);
        assert_eq!(config.findings.quiet_reports.get(), 3);
        assert_eq!(config.findings.close_share, Thresholds::default().close_share);
    }

    #[test]
    fn errors_name_the_line_and_the_remedy() {
        for (text, line, what) in [
            ("[finding]\n", "line 1: ", "unknown field `finding`, expected `findings`"),
            (
                "\n[findings.close_wait_leak]\nmin_sokets = 2\n",
                "line 3: ",
                "unknown field `min_sokets`, expected",
            ),
            ("[findings]\nclose_share = 2.0\n", "line 2: ", "2 is no share; give a number from 0 to 1"),
            ("[findings.close_wait_leak]\nmin_sockets = 0\n", "line 2: ", "expected a nonzero u64"),
            ("[findings]\nclose_share\n", "line 2: ", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(line) && error.contains(what), "{text}: {error}");
            assert!(error.ends_with("docs/findings.md has every key, its unit and its default"), "{error}");
        }
    }
}
