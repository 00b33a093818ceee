//! The engine of ClickHouse, in a process of Python.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{need, stage::Stage};

/// Runs each statement of its input, in a database that lasts as long as its folder; of each that answers, one line.
const SCRIPT: &str = r#"
import json, sys
from chdb import session
work = json.load(sys.stdin)
db = session.Session(work["folder"])
for statement in work["statements"]:
    try:
        answer = db.query(statement, "JSONCompact")
    except Exception as error:
        sys.exit(f"{error}\nin: {statement[:2000]}")
    text = str(answer)
    print(json.dumps(json.loads(text)["data"] if text.strip() else []))
"#;

/// A database.
#[derive(Debug)]
pub(super) struct ClickHouse<'a> {
    stage: &'a Stage,
    folder: PathBuf,
}

impl<'a> ClickHouse<'a> {
    pub(super) fn new(stage: &'a Stage) -> Self {
        Self { stage, folder: stage.folder.join("database") }
    }

    /// Runs statements, and returns the rows of each.
    pub(super) fn run(&self, name: &str, statements: &[String]) -> Result<Vec<Vec<Vec<Value>>>> {
        let input = serde_json::json!({ "folder": self.folder, "statements": statements });
        let input = self.stage.write(&format!("{name}.json"), input.to_string())?;
        let mut python = Command::new(need::python(&self.stage.shared));
        python.arg("-c").arg(SCRIPT);
        self.stage.run_with_input(name, &mut python, &input, Duration::from_secs(300))?;
        let answers = self.stage.read(&format!("{name}.out"))?;
        let answers: Vec<_> = answers
            .lines()
            .map(|line| {
                serde_json::from_str(line).with_context(|| format!("an answer of ClickHouse: {line}"))
            })
            .collect::<Result<_>>()?;
        ensure!(
            answers.len() == statements.len(),
            "{} answers to {} statements",
            answers.len(),
            statements.len()
        );
        Ok(answers)
    }
}

/// The statements of a file of SQL: they end with `;` at the end of a line.
pub(super) fn statements(path: &str) -> Result<Vec<String>> {
    let path = Stage::repository(path);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let code = |line: &&str| !line.trim_start().starts_with("--");
    let text = text.lines().filter(code).collect::<Vec<_>>().join("\n");
    let parts = text.split(";\n").map(|part| part.trim().trim_end_matches(';').to_owned());
    Ok(parts.filter(|part| !part.is_empty()).collect())
}
