//! Names that others have chosen, in every output: nothing in them is more than a name. Each output is held against the same one
//! with a harmless name: it has as many lines, fields, tags and entries.

mod others;
mod sinks;

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, path::PathBuf};

use serde_json::Value;

use crate::{
    poison::{HOSTILE, MARK, assert_harmless, comm, endless, poisoned, text},
    schema::Schema,
    tracer::{Recording, Run, data, program, replay},
};

/// A name that wants nothing, to compare with.
const HARMLESS: &[u8] = b"name";

fn recording(what: &str, name: &[u8]) -> Recording {
    Recording::new(&format!("names-{}", what.replace(' ', "-")), &poisoned(&data("incident.tctrace"), name))
}

/// Runs `check` with each name, and with its recording.
fn each(of: &str, mut check: impl FnMut(&str, &[u8], &Recording)) {
    let endless = endless();
    for (what, name) in HOSTILE.iter().copied().chain([("long", &*endless)]) {
        check(what, name, &recording(&format!("{of}-{what}"), name));
    }
}

fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

/// The fields of a line of RFC 4180; `None` if it is none.
fn fields(line: &str) -> Option<Vec<String>> {
    let (mut fields, mut rest) = (Vec::new(), line);
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (!rest[..end].contains('"')).then_some((rest[..end].to_owned(), &rest[end..]))?
            }
            Some(quoted) => {
                let mut field = String::new();
                let mut left = quoted;
                loop {
                    let (before, after) = left.split_once('"')?;
                    field += before;
                    match after.strip_prefix('"') {
                        Some(more) => (field, left) = (field + "\"", more),
                        None => break (field, after),
                    }
                }
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return after.is_empty().then_some(fields),
        }
    }
}

#[test]
fn tables_keep_their_lines() {
    let harmless = recording("tables", HARMLESS);
    for command in ["stream", "stream -w -T -t", "stream --closed", "stream --closed -w"] {
        let expected = replay(&harmless, command).good();
        each("tables", |what, _, recording| {
            let run = replay(recording, command);
            assert_harmless(&format!("{command}, {what}: stderr"), &run.stderr);
            let table = run.good();
            assert_harmless(&format!("{command}, {what}"), &table);
            assert_eq!(lines(&table), lines(&expected), "{command}, {what}: {table}");
            assert!(table.contains(MARK), "{command}, {what}: {table}");
        });
    }
}

#[test]
fn a_report_has_the_sections_that_it_has() {
    let headings = |table: &str| -> Vec<String> {
        let plain = |line: &&str| !line.starts_with(' ') && !line.is_empty() && !line.contains(MARK);
        table.lines().filter(plain).map(str::to_owned).collect()
    };
    let expected = headings(&replay(&recording("report", HARMLESS), "report").good());
    assert!(expected.len() > 12, "{expected:#?}");
    each("report", |what, _, recording| {
        let table = replay(recording, "report").good();
        assert_harmless(what, &table);
        assert_eq!(headings(&table), expected, "{what}: {table}");
        assert!(table.contains(MARK), "{what}: {table}");
    });
}

#[test]
fn comma_separated_values_have_as_many_fields_as_their_heads() {
    for command in ["stream -s", "stream -s -T -t", "stream --closed -s"] {
        each("csv", |what, _, recording| {
            let table = replay(recording, command).good();
            assert_harmless(what, &table);
            let rows: Vec<_> =
                table.lines().map(|line| fields(line).unwrap_or_else(|| panic!("{line}"))).collect();
            assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{command}, {what}: {table}");
            let place = rows[0].iter().position(|field| field == "COMM").expect("a column");
            assert!(rows.iter().any(|row| row[place].starts_with(MARK)), "{command}, {what}: {table}");
        });
    }
}

#[test]
fn json_has_the_very_names_and_disturbs_nobody() {
    let names = |value: &Value, key: &str| {
        let mut found = Vec::new();
        collect(value, key, &mut found);
        found
    };
    each("json", |what, name, recording| {
        for (command, schema) in [
            ("stream --json", Schema::of_events()),
            ("stream --closed --json", Schema::of_closed()),
            ("report --json", Schema::of_reports()),
        ] {
            let output = replay(recording, command).good();
            assert_harmless(&format!("{command}, {what}"), &output);
            let documents = Value::Array(schema.documents(&output));
            let field = comm(name);
            let end = field.iter().position(|byte| *byte == 0).unwrap();
            let kept = String::from_utf8_lossy(&field[..end]).into_owned();
            let comms = names(&documents, "comm");
            assert!(comms.contains(&kept), "{command}, {what}: {comms:?}");
            if command == "report --json" {
                assert_eq!(names(&documents, "user"), vec![text(name); names(&documents, "user").len()]);
                assert!(names(&documents, "exe").contains(&text(name)), "{what}");
                assert!(names(&documents, "function").contains(&text(name)), "{what}: stacks");
            }
        }
    });
}

/// The texts with that key, however deep.
fn collect(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, key, found));
        }
        _ => {}
    }
}

/// The tags of a page in order, with the names of their attributes; `None` if something in it is no text and no tag.
fn tags(page: &str) -> Option<Vec<String>> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once('<') {
        // Attributes are in quotation marks, and may have a `>` in them.
        let (mut end, mut quoted) = (None, false);
        for (at, c) in after.char_indices() {
            match c {
                '"' => quoted = !quoted,
                '>' if !quoted => {
                    end = Some(at);
                    break;
                }
                '<' => return None,
                _ => {}
            }
        }
        let (tag, next) = after.split_at(end?);
        let attributes = tag.split('"').step_by(2).collect::<Vec<_>>().join("");
        tags.push(attributes);
        rest = &next[1..];
        // What stands in these is no markup.
        for raw in ["script", "style"] {
            if tags.last().is_some_and(|tag| tag.starts_with(raw)) {
                rest = &rest[rest.find(&format!("</{raw}>"))?..];
            }
        }
    }
    Some(tags)
}

