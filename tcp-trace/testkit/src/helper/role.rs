//! Inside a helper process: which role, with what arguments, and how it speaks.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use super::line::Line;
use super::{ROLE_VARIABLE, burst, client, crowd, heir, owners, server};

type Role = fn(&Line) -> io::Result<()>;

/// The roles. To add one: a function and its line here, its words in the module's documentation.
const ROLES: &[(&str, Role)] = &[
    ("burst", burst::run),
    ("client", client::run),
    ("crowd", crowd::run),
    ("heir", heir::run),
    ("leaky-server", |arguments| server::run(arguments, server::OnEof::Keep)),
    ("owners-client", owners::run_client),
    ("owners-server", owners::run_server),
    ("server", |arguments| server::run(arguments, server::OnEof::Close)),
];

/// Plays the role if this process was started by [`super::Helper::spawn`]; `None` in any other process.
///
/// Call it first in `main`, before threads are started, and return its code.
#[must_use]
pub fn run_if_helper() -> Option<ExitCode> {
    let role = std::env::var(ROLE_VARIABLE).ok()?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let arguments = Line::parse(&format!("{role} {}", words.join(" ")));
    match play(&role, &arguments) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            // If the parent is gone as well there is nobody left to tell.
            let _ = say("error", &[("text", &format!("{error:?}"))]);
            Some(ExitCode::FAILURE)
        }
    }
}

fn play(role: &str, arguments: &Line) -> io::Result<()> {
    let comm: String = arguments.get("comm").unwrap_or(role).chars().take(15).collect();
    rustix::thread::set_name(&std::ffi::CString::new(comm)?)?;
    let Some((_, run)) = ROLES.iter().find(|(name, _)| *name == role) else {
        let names: Vec<&str> = ROLES.iter().map(|(name, _)| *name).collect();
        return Err(io::Error::other(format!("no role {role:?}; there are {names:?}")));
    };
    run(arguments)
}

/// Says `verb key=value …` to the parent.
pub(super) fn say(verb: &str, fields: &[(&str, &dyn Display)]) -> io::Result<()> {
    let mut text = verb.to_owned();
    for (key, value) in fields {
        text += &format!(" {key}={value}");
    }
    text.push('\n');
    // One write for each line: stdout is line buffered.
    io::stdout().lock().write_all(text.as_bytes())
}
