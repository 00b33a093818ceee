//! Links of the documentation: to files that are there, and to headings that they have.

use std::{collections::HashSet, path::Path};

use super::{Fault, Source};
use crate::workspace;

/// Links that lead nowhere.
pub(super) fn check(sources: &[Source]) -> Vec<Fault> {
    let pages: Vec<_> = sources.iter().filter(|source| source.path.ends_with(".md")).collect();
    let mut faults = Vec::new();
    for page in &pages {
        for (line, target) in links(&page.text) {
            if let Some(what) = broken(page, &pages, &target) {
                faults.push(Fault { path: page.path.clone(), line, what });
            }
        }
    }
    faults
}

/// What is wrong with a link, if anything.
fn broken(page: &Source, pages: &[&Source], target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) =
        target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
    let path = if file.is_empty() { page.path.clone() } else { beside(&page.path, file) };
    if !workspace::root().join(&path).exists() {
        return Some(format!("leads to {path}, which is not there"));
    }
    let heading = heading?;
    let there = pages.iter().find(|page| page.path == path)?;
    let known = anchors(&there.text).contains(heading);
    (!known).then(|| format!("leads to #{heading}, which is no heading of {path}"))
}

/// A path that stands in a page, from the root.
fn beside(page: &str, target: &str) -> String {
    let mut parts: Vec<_> = Path::new(page).parent().into_iter().flat_map(Path::iter).collect();
    for part in Path::new(target) {
        match part.to_str() {
            Some(".") => {}
            Some("..") => _ = parts.pop(),
            _ => parts.push(part),
        }
    }
    parts.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Targets of links, with their lines; not those in code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (line, text) in prose(text) {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, after)) = after.split_once(')') else { break };
            links.push((line, target.to_owned()));
            rest = after;
        }
    }
    links
}

/// Lines that are not code, without what stands in backquotes unless it is a link's text.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        (!code && !fence).then_some((index + 1, line))
    })
}

/// Anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> HashSet<String> {
    let mut anchors = HashSet::new();
    for (_, line) in prose(text).filter(|(_, line)| line.starts_with('#')) {
        let anchor = anchor(line.trim_start_matches('#').trim());
        // The second heading of a name has a number behind it.
        let taken = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(taken).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_are_none() {
        let text = "see [a](b.md) and [c](d.md#e)\n```\n[f](g)\n```\n[h](#i)\n";
        let found: Vec<_> =
            links(text).into_iter().map(|(line, target)| format!("{line} {target}")).collect();
        assert_eq!(found, ["1 b.md", "1 d.md#e", "5 #i"]);
    }

    #[test]
    fn headings_become_anchors() {
        let anchors =
            anchors("# What it `does`, and why\n## On Kubernetes\n## On Kubernetes\n```\n# no\n```\n");
        let mut sorted: Vec<_> = anchors.into_iter().collect();
        sorted.sort();
        assert_eq!(sorted, ["on-kubernetes", "on-kubernetes-1", "what-it-does-and-why"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let page = |text: &str| Source { path: "README.md".into(), text: text.into() };
        let faults = |text: &str| check(&[page(text)]).len();
        assert_eq!(faults("# A b\n[x](Cargo.toml) [y](#a-b) [z](https://example.org)"), 0);
        assert_eq!(faults("[x](no-such-file.md)"), 1);
        assert_eq!(faults("# A b\n[y](#a-c)"), 1);
        assert_eq!(beside("docs/explain/a.md", "../b/./c.md"), "docs/b/c.md");
    }
}
