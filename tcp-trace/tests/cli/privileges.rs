//! The table of `docs/privileges.md`, against the one that the program works by, and the tests that it names.

use std::{fs, path::Path};

use tcp_trace_core::doctor::Feature;

#[test]
fn the_documented_table_is_the_programs_and_each_row_names_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("it is part of the source");
    let page = read("../docs/privileges.md");
    for feature in Feature::ALL {
        let needs: Vec<_> = feature.capabilities().iter().map(|one| format!("`{}`", one.name())).collect();
        let row = format!("| {} | {} | {} | `", feature.what(), needs.join(", "), feature.lost());
        let rest = page.lines().find_map(|line| line.strip_prefix(&row));
        let test = rest.and_then(|rest| rest.strip_suffix("` |")).unwrap_or_else(|| panic!("no row {row}"));
        let (group, name) = test.split_once("::").expect("a group and a test");
        let tests = read(&format!("tests/live/{group}.rs"));
        assert!(tests.contains(&format!("fn {name}() {{")), "there is no test {test}");
    }
}