#[test]
fn pages_and_pictures_have_the_tags_that_they_have() {
    let folder = Folder::new("pages");
    let draw = |recording: &Recording| {
        let [page, picture] = ["page.html", "picture.svg"].map(|name| folder.0.join(name));
        let command = format!("report --html {} --svg {}", page.display(), picture.display());
        replay(recording, &command).good();
        [page, picture].map(|path| fs::read_to_string(path).expect("UTF-8"))
    };
    let expected = draw(&recording("pages", HARMLESS)).map(|page| tags(&page).expect("tags"));
    assert!(expected[0].len() > 500, "{}", expected[0].len());
    each("pages", |what, _, recording| {
        let pages = draw(recording);
        for (page, expected) in pages.iter().zip(&expected) {
            assert_harmless(what, page);
            let tags = tags(page).unwrap_or_else(|| panic!("{what}: no tags"));
            let differs = tags.iter().zip(expected).position(|(tag, expected)| tag != expected);
            let differs = differs.map(|at| (&tags[at], &expected[at]));
            assert!(tags.len() == expected.len() && differs.is_none(), "{what}: {differs:?}");
            assert!(!page.contains("<script>alert"), "{what}");
        }
        assert!(pages[0].contains(MARK), "{what}");
    });
}

/// A folder for the length of a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        // Short: a socket's path has 107 bytes.
        let path = std::env::temp_dir().join(format!("tt-names-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// As TOML has it.
fn toml_string(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

/// Runs it with a name as an argument, as it is.
fn given(arguments: &[&str], name: &OsStr) -> Run {
    let mut command = program(env!("CARGO_BIN_EXE_tcp-trace"));
    for argument in arguments {
        match argument.split_once("{}") {
            Some((before, _)) => {
                let mut whole = std::ffi::OsString::from(before);
                whole.push(name);
                command.arg(whole);
            }
            None => _ = command.arg(argument),
        }
    }
    command.output().expect("the binary runs").into()
}

#[test]
fn what_was_given_on_the_command_line_is_quoted_harmlessly() {
    let folder = Folder::new("given");
    let config = folder.0.join("agent.toml");
    for (what, name) in HOSTILE.iter().filter(|(what, _)| *what != "nul") {
        let name = [MARK.as_bytes(), name].concat();
        let name = OsStr::from_bytes(&name);
        let is_path = !name.as_bytes().contains(&b'/');
        let incident = data("incident.tctrace");
        let incident = incident.to_str().expect("UTF-8");
        for arguments in [
            &["report", "--from", "/nowhere/{}"][..],
            &["report", "--from", incident, "--html", "/nowhere/{}"],
            &["report", "--from", incident, "--config", "/nowhere/{}"],
            &["agent", "--check", "--config", "/nowhere/{}"],
            &["agent", "--check", "--labels", "{}"],
            &["agent", "--from", "/nowhere/{}"],
            &["report", "--from", incident, "--netns", "{}"],
            &["report", "--from", incident, "--cgroup", "{}"],
            &["report", "--from", incident, "--container", "{}"],
            &["snapshot", "--container", "{}"],
            &["snapshot", "--state", "{}"],
            &["stream", "--from", incident, "-L", "{}"],
            &["stream", "--from", incident, "--{}"],
            &["report", "--from", incident, "--interval", "{}"],
            &["explain", "{}"],
            &["{}"],
            &["kill", "--close-wait", "--pid", "1", "--peer", "{}"],
        ] {
            let run = given(arguments, name);
            assert_harmless(&format!("{arguments:?}, {what}"), &(run.stdout + &run.stderr));
            assert!(
                run.code.is_some_and(|code| code > 0) || arguments.contains(&"--labels"),
                "{arguments:?}, {what}: {:?}",
                run.code
            );
            if arguments.iter().any(|argument| argument.contains("nowhere")) && is_path {
                assert!(run.stderr.contains(&format!("/nowhere/{MARK}")), "{arguments:?}: {}", run.stderr);
                let lines = lines(&run.stderr);
                assert_eq!(lines, 1, "{arguments:?}, {what}: {}", run.stderr);
            }
        }
        // Keys and values of a file.
        let shown = toml_string(&String::from_utf8_lossy(name.as_bytes()));
        for text in [
            format!("{shown} = 1\n"),
            format!("[sinks.{shown}.stdout]\n"),
            format!("[http]\nlisten = {shown}\n"),
            format!("[http]\ntoken_file = {shown}\n"),
            format!("[source]\nnetns = {shown}\n"),
            format!("[sinks.a.filter]\nstates = [{shown}]\n"),
            format!("[sinks.a.file]\npath = {shown}\nmode = {shown}\n"),
            format!("[sinks.a.syslog]\naddress = {shown}\n"),
        ] {
            fs::write(&config, &text).expect("a file");
            let run = given(&["agent", "--check", "--config", config.to_str().expect("UTF-8")], name);
            assert_harmless(&format!("{text:?}"), &run.stderr);
            assert!(run.code.is_some_and(|code| code > 0), "{text:?}: {}", run.stderr);
        }
    }
}
