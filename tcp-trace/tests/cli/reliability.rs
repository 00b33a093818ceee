//! `docs/reliability.md`: each fault has its row, each row is whole, and each test that it names is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Cells of the rows of all tables, heads left out.
fn rows(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        let line = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        Some(line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
    };
    let lines: Vec<_> = text.lines().map(cells).collect();
    let is_rule = |cells: &[String]| cells.iter().all(|cell| cell.chars().all(|c| matches!(c, '-' | ':')));
    let heads: Vec<_> = (1..lines.len()).filter(|at| lines[*at].as_deref().is_some_and(is_rule)).collect();
    let is_body = |at: &usize| !heads.contains(at) && !heads.contains(&(at + 1));
    (0..lines.len()).filter(is_body).filter_map(|at| lines[at].clone()).collect()
}

/// What stands between backticks and has `::` in it: tests.
fn tests(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect()
}

fn sources(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

fn page() -> String {
    fs::read_to_string(root().join("docs/reliability.md")).unwrap()
}

#[test]
fn no_row_is_empty() {
    let page = page();
    let rows = rows(&page);
    assert!(rows.len() > 40, "{} rows", rows.len());
    for row in rows {
        assert!(row.len() == 5 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        assert!(
            !tests(&row[3]).is_empty() || row[3].contains("cargo xtask"),
            "it is tested by something: {row:?}"
        );
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let page = page();
    let mut code = String::new();
    for folder in
        ["tcp-trace/tests", "tcp-trace/src", "tcp-trace-core/src", "tcp-trace-core/tests", "xtask/src"]
    {
        sources(&root().join(folder), &mut code);
    }
    for name in tests(&page) {
        let last = name.rsplit("::").next().unwrap();
        let is_there = code.contains(&format!("\"{last}\"")) || code.contains(&format!("fn {last}()"));
        assert!(is_there, "there is no test {name}");
    }
}

#[test]
fn every_fault_that_is_tested_has_a_row() {
    let page = page();
    let list = fs::read_to_string(root().join("tcp-trace/tests/live/faults/mod.rs")).unwrap();
    let (_, list) = list.split_once("TESTS: &[(&str, Test)] = &[").unwrap();
    let (list, _) = list.split_once("];").unwrap();
    let names: Vec<_> = list.split('"').skip(1).step_by(2).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(page.contains(&format!("`faults::{name}`")), "{name} has no row");
    }
}
