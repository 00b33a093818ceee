//! Numbers and names for cells that are narrow. What is not known is `?`, what does not apply `–`; neither is ever 0.

use tcp_trace_core::{
    endpoint::Endpoint,
    process::{Comm, printable},
    report::{ProcessIdentity, Queue},
    survey::ContainerFacts,
    time::WallTime,
};

pub(super) use crate::sink::units::{count, duration};

/// What is not known.
pub(super) const UNKNOWN: &str = "?";
/// What there is none of.
pub(super) const NONE: &str = "–";

/// A count that may be unknown.
pub(super) fn maybe(number: Option<u64>) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), count)
}

/// A duration that may be unknown.
pub(super) fn time(nanoseconds: Option<u64>) -> String {
    nanoseconds.map_or_else(|| UNKNOWN.to_owned(), |ns| duration(Some(ns)))
}

/// An age, marked where it may be longer.
pub(super) fn age(nanoseconds: Option<u64>, exact: Option<bool>) -> String {
    format!("{}{}", if exact == Some(false) { "≥" } else { "" }, time(nanoseconds))
}

/// At most five characters: `0`, `0.4`, `12`, `980`, `1.2k`, `52.1k`, `1.2M`.
pub(super) fn short(number: f64) -> String {
    match number {
        n if n <= 0.0 => "0".to_owned(),
        n if n < 9.95 && n.fract() > 0.049 && n.fract() < 0.951 => format!("{n:.1}"),
        n if n < 999.5 => format!("{n:.0}"),
        n if n < 99_950.0 => format!("{:.1}k", n / 1e3),
        n if n < 999_500.0 => format!("{:.0}k", n / 1e3),
        n if n < 99_950_000.0 => format!("{:.1}M", n / 1e6),
        n => format!("{:.0}M", n / 1e6),
    }
}

/// A rate.
pub(super) fn per_second(number: f64) -> String {
    format!("{}/s", short(number))
}

/// `nginx (1234)`, or that the owner is not known.
pub(super) fn who(process: Option<&ProcessIdentity>) -> String {
    let Some(process) = process else { return "(unknown owners)".to_owned() };
    let name = process.comm.as_ref().map_or_else(|| UNKNOWN.to_owned(), Comm::to_string);
    format!("{name} ({})", process.pid)
}

/// A name for a container: its own, its pod's, or the beginning of its id.
pub(super) fn container(container: &ContainerFacts) -> String {
    let ContainerFacts { id, name, pod, .. } = container;
    let short = || id.chars().take(24).collect::<String>();
    let name = match (pod, name) {
        (Some(pod), Some(name)) => format!("{pod}/{name}"),
        (Some(only), None) | (None, Some(only)) => only.clone(),
        (None, None) => short(),
    };
    printable(&name).into_owned()
}

/// An end that a table had no room for is `(others)`.
pub(super) fn end(end: Option<Endpoint>) -> String {
    end.map_or_else(|| "(others)".to_owned(), |end| end.to_string())
}

/// `12/128`, or that nobody has looked.
pub(super) fn queue(queue: Option<Queue>) -> String {
    queue.map_or_else(
        || UNKNOWN.to_owned(),
        |Queue { length, limit }| format!("{}/{}", short(length as f64), short(limit as f64)),
    )
}

/// `18:20:27`, UTC.
pub(super) fn clock(time: WallTime) -> String {
    time.timestamp().strftime("%H:%M:%S").to_string()
}

/// Lines of at most `width` columns, broken between words where they allow it.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line, mut length) = (Vec::new(), String::new(), 0);
    for word in text.split(' ') {
        let word: String = if word.chars().count() > width { cut(word, width) } else { word.to_owned() };
        let letters = word.chars().count();
        if length > 0 && length + 1 + letters > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        line += &word;
        length += letters;
    }
    lines.push(line);
    lines
}

/// The text, with `…` for what is beyond so many columns.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { kept } else { kept + "…" }
}

/// A bar of so many columns for a share, in eighths; a share above nothing has a mark.
pub(super) fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [&str; 9] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];
    let eighths = (share.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    let partial = EIGHTHS.get(eighths % 8).copied().unwrap_or_default();
    let filled = "█".repeat(eighths / 8) + partial;
    format!("{filled:·<width$}")
}

/// The last values as columns of blocks, newest on the right; the highest is as high as can be. What is not known is blank.
pub(super) fn sparkline(values: impl DoubleEndedIterator<Item = Option<f64>>, width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values: Vec<_> = values.rev().take(width).collect();
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    let block = |value: &Option<f64>| match *value {
        None => ' ',
        Some(value) if value <= 0.0 || most <= 0.0 => '▁',
        Some(value) => BLOCKS.get((value / most * 7.0).round() as usize).copied().unwrap_or('█'),
    };
    let line: String = values.iter().rev().map(block).collect();
    format!("{line:>width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_at_most_five_characters() {
        let texts =
            [0.0, 0.4, 3.0, 12.4, 999.4, 1_234.0, 52_100.0, 99_960.0, 999_600.0, 123_456_789.0].map(short);
        assert_eq!(texts, ["0", "0.4", "3", "12", "999", "1.2k", "52.1k", "100k", "1.0M", "123M"]);
    }

    #[test]
    fn what_is_not_known_is_never_nought() {
        assert_eq!((maybe(None), time(None), queue(None)), ("?".into(), "?".into(), "?".into()));
        assert_eq!(sparkline([Some(0.0), None, Some(8.0)].into_iter(), 4), " ▁ █");
    }

    #[test]
    fn bars_show_that_there_is_something() {
        assert_eq!(bar(0.0, 4), "····");
        assert_eq!(bar(0.001, 4), "▏···");
        assert_eq!(bar(0.5, 4), "██··");
        assert_eq!(bar(7.0, 4), "████");
    }

    #[test]
    fn prose_is_broken_between_words_and_long_words_are_cut() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("indivisible", 5), ["indi…"]);
        assert_eq!(cut("abc", 3), "abc");
    }
}
