//! Hashes of the style and the script of HTML reports, as the page's own Content-Security-Policy names them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Where they are, in the package.
const FOLDER: &str = "src/sink/html";
/// Variables, and the files whose texts follow each other in the page.
const PARTS: [(&str, &[&str]); 2] =
    [("TCP_TRACE_PAGE_CSS_SHA256", &["diagram.css", "page.css"]), ("TCP_TRACE_PAGE_JS_SHA256", &["page.js"])];

/// Tells the compiler the hashes.
pub(crate) fn hashes(package: &Path) -> Result<()> {
    for (variable, files) in PARTS {
        let mut hasher = Sha256::new();
        for file in files {
            let path = package.join(FOLDER).join(file);
            println!("cargo:rerun-if-changed={}", path.display());
            hasher.update(fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
        }
        println!("cargo:rustc-env={variable}={}", base64(&hasher.finalize()));
    }
    Ok(())
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        let digit = |at: usize| match at <= group.len() {
            true => char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]),
            false => '=',
        };
        [0, 1, 2, 3].map(digit)
    };
    bytes.chunks(3).flat_map(group).collect()
}
