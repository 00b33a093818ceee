//! `explain`: the pages of `docs/explain`, and nothing else.

use std::{collections::BTreeSet, fs, path::Path};

use tcp_trace_core::explain::{TOPICS, plain};

use crate::tracer::{assert_golden, run};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/explain")
}

#[test]
fn it_prints_the_page_of_the_docs() {
    for topic in TOPICS {
        let page = fs::read_to_string(folder().join(topic.name).with_extension("md")).expect("a page");
        assert_eq!(run(&format!("explain {}", topic.name)).good(), plain(&page), "{}", topic.name);
    }
    assert_golden("explain-close-wait.txt", run("explain CLOSE-WAIT").good().as_bytes());
}

#[test]
fn every_page_is_a_topic_and_stands_in_the_index() {
    let files = fs::read_dir(folder()).expect("the folder").flatten();
    let pages: BTreeSet<String> = files
        .filter_map(|file| file.file_name().to_str()?.strip_suffix(".md").map(str::to_owned))
        .filter(|name| name != "README")
        .collect();
    let topics: BTreeSet<String> = TOPICS.iter().map(|topic| topic.name.to_owned()).collect();
    assert_eq!(pages, topics);
    let index = fs::read_to_string(folder().join("README.md")).expect("the index");
    for name in topics {
        assert!(index.contains(&format!("[{name}]({name}.md)")), "{name} is not in the index");
    }
}

#[test]
fn without_a_word_it_lists_them_all() {
    let list = run("explain").good();
    for topic in TOPICS {
        assert!(list.contains(&format!("\n  {} ", topic.name)), "{}: {list}", topic.name);
    }
    assert!(list.lines().all(|line| line.len() <= 100), "{list}");
}

#[test]
fn a_word_that_means_nothing_is_2_and_names_the_nearest() {
    for (word, hint) in [("tiem_wait", "did you mean time_wait?"), ("synflod", "did you mean syn_flood?")] {
        let run = run(&format!("explain {word}"));
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{run:#?}");
        assert!(run.stderr.contains(hint), "{run:#?}");
    }
}
