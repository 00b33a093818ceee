//! Who may ask, and by which certificate the agent is known. Both come from files, and are read again with the configuration.

use std::{fmt, fs::File, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderValue},
};
use rustix::fs::{Mode, OFlags, open};
use subtle::ConstantTimeEq as _;
use tokio_rustls::TlsAcceptor;

use super::tls;
use crate::{cli::config::Http, shown::shown};

/// No certificate, key or list of tokens is larger.
const LARGEST: u64 = 1 << 20;
/// A shorter token could be guessed.
const SHORTEST: usize = 16;
/// The most tokens that are valid at a time, each of which is compared with what is given.
const MOST: usize = 16;

/// Who may ask, and how.
#[derive(Clone, Default)]
pub struct Access {
    pub(super) tls: Option<TlsAcceptor>,
    tokens: Option<Tokens>,
}

/// Whoever has one of these may read the metrics.
#[derive(Clone)]
struct Tokens(Vec<Vec<u8>>);

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no token.
    Missing,
    /// There is another one, or something else.
    Wrong,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, tokens } = self;
        write!(f, "Access {{ tls: {}, tokens: {} }}", tls.is_some(), tokens.is_some())
    }
}

impl Access {
    /// Reads the files. What is not quite wrong, such as a certificate that has expired, is only warned of: the rest of the
    /// agent works without it.
    ///
    /// # Errors
    ///
    /// If one is missing, is not what it should be, or can be read by everybody though it is secret.
    pub fn read(http: &Http) -> Result<Self> {
        let Http { listen, allow_remote: _, certificate, key, token_file } = http;
        let tls = certificate.as_deref().zip(key.as_deref());
        let tls = tls.map(|(certificate, key)| tls::acceptor(certificate, key)).transpose()?;
        let tokens = token_file.as_deref().map(Tokens::read).transpose()?;
        if tokens.is_some() && tls.is_none() && listen.is_some_and(|listen| !listen.ip().is_loopback()) {
            log::warn!(
                "http.token_file: without TLS anybody on the way can read the token; set http.certificate and http.key"
            );
        }
        Ok(Self { tls, tokens })
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether a token is asked for.
    #[must_use]
    pub fn wants_token(&self) -> bool {
        self.tokens.is_some()
    }

    /// Whether this is a request of somebody who may read the metrics.
    pub(super) fn admits(&self, headers: &HeaderMap) -> std::result::Result<(), Refusal> {
        let Some(tokens) = &self.tokens else { return Ok(()) };
        let mut given = headers.get_all(AUTHORIZATION).iter();
        match (given.next().map(HeaderValue::as_bytes), given.next()) {
            (None, _) => Err(Refusal::Missing),
            (Some(given), None) if bearer(given).is_some_and(|token| tokens.have(token)) => Ok(()),
            (Some(_), _) => Err(Refusal::Wrong),
        }
    }
}

/// The token of `Bearer TOKEN` (RFC 6750, 2.1; the scheme in any case: RFC 9110, 11.1).
fn bearer(given: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = given.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

impl Tokens {
    fn read(path: &Path) -> Result<Self> {
        let bytes = secret("http.token_file", path)?;
        Self::parse(&bytes).with_context(|| format!("http.token_file: {}", shown(path)))
    }

    /// One a line.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let lines =
            bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let tokens: Vec<_> = lines.map(<[u8]>::to_vec).collect();
        ensure!(!tokens.is_empty(), "there is no token in it; make one with `openssl rand -hex 32`");
        ensure!(tokens.len() <= MOST, "there are more than {MOST} lines in it; give one token a line");
        for (line, token) in (1..).zip(&tokens) {
            ensure!(
                token.iter().all(u8::is_ascii_graphic),
                "token {line}: it has blanks or other than ASCII characters in it; make one with `openssl rand -hex 32`"
            );
            ensure!(
                token.len() >= SHORTEST,
                "token {line}: it is shorter than {SHORTEST} characters; make one with `openssl rand -hex 32`"
            );
        }
        Ok(Self(tokens))
    }

    /// Each is compared to its end, so that how long it takes says nothing of how much of it was right.
    fn have(&self, given: &[u8]) -> bool {
        let Self(tokens) = self;
        tokens.iter().fold(false, |have, token| have | bool::from(token.ct_eq(given)))
    }
}

/// Reads a file that only this user and a group may read. Whoever else can read it is as good as whoever it is for.
pub(super) fn secret(key: &str, path: &Path) -> Result<Vec<u8>> {
    let file = regular(key, path)?;
    let mode = file.metadata()?.mode() & 0o777;
    if mode & 0o027 != 0 {
        bail!(
            "{key}: {}: its mode {mode:04o} lets others read or change it; run `chmod 0640` on it, or 0600 (Kubernetes: \
             `defaultMode: 0440` of the volume)",
            shown(path)
        );
    }
    contents(key, path, file)
}

/// Reads a file.
pub(super) fn open_file(key: &str, path: &Path) -> Result<Vec<u8>> {
    contents(key, path, regular(key, path)?)
}

/// Opens a file, and does not wait for ever at a pipe that nobody writes to.
fn regular(key: &str, path: &Path) -> Result<File> {
    let at = || format!("{key}: {}", shown(path));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open(path, flags, Mode::empty()).with_context(at)?);
    ensure!(file.metadata().with_context(at)?.is_file(), "{}: it is no regular file", at());
    Ok(file)
}

