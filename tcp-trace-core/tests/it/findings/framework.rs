//! What holds for every rule: nothing flaps, and nothing is said that is not so.

use tcp_trace_core::findings::{self, Thresholds};

use super::close_wait_leak::{LISTENS, closes, leaked};
use crate::check::{check_report, last_report};

/// Severity, id and since of each finding, report by report.
fn course(input: &str) -> Vec<String> {
    let short = |findings: &[findings::Finding]| {
        let word = |f: &findings::Finding| {
            let since =
                f.since.map_or_else(|| "-".to_owned(), |at| (at.0 / 1_000_000 % 1_000_000).to_string());
            let quiet = f.evidence.iter().any(|evidence| evidence.name == "quiet for");
            format!("{} since {since}{}", f.severity.name(), if quiet { " quiet" } else { "" })
        };
        findings.iter().map(word).collect::<Vec<_>>().join(", ")
    };
    crate::check::reports(input).iter().map(|report| short(report.findings.as_deref().unwrap())).collect()
}

#[test]
fn a_finding_that_is_open_stays_so_until_half_its_threshold_and_for_one_quiet_report() {
    let input = format!(
        "{LISTENS}{}
        end +30000ms\nreport findings
        {}end +40000ms\nreport findings
        {}end +50000ms\nreport findings
        end +60000ms\nreport findings
        end +70000ms\nreport findings",
        leaked(10, 10, 1000, 1000),
        // Half of them are left, then fewer.
        closes(10, 5, 31_000),
        closes(15, 1, 41_000),
    );
    assert_eq!(
        course(&input),
        ["warning since 1000", "warning since 1000", "warning since 1000 quiet", "", ""]
    );
}

#[test]
fn a_finding_becomes_worse_at_once_and_milder_after_two_reports() {
    let facts = |fds: u64| format!("facts 200:leaky start=5 fds={fds} nofile=1000\n");
    let input = format!(
        "{LISTENS}{}
        {}end +30000ms\nreport findings
        {}end +40000ms\nreport findings
        {}end +50000ms\nreport findings
        end +60000ms\nreport findings",
        leaked(10, 10, 1000, 1000),
        facts(40),
        facts(950),
        facts(40),
    );
    // So slow a growth leaves hours, which the first report cannot know.
    let set = "session close_wait_leak.critical_time_left_s=60\n";
    assert_eq!(
        course(&format!("{set}{input}")),
        ["warning since 1000", "critical since 1000", "critical since 1000", "warning since 1000"]
    );
}

#[test]
fn nothing_is_found_in_nothing_and_every_rule_has_an_id_of_its_own() {
    check_report("end +1000ms\nreport findings", "findings: none");
    let mut ids: Vec<_> = findings::ids().collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), findings::ids().count());
}

#[test]
fn findings_are_bounded_and_what_is_left_out_is_said() {
    let input: String = (0..150)
        .map(|n| {
            format!(
                "+{n}ms CLOSE>SYN_SENT ck={c} 10.0.0.1:0>10.0.0.9:{p} task=100:client
                 +{n}ms SYN_SENT>CLOSE ck={c} 10.0.0.1:4000>10.0.0.9:{p} err=111 task=100:client\n",
                c = n + 1,
                p = n + 1
            )
        })
        .collect();
    let set = "session connect_failures.min_failures=1";
    let report = last_report(&format!("{set}\n{input}end +1000ms\nreport findings"));
    assert_eq!(report.findings.unwrap().len(), 100);
    let limit = report.limits.iter().find(|limit| limit.name == "findings").unwrap();
    assert_eq!((limit.in_use, limit.dropped), (100, 50));
}

/// The book has every key with its default.
#[test]
fn the_thresholds_are_documented_with_their_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/findings.md");
    #[expect(clippy::disallowed_methods, reason = "a test that reads the book")]
    let book = std::fs::read_to_string(path).unwrap();
    let defaults = serde_json::to_value(Thresholds::default()).unwrap();
    for (rule, keys) in defaults.as_object().unwrap() {
        let row = |key: &str, value: &serde_json::Value| format!("| `{key}` | {value} |");
        let rows: Vec<_> = match keys.as_object() {
            Some(keys) => keys.iter().map(|(key, value)| row(&format!("{rule}.{key}"), value)).collect(),
            None => vec![row(rule, keys)],
        };
        for row in rows {
            assert!(book.contains(&row), "docs/findings.md lacks `{row}`");
        }
    }
    for id in findings::ids() {
        assert!(book.contains(&format!("## {id}\n")), "docs/findings.md says nothing of {id}");
    }
}
