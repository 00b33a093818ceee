//! Colours by meaning. Nothing is told by colour alone: each meaning has a word or a mark as well.
//!
//! The colours of 256 are those of Okabe and Ito, which people with any of the usual colour blindnesses tell apart. With
//! 16 the terminal's own theme decides; with none (`NO_COLOR`, or a terminal that has none) there is weight only.

use ratatui::style::{Color, Modifier, Style};
use tcp_trace_core::findings::Severity;

/// How many colours there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// None.
    None,
    /// Those of every terminal.
    Sixteen,
    /// Those of nearly every one.
    #[default]
    Many,
}

/// What a text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// A text like any other.
    Plain,
    /// Less important: labels, what is 0.
    Dim,
    /// More important.
    Strong,
    /// A title.
    Title,
    /// Traffic that flows as it should.
    Flow,
    /// Worth knowing.
    Info,
    /// Something is wrong.
    Warning,
    /// Connections fail.
    Critical,
    /// A key that can be pressed.
    Key,
}

/// Styles for tones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Palette {
    /// How many colours.
    pub depth: Depth,
}

impl Depth {
    /// What the environment says; `look` finds a variable.
    pub fn detect(look: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| look(name).filter(|value| !value.is_empty());
        let term = set("TERM").unwrap_or_default();
        if set("NO_COLOR").is_some() || matches!(term.as_str(), "dumb" | "vt100" | "vt220") {
            Self::None
        } else if set("COLORTERM").is_some() || term.contains("256color") || term.contains("direct") {
            Self::Many
        } else {
            Self::Sixteen
        }
    }
}

impl Palette {
    /// The style of a tone.
    #[must_use]
    pub fn style(self, tone: Tone) -> Style {
        let plain = Style::new();
        let (weight, color) = match (tone, self.depth) {
            (Tone::Plain, _) => return plain,
            (Tone::Dim, Depth::Many) => return plain.fg(Color::Indexed(245)),
            (Tone::Dim, Depth::Sixteen) => return plain.fg(Color::DarkGray),
            (Tone::Dim, Depth::None) => return plain,
            (Tone::Strong, _) => return plain.add_modifier(Modifier::BOLD),
            (Tone::Title, Depth::Many) => (Modifier::BOLD, Color::Indexed(74)),
            (Tone::Title, _) => (Modifier::BOLD, Color::Cyan),
            (Tone::Flow, Depth::Many) => (Modifier::empty(), Color::Indexed(74)),
            (Tone::Flow, _) => (Modifier::empty(), Color::Cyan),
            (Tone::Info, Depth::Many) => (Modifier::empty(), Color::Indexed(74)),
            (Tone::Info, _) => (Modifier::empty(), Color::Cyan),
            (Tone::Warning, Depth::Many) => (Modifier::BOLD, Color::Indexed(214)),
            (Tone::Warning, _) => (Modifier::BOLD, Color::Yellow),
            (Tone::Critical, Depth::Many) => (Modifier::BOLD, Color::Indexed(202)),
            (Tone::Critical, _) => (Modifier::BOLD, Color::LightRed),
            (Tone::Key, _) => return plain.add_modifier(Modifier::BOLD),
        };
        let styled = plain.add_modifier(weight);
        if self.depth == Depth::None { styled } else { styled.fg(color) }
    }

    /// The selected row.
    #[must_use]
    pub fn selected(self) -> Style {
        match self.depth {
            Depth::Many => Style::new().bg(Color::Indexed(238)).add_modifier(Modifier::BOLD),
            // Of one colour, so that it is one bar.
            _ => Style::new().fg(Color::Reset).add_modifier(Modifier::REVERSED),
        }
    }

    /// A filled box.
    #[must_use]
    pub fn filled(self, tone: Tone) -> Style {
        match (tone, self.depth) {
            (Tone::Dim | Tone::Plain, Depth::Many) => {
                Style::new().fg(Color::Indexed(248)).bg(Color::Indexed(236))
            }
            (Tone::Flow | Tone::Info, Depth::Many) => {
                Style::new().fg(Color::Indexed(255)).bg(Color::Indexed(24)).add_modifier(Modifier::BOLD)
            }
            (Tone::Dim | Tone::Plain, _) => self.style(tone),
            _ => self.style(tone).add_modifier(Modifier::REVERSED),
        }
    }
}

/// The tone of a finding.
#[must_use]
pub fn severity(severity: Severity) -> Tone {
    match severity {
        Severity::Info => Tone::Info,
        Severity::Warning => Tone::Warning,
        Severity::Critical => Tone::Critical,
    }
}

/// The mark of a finding.
#[must_use]
pub fn sign(tone: Tone) -> &'static str {
    match tone {
        Tone::Info => "●",
        Tone::Warning => "▲",
        Tone::Critical => "✖",
        _ => " ",
    }
}

/// The mark and word of a finding.
#[must_use]
pub fn mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "● info",
        Severity::Warning => "▲ WARNING",
        Severity::Critical => "✖ CRITICAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides() {
        let depth = |pairs: &[(&str, &str)]| {
            Depth::detect(|name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(depth(&[("TERM", "xterm-256color")]), Depth::Many);
        assert_eq!(depth(&[("TERM", "linux")]), Depth::Sixteen);
        assert_eq!(depth(&[("TERM", "xterm-256color"), ("NO_COLOR", "1")]), Depth::None);
        assert_eq!(depth(&[("TERM", "xterm-256color"), ("NO_COLOR", "")]), Depth::Many);
    }

    #[test]
    fn without_colours_there_are_none() {
        let none = Palette { depth: Depth::None };
        for tone in [Tone::Dim, Tone::Title, Tone::Flow, Tone::Info, Tone::Warning, Tone::Critical] {
            assert_eq!(none.style(tone).fg, None, "{tone:?}");
        }
    }
}
