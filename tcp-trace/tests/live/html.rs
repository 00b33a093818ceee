//! The page of a live run, in a real browser: names that mean harm are text in it, and it works.

mod browser;

use std::{env, fs, path::PathBuf, thread, time::Duration};

use serde_json::json;
use tcp_trace_testkit::{Helper, NetNs};

use self::browser::Browser;
use crate::{
    Test,
    requirements::{Feature, requires},
    tracer::{PATIENCE, Tracer, text},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("hostile_names_are_text_in_the_page_and_in_the_tables", hostile_names_are_text),
    ("the_page_works_in_a_browser", the_page_works_in_a_browser),
];

/// The kernel keeps fifteen bytes of a name.
const SCRIPT: &str = "comm=<script>x()<";
const ESCAPES: &str = "comm=a\x1b[31m\x07\"&'b";
const LEAK: u64 = 20;

/// Where a page is written; with `TCP_TRACE_PAGES` in the environment it stays there, with its screenshots.
fn folder() -> PathBuf {
    let folder = env::var_os("TCP_TRACE_PAGES").map_or_else(env::temp_dir, PathBuf::from);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A file for the length of a test, unless pages are to be kept.
struct Page(PathBuf);

impl Drop for Page {
    fn drop(&mut self) {
        if env::var_os("TCP_TRACE_PAGES").is_none() {
            // It lies in a folder for temporary files.
            let _ = fs::remove_file(&self.0);
        }
    }
}

/// Traces two processes with names that mean harm: one leaks, the other connects, and both closes first. The page, and
/// what was printed.
fn traced(name: &str) -> (Page, String) {
    let ns = NetNs::new().unwrap();
    let page = Page(folder().join(format!("tcp-trace-{name}-{}.html", std::process::id())));
    let (path, inum) = (page.0.display().to_string(), ns.inum().to_string());
    let flags = ["report", "--close-wait-after", "500ms", "--netns", &inum, "--html", &path];
    let tracer = Tracer::start(&flags);
    let mut server = Helper::spawn(&ns, "leaky-server", &["listen=127.0.0.1:7070", SCRIPT]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    let connect = "connect=127.0.0.1:7070";
    let mut client = Helper::spawn(&ns, "client", &[connect, &format!("count={LEAK}"), ESCAPES]).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    // In two parts, so that there is something to see over time.
    for _ in 0..2 {
        client.send(&format!("close count={}", LEAK / 2)).unwrap();
        client.expect("done", PATIENCE).unwrap();
        thread::sleep(Duration::from_millis(1_500));
    }
    let mut refused = Helper::spawn(&ns, "client", &["connect=127.0.0.1:7071", "count=3", ESCAPES]).unwrap();
    refused.expect("ready", PATIENCE).unwrap();
    let output = tracer.stop();
    assert!(output.status.success(), "{}", text(&output.stderr));
    (page, text(&output.stdout))
}

fn hostile_names_are_text() {
    let (page, table) = traced("names");
    let page = fs::read_to_string(&page.0).unwrap();
    assert!(page.contains("&lt;script&gt;x()&lt;"), "{page}");
    assert!(page.contains("a\\u{1b}[31m\\u{7}&quot;&amp;"), "{page}");
    assert_eq!(page.matches("<script").count(), 1, "the page's own");
    assert!(!page.contains('\x1b') && !page.contains('\x07'));
    assert!(table.contains("<script>x()<") && table.contains("a\\u{1b}[31m\\u{7}\"&"), "{table}");
    assert!(!table.contains('\x1b') && !table.contains('\x07'), "{table}");
}

fn the_page_works_in_a_browser() {
    requires(&[Feature::Browser]);
    let (page, _) = traced("browser");
    let mut browser = Browser::start();
    let url = format!("file://{}", page.0.display());
    browser.open(&url);

    // What is to be seen is there, as text.
    assert_eq!(browser.evaluate("document.querySelectorAll('script').length"), json!(1));
    assert_eq!(browser.evaluate("document.body.innerText.includes('<script>x()<')"), json!(true));
    assert_eq!(browser.evaluate("document.querySelectorAll('.diagram .state').length"), json!(13));
    let waits = "[...document.querySelectorAll('.state.lingering .live')].map(e => e.textContent).join()";
    assert_eq!(browser.evaluate(waits), json!(format!("{LEAK} now, {LEAK} linger")));
    assert_eq!(browser.evaluate("document.querySelectorAll('.waterfall .bar').length"), json!(LEAK));
    assert!(browser.evaluate("document.querySelectorAll('.charts figure').length").as_u64() >= Some(3));

    tables_are_sorted(&mut browser);
    colours_are_switched(&mut browser);
    if let Some(folder) = env::var_os("TCP_TRACE_PAGES") {
        browser.screenshots(&PathBuf::from(folder));
    }

    // Only the file itself was asked for, and nothing was complained about.
    assert_eq!(browser.requests, [url]);
    assert_eq!(browser.complaints, [""; 0]);
}

fn tables_are_sorted(browser: &mut Browser) {
    let counts = "[...document.querySelector('#diagram table:nth-of-type(1)').tBodies[0].rows].map(r => Number(r.cells[1].dataset.v))";
    let press = "document.querySelector('#diagram th:nth-child(2) button').click()";
    let before = browser.evaluate(counts);
    browser.evaluate(press);
    let down = numbers(&browser.evaluate(counts));
    assert!(down.is_sorted_by(|a, b| a >= b) && down.len() > 3, "{down:?}");
    browser.evaluate(press);
    assert!(numbers(&browser.evaluate(counts)).is_sorted());
    browser.evaluate(press);
    assert_eq!(browser.evaluate(counts), before, "the third time restores the order");
}

fn numbers(value: &serde_json::Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as u64).collect()
}

fn colours_are_switched(browser: &mut Browser) {
    let ground = "getComputedStyle(document.body).backgroundColor";
    let light = browser.evaluate(ground);
    browser.evaluate("document.getElementById('theme').click()");
    assert_ne!(browser.evaluate(ground), light);
    browser.evaluate("document.getElementById('theme').click()");
    assert_eq!(browser.evaluate(ground), light);
    // As the reader's system has it, again.
    browser.evaluate("delete document.documentElement.dataset.theme");
}
