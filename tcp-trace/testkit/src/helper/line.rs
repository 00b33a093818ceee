//! A line of the control protocol: `verb key=value …`.

use std::fmt;
use std::io::{self, ErrorKind};
use std::str::FromStr;

/// A parsed line. Values hold no spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    text: String,
}

impl Line {
    /// Never fails: a missing field shows when it is asked for.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self { text: text.trim().to_owned() }
    }

    /// The first word.
    #[must_use]
    pub fn verb(&self) -> &str {
        self.text.split_ascii_whitespace().next().unwrap_or("")
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let fields = self.text.split_ascii_whitespace().skip(1);
        fields
            .filter_map(|field| field.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// The value of `key` as a number, address, ….
    ///
    /// # Errors
    /// `InvalidData` when it is missing or does not parse.
    pub fn value<T: FromStr>(&self, key: &str) -> io::Result<T> {
        self.value_or(key, None)
    }

    /// The value of `key`, or `default` when it is missing.
    ///
    /// # Errors
    /// `InvalidData` when it is missing without a default, or does not parse.
    pub fn value_or<T: FromStr>(&self, key: &str, default: Option<T>) -> io::Result<T> {
        let bad = || io::Error::new(ErrorKind::InvalidData, format!("no usable {key}= in {:?}", self.text));
        match self.get(key) {
            Some(value) => value.parse().map_err(|_unparsed| bad()),
            None => default.ok_or_else(bad),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn fields_are_found_and_parsed() {
        let line = Line::parse("accepted peer=127.0.0.1:99 at_ns=12\n");
        assert_eq!(line.verb(), "accepted");
        assert_eq!(line.value::<SocketAddr>("peer").unwrap(), "127.0.0.1:99".parse().unwrap());
        assert_eq!(line.value::<u64>("at_ns").unwrap(), 12);
        assert_eq!(line.value_or("count", Some(3)).unwrap(), 3);
        assert_eq!(line.value::<u64>("peer").unwrap_err().kind(), ErrorKind::InvalidData);
        assert!(line.value::<u64>("gone").is_err());
    }
}
