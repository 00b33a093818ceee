//! Numbers for people.

use std::fmt::Write as _;

/// 1234567 → `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A duration in the largest unit that leaves at least one digit before the point; `-` where unknown.
pub(crate) fn duration(nanoseconds: Option<u64>) -> String {
    let Some(ns) = nanoseconds else { return "-".to_owned() };
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match ns {
        0..1_000 => write!(text, "{ns} ns"),
        1_000..1_000_000 => write!(text, "{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => write!(text, "{:.1} ms", ns as f64 / 1e6),
        1_000_000_000..60_000_000_000 => write!(text, "{:.2} s", ns as f64 / 1e9),
        60_000_000_000..3_600_000_000_000 => {
            write!(text, "{}m{:02}s", ns / 60_000_000_000, ns / 1_000_000_000 % 60)
        }
        _ => write!(text, "{}h{:02}m", ns / 3_600_000_000_000, ns / 60_000_000_000 % 60),
    };
    text
}

/// A count that may be unknown.
pub(crate) fn maybe(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), count)
}

/// Lines of at most `width` characters where words allow it, each after `indent`, and all but the first
/// further in.
pub(crate) fn wrapped(text: &str, indent: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut line = indent.to_owned();
    let mut begun = false;
    for word in text.split(' ') {
        if begun && line.chars().count() + 1 + word.chars().count() > width {
            lines += &line;
            lines.push('\n');
            line = format!("{indent}  ");
        } else if begun {
            line.push(' ');
        }
        line += word;
        begun = true;
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        let texts = [0, 999, 1_000, 1_234_567].map(count);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn durations_take_the_unit_that_fits() {
        let texts =
            [None, Some(0), Some(999), Some(1_500), Some(300_315_000), Some(3_300_000_000)].map(duration);
        assert_eq!(texts, ["-", "0 ns", "999 ns", "1.5 µs", "300.3 ms", "3.30 s"]);
        assert_eq!(duration(Some(61_000_000_000)), "1m01s");
        assert_eq!(duration(Some(7_260_000_000_000)), "2h01m");
    }

    #[test]
    fn prose_is_broken_between_words() {
        assert_eq!(wrapped("one two three", "  ", 10), "  one two\n    three\n");
        assert_eq!(wrapped("indivisible", "", 3), "indivisible\n");
    }
}
