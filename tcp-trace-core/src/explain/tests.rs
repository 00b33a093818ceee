use super::*;

#[test]
fn every_state_and_every_finding_is_explained_once() {
    let of = |kind| TOPICS.iter().filter(move |topic| topic.kind == kind).map(|topic| topic.name);
    let states: Vec<_> =
        (0..=255).map(TcpState::from_number).filter(|state| state.name().is_some()).collect();
    assert_eq!((states.len(), of(Kind::State).count()), (13, 13));
    for state in states {
        let topic = Topic::of_state(state).unwrap_or_else(|| panic!("{state} is not explained"));
        assert!(topic.title().starts_with(&format!("{state}: ")), "{}", topic.title());
    }
    let mut findings: Vec<_> = of(Kind::Finding).collect();
    findings.sort_unstable();
    let mut expected: Vec<_> = crate::findings::ids().collect();
    expected.sort_unstable();
    assert_eq!(findings, expected);
    for topic in TOPICS.iter().filter(|topic| topic.kind == Kind::Finding) {
        assert!(topic.title().starts_with(&format!("{}: ", topic.name)), "{}", topic.title());
    }
}

#[test]
fn no_word_means_two_things() {
    let mut words: Vec<&str> =
        TOPICS.iter().flat_map(|topic| topic.others.iter().chain([&topic.name])).copied().collect();
    let count = words.len();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), count);
    for word in words {
        let found = Topic::find(word).unwrap();
        assert!(found.name == word || found.others.contains(&word), "{word}: {}", found.name);
    }
}

#[test]
fn every_usual_spelling_is_understood() {
    for (word, name) in [
        ("CLOSE-WAIT", "close_wait"),
        ("close wait", "close_wait"),
        ("FIN_WAIT_2", "fin_wait2"),
        ("estab", "established"),
        ("SYN-RECEIVED", "syn_recv"),
        ("closed", "close"),
        ("half-open", "new_syn_recv"),
        ("Three-Way Handshake", "handshake"),
        ("2MSL", "time_wait"),
        ("SYN flood", "syn_flood"),
    ] {
        assert_eq!(Topic::find(word).unwrap().name, name, "{word}");
    }
}

#[test]
fn a_mistyped_word_gets_the_nearest() {
    let error = Topic::find("time_wiat").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`time_wiat` is nothing that can be explained; did you mean time_wait?; `tcp-trace explain` lists what is"
    );
    assert_eq!(Topic::find("synflod").unwrap_err().nearest, ["syn_flood"]);
    assert_eq!(Topic::find("listener").unwrap_err().nearest.len(), 3);
    assert_eq!(Topic::find("qqqqqq").unwrap_err().nearest, [""; 0]);
    assert_eq!(Topic::find(&"x".repeat(10_000)).unwrap_err().nearest, [""; 0]);
}

#[test]
fn every_page_is_drawn_and_fits_a_terminal() {
    for Topic { name, page, .. } in TOPICS {
        assert!(page.starts_with("# ") && page.ends_with('\n'), "{name}");
        assert!(page.contains("```text\n"), "{name} has no drawing");
        assert_eq!(page.matches("```").count() % 2, 0, "{name}: a fence is left open");
        assert!(page.is_ascii(), "{name}: a terminal may not have this character");
        let text = plain(page);
        for line in text.lines() {
            assert!(line.len() <= 80, "{name}: {line}");
        }
        assert!(!text.contains('`') && !text.contains("**"), "{name}: marks are left");
    }
}

#[test]
fn what_a_page_refers_to_is_there() {
    for Topic { name, page, .. } in TOPICS {
        let see = page.lines().find_map(|line| line.strip_prefix("See also: "));
        let see = see.unwrap_or_else(|| panic!("{name} refers to nothing"));
        for other in see.trim_end_matches('.').split(", ") {
            assert!(TOPICS.iter().any(|topic| topic.name == other), "{name}: {other}");
            assert_ne!(other, *name);
        }
    }
}

#[test]
fn tables_become_columns() {
    assert_eq!(
        plain("# T\n\n| a | `b` |\n|---|---|\n| long | *c* |\n\n```text\n | x `y`\n```\n"),
        "T\n\n  a     b\n  long  c\n\n | x `y`\n"
    );
}
