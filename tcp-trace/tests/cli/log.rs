//! The documents of an agent: that they are what the schema says, that the schema says nothing else, and that each field of
//! it occurs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tcp_trace_core::log::{Document, FIELDS, LogWriter};

use crate::{
    documents::{documents, origin},
    schema::{Schema, read},
    tracer::assert_golden,
};

fn lines(documents: &[Document]) -> String {
    let (mut writer, mut lines) = (LogWriter::new(&origin()), Vec::new());
    documents.iter().for_each(|document| writer.write(&mut lines, document));
    String::from_utf8(lines).expect("UTF-8")
}

#[test]
fn every_document_is_valid_and_every_documented_field_occurs() {
    let documents = Schema::of_logs().documents(&lines(documents()));
    let schema = read("log.schema.json");
    let mut seen = BTreeSet::new();
    for document in &documents {
        let event = document["event"].as_str().expect("a word");
        let kind = schema["oneOf"].as_array().into_iter().flatten().find_map(|kind| {
            let name = kind["$ref"].as_str()?.strip_prefix("#/$defs/")?;
            (schema["$defs"][name]["properties"]["event"]["const"] == event).then_some(name)
        });
        note(&schema, kind.expect("a kind"), document, &mut seen);
    }
    let mut missing = Vec::new();
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        for key in definition["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            if !seen.contains(&(name.clone(), key.clone())) {
                missing.push(format!("{name}.{key}"));
            }
        }
    }
    assert!(missing.is_empty(), "null, or empty, in all documents: {missing:?}");
}

/// Notes the keys of a definition that have a value here, and those of the definitions that they refer to.
fn note(schema: &Value, name: &str, value: &Value, seen: &mut BTreeSet<(String, String)>) {
    let properties = &schema["$defs"][name]["properties"];
    for (key, value) in value.as_object().into_iter().flatten() {
        let is_something = match value {
            Value::Null => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        };
        if !is_something {
            continue;
        }
        seen.insert((name.to_owned(), key.clone()));
        let property = &properties[key];
        let inner = [&property["$ref"], &property["anyOf"][0]["$ref"], &property["items"]["$ref"]];
        let inner = inner.into_iter().find_map(|inner| inner.as_str()?.strip_prefix("#/$defs/"));
        let Some(inner) = inner else { continue };
        match value {
            Value::Array(items) => items.iter().for_each(|item| note(schema, inner, item, seen)),
            value => note(schema, inner, value, seen),
        }
    }
}

#[test]
fn transitions_and_finished_connections_have_the_keys_of_stream() {
    let log = read("log.schema.json");
    for (kind, file) in [("transition", "event.schema.json"), ("closed", "closed.schema.json")] {
        let keys = |schema: &Value| -> BTreeSet<String> {
            schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
        };
        let own = keys(&log["$defs"][kind]);
        let theirs = keys(&read(file));
        assert!(theirs.is_subset(&own), "{kind}: {:?}", theirs.difference(&own));
        let envelope: BTreeSet<_> =
            ["schema", "severity", "message", "host", "cluster", "labels"].map(str::to_owned).into();
        assert_eq!(own.difference(&theirs).cloned().collect::<BTreeSet<_>>(), envelope);
        for key in theirs.iter().filter(|key| !["time", "event"].contains(&key.as_str())) {
            let reference = &log["$defs"][kind]["properties"][key]["$ref"];
            assert_eq!(reference, &format!("{file}#/properties/{key}"), "{kind}.{key}");
        }
    }
}

#[test]
fn the_schema_of_logs_turns_away_what_is_wrong() {
    let schema = Schema::of_logs();
    let mut kinds = BTreeMap::new();
    for document in schema.documents(&lines(documents())) {
        kinds.insert(document["event"].as_str().unwrap_or_default().to_owned(), document);
    }
    assert_eq!(kinds.len(), 6, "{:?}", kinds.keys());
    for (kind, good) in &kinds {
        let mut extra = good.clone();
        extra["extra"] = Value::Null;
        assert!(!schema.accepts(&extra), "{kind}");
        for (other, _) in kinds.iter().filter(|(other, _)| *other != kind) {
            let mut value = good.clone();
            value["event"] = Value::from(other.as_str());
            assert!(!schema.accepts(&value), "{kind} as {other}");
        }
        for key in good.as_object().into_iter().flatten().map(|(key, _)| key) {
            let mut value = good.clone();
            value.as_object_mut().expect("an object").remove(key);
            assert!(!schema.accepts(&value), "{kind} without {key}");
        }
    }
}

/// The examples of `docs/logs.md`: the first of each kind.
#[test]
fn the_book_shows_what_is_written() {
    let mut first = BTreeMap::new();
    for document in documents() {
        first.entry(document.event()).or_insert(document);
    }
    let lines: String = first.values().map(|document| lines(std::slice::from_ref(*document))).collect();
    assert_golden("log.jsonl", lines.as_bytes());
    let mut messages = String::new();
    for document in documents() {
        messages += &format!("{} {} {}\n", document.severity().name(), document.event(), document.message());
    }
    assert_golden("log-messages.txt", messages.as_bytes());
    let book = include_str!("../../../docs/logs.md");
    for line in lines.lines().filter(|line| !line.contains("tcp.report")) {
        assert!(book.contains(line), "docs/logs.md lacks the example\n{line}");
    }
}

#[test]
fn every_field_is_in_the_book_and_occurs() {
    let book = include_str!("../../../docs/logs.md");
    let seen: BTreeSet<_> = documents().iter().flat_map(Document::fields).map(|(name, _)| name).collect();
    for (name, meaning) in FIELDS {
        assert!(book.contains(&format!("| `{name}` | {meaning} |")), "docs/logs.md lacks `{name}`");
        assert!(seen.contains(name), "no document has `{name}`");
    }
}
