//! Stacks as text: `2/accepted/+12ms/handle_upload,worker_main`.

use std::num::NonZeroU64;

use tcp_trace_core::{
    stack::{Frame, Stack, StackFacts, StackKind, Trace},
    time::Timestamp,
};

use crate::dsl;

/// What is told with one line; `known` are the stacks of the lines before.
pub(crate) fn facts(known: &mut Vec<String>, line: &str) -> StackFacts {
    let (until, rest) = dsl::word(line);
    let mut facts = StackFacts { until: Timestamp(dsl::time(until)), ..StackFacts::default() };
    for word in rest.split_whitespace() {
        if let Some(("lost", number)) = word.split_once('=') {
            facts.lost = number.parse().unwrap();
            continue;
        }
        let parts: Vec<_> = word.split('/').collect();
        let [cookie, kind, time, functions] = parts[..] else { panic!("what is `{word}`?") };
        let kind = match kind {
            "connected" => StackKind::Connected,
            "accepted" => StackKind::Accepted,
            "first_read" => StackKind::FirstRead,
            other => panic!("what is `{other}`?"),
        };
        let number = number(known, functions, &mut facts);
        let cookie: NonZeroU64 = cookie.parse().unwrap();
        facts.opened.push((cookie, Timestamp(dsl::time(time)), kind, number));
    }
    facts
}

fn number(known: &mut Vec<String>, functions: &str, facts: &mut StackFacts) -> u32 {
    let found = known.iter().position(|stack| stack == functions);
    let number = u32::try_from(found.unwrap_or(known.len())).unwrap();
    if found.is_none() {
        known.push(functions.to_owned());
        let frame = |name: &str| Frame { function: Some(name.to_owned()), ..Frame::default() };
        let frames = functions.split(',').map(frame).collect();
        facts.stacks.push(Stack { number, trace: Trace { frames, cut_off: None, interpreter: None } });
    }
    number
}
