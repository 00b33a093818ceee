//! The JSON Schemas in `docs/schema`: that they are strict, and that real output keeps to them.

use std::{fs, path::Path};

use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::Value;

/// A schema that output is held against.
pub(crate) struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    /// One line of `stream --json`.
    pub(crate) fn of_events() -> Self {
        Self::load("event.schema.json")
    }

    /// One document of `report --json`.
    pub(crate) fn of_reports() -> Self {
        Self::load("report.schema.json")
    }

    /// The document of `snapshot --json`.
    pub(crate) fn of_snapshots() -> Self {
        Self::load("snapshot.schema.json")
    }

    /// One line of `stream --closed --json`.
    pub(crate) fn of_closed() -> Self {
        Self::load("closed.schema.json")
    }

    /// The document of `doctor --json`.
    pub(crate) fn of_diagnoses() -> Self {
        Self::load("doctor.schema.json")
    }

    /// One line of `kill --json`.
    pub(crate) fn of_kills() -> Self {
        Self::load("kill.schema.json")
    }

    /// One document of an agent.
    pub(crate) fn of_logs() -> Self {
        Self::load("log.schema.json")
    }

    fn load(name: &str) -> Self {
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.enable_format_assertions();
        // What some of them refer to.
        for name in [name, "event.schema.json", "closed.schema.json", "report.schema.json"] {
            // One that is there already stays.
            compiler.add_resource(name, read(name)).expect("a name that can be a location");
        }
        let index = compiler.compile(name, &mut schemas).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        Self { schemas, index }
    }

    /// The documents of an output, one a line, every one of them valid.
    #[track_caller]
    pub(crate) fn documents(&self, output: &str) -> Vec<Value> {
        output.lines().map(|line| self.document(line)).collect()
    }

    #[track_caller]
    fn document(&self, line: &str) -> Value {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if let Err(error) = self.schemas.validate(&value, self.index) {
            panic!("{error:#}\n{line}");
        }
        value
    }

    pub(crate) fn accepts(&self, value: &Value) -> bool {
        self.schemas.validate(value, self.index).is_ok()
    }
}

pub(crate) fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A schema that lets anything through would make every test of output worthless.
#[test]
fn every_object_is_closed_every_key_required_and_every_field_described() {
    for name in [
        "event.schema.json",
        "closed.schema.json",
        "report.schema.json",
        "snapshot.schema.json",
        "doctor.schema.json",
        "kill.schema.json",
        "log.schema.json",
    ] {
        let schema = read(name);
        assert_eq!(schema["$id"], name, "a name, not the address of some host");
        strict(&schema, name);
    }
}

/// Walks a schema, and every schema in it.
fn strict(schema: &Value, at: &str) {
    assert!(schema["description"].as_str().is_some_and(|text| !text.is_empty()), "{at} has no description");
    if let Some(properties) = schema["properties"].as_object() {
        assert_eq!(schema["additionalProperties"], false, "{at} is open");
        let mut required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
        required.sort_by_key(|key| key.as_str());
        // The states that occur only now and then.
        if !at.ends_with("/states") {
            assert!(
                required.iter().map(|key| key.as_str()).eq(properties.keys().map(|key| Some(key.as_str()))),
                "{at}"
            );
        }
    }
    for keyword in ["properties", "patternProperties", "$defs"] {
        for (key, inner) in schema[keyword].as_object().into_iter().flatten() {
            strict(inner, &format!("{at}/{key}"));
        }
    }
}

#[test]
fn the_schema_turns_away_what_is_wrong() {
    let schema = Schema::of_events();
    let line = crate::tracer::incident("stream --json").good().lines().next().map(str::to_owned);
    let good: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
    assert!(schema.accepts(&good));
    for (key, wrong) in [
        ("duration_ns", Value::from(-1)),
        ("old_state", Value::from("OPEN")),
        ("new_state", Value::from("STATE_")),
        ("time", Value::from("2026-01-15T03:00:01Z")),
        ("time", Value::from("2026-13-15T03:00:01.000000000Z")),
        ("family", Value::Null),
        ("extra", Value::Null),
    ] {
        let mut value = good.clone();
        value[key] = wrong;
        assert!(!schema.accepts(&value), "{value}");
    }
    for key in good.as_object().into_iter().flatten().map(|(key, _)| key) {
        let mut value = good.clone();
        value.as_object_mut().expect("an object").remove(key);
        assert!(!schema.accepts(&value), "without {key}");
    }
}