fn contents(key: &str, path: &Path, file: File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let at = || format!("{key}: {}", shown(path));
    file.take(LARGEST + 1).read_to_end(&mut bytes).with_context(at)?;
    ensure!(bytes.len() as u64 <= LARGEST, "{}: it is larger than {LARGEST} bytes", at());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef";
    const TWO: &str = "fedcba9876543210";

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn only_one_right_token_opens() {
        let tokens = Tokens::parse(format!("{ONE}\r\n\n  {TWO}\n").as_bytes()).unwrap();
        let access = Access { tls: None, tokens: Some(tokens) };
        for (given, expected) in [
            (&[][..], Err(Refusal::Missing)),
            (&[&*format!("Bearer {ONE}")], Ok(())),
            (&[&*format!("bearer  {TWO} ")], Ok(())),
            (&[&*format!("Bearer {ONE}x")], Err(Refusal::Wrong)),
            (&[&*format!("Bearer {}", &ONE[1..])], Err(Refusal::Wrong)),
            (&[&*format!("Bearer {ONE}\n{TWO}").replace('\n', " ")], Err(Refusal::Wrong)),
            (&["Bearer "], Err(Refusal::Wrong)),
            (&["Bearer"], Err(Refusal::Wrong)),
            (&[""], Err(Refusal::Wrong)),
            (&[ONE], Err(Refusal::Wrong)),
            (&[&*format!("Basic {ONE}")], Err(Refusal::Wrong)),
            // Which of two is meant, a proxy may see otherwise than this.
            (&[&*format!("Bearer {ONE}"), &*format!("Bearer {ONE}")], Err(Refusal::Wrong)),
        ] {
            assert_eq!(access.admits(&headers(given)), expected, "{given:?}");
        }
        assert_eq!(Access::default().admits(&headers(&[])), Ok(()));
    }

    #[test]
    fn a_token_that_protects_nothing_is_refused() {
        for (text, why) in [
            ("", "there is no token in it"),
            ("\n \n", "there is no token in it"),
            ("secret\n", "shorter than 16 characters"),
            ("a token of several words\n", "it has blanks"),
            ("0123456789abcdef0123456789abcdeé", "other than ASCII characters"),
            (&*format!("{ONE}\n").repeat(17), "more than 16 lines"),
        ] {
            let error = format!("{:#}", Tokens::parse(text.as_bytes()).err().expect(text));
            assert!(error.contains(why), "{error}");
            assert!(text.len() < 6 || !error.contains(text.trim()), "the error tells the secret: {error}");
        }
    }

    #[test]
    fn nothing_secret_is_in_what_debugging_shows() {
        let access = Access { tls: None, tokens: Some(Tokens::parse(ONE.as_bytes()).unwrap()) };
        assert_eq!(format!("{access:?}"), "Access { tls: false, tokens: true }");
    }
}
