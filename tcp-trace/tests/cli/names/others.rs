//! What is printed without a recording: snapshots, what the doctor finds, what became of sockets.

use std::io;

use tcp_trace::sink;
use tcp_trace_core::{
    doctor::diagnose,
    snapshot::{Selection, snapshot},
};

use crate::{
    doctor, kill,
    poison::{HOSTILE, MARK, assert_harmless, endless, poison, text},
    schema::Schema,
    snapshot as snapshots,
};

fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut bytes = Vec::new();
    print(&mut bytes).expect("a vector takes everything");
    String::from_utf8(bytes).expect("UTF-8")
}

#[track_caller]
fn check(what: &str, table: &str, json: &str, schema: &Schema) {
    for output in [table, json] {
        assert_harmless(what, output);
        assert!(output.contains(MARK), "{what}: {output}");
    }
    assert!(!schema.documents(json).is_empty(), "{what}");
}

#[test]
fn snapshots_diagnoses_and_kills_do_nothing_to_who_looks_at_them() {
    let schemas = [Schema::of_snapshots(), Schema::of_diagnoses(), Schema::of_kills()];
    let endless = endless();
    for (what, name) in HOSTILE.iter().copied().chain([("long", &*endless)]) {
        let name = text(name);
        let mut gathered = snapshots::gathered();
        (gathered.host.name, gathered.host.kernel) = (name.clone(), name.clone());
        let mut facts = serde_json::to_value(&gathered.facts).expect("texts and numbers");
        poison(&mut facts, &name);
        gathered.facts = serde_json::from_value(facts).expect("the same with other texts");
        for lacking in &mut gathered.degradations {
            (lacking.reason, lacking.remedy) = (name.clone(), Some(name.clone()));
        }
        for sockets in [false, true] {
            let found = snapshot(&gathered, &Selection { sockets, ..Selection::default() });
            let [table, json] = [false, true].map(|json| printed(|out| sink::snapshot(out, &found, json)));
            check(what, &table, &json, &schemas[0]);
        }
        let mut facts = doctor::facts(0);
        (facts.host.name, facts.host.kernel) = (name.clone(), name.clone());
        facts.program.clone_from(&name);
        (facts.runtimes, facts.holders) = (vec![name.clone()], vec![name.clone()]);
        facts.namespaces.1 = vec![name.clone()];
        facts.lockdown = Err(name.clone());
        let found = diagnose(&facts);
        let [table, json] = [false, true].map(|json| printed(|out| sink::diagnosis(out, &found, json)));
        check(what, &table, &json, &schemas[1]);
        for mut entry in kill::entries() {
            entry.process.comm.clone_from(&name);
            entry.reason = Some(name.clone());
            let [table, json] = [false, true].map(|json| printed(|out| sink::killed(out, &entry, json)));
            assert_eq!(table.matches('\n').count(), 1, "{what}: {table}");
            check(what, &table, &json, &schemas[2]);
        }
    }
}
