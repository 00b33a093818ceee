//! Whose a number is, as labels.
//!
//! Never in a label: an address, a pid, the id of a container, a cookie. They come and go with every connection, process
//! and deploy, and each new value is a new series for ever after. Documents have them. A port is a label only where it is
//! a listener's or a destination's: somebody has configured it, and it says which service it is.

use super::{Identities, Labels};
use crate::{
    process::{Comm, printable},
    report::ProcessIdentity,
    survey::{ContainerFacts, Runtime},
};

/// The value that sums up what has no series of its own.
pub const OTHER: &str = "other";
/// The value of what is not known.
pub const UNKNOWN: &str = "unknown";

/// No name needs more; a longer one is cut.
const LONGEST: usize = 128;

/// Whose it is; `None`: that is not known.
pub(super) fn owner(process: Option<&ProcessIdentity>, identities: Identities) -> Labels {
    let mut labels = Vec::new();
    let named = |comm: &Comm| value(&comm.to_string());
    if identities != Identities::Container {
        let comm = process.and_then(|process| process.comm.as_ref());
        labels.push(("comm", comm.map_or_else(|| UNKNOWN.to_owned(), named)));
    }
    match process {
        Some(ProcessIdentity { container: Some(container), .. }) => place(&mut labels, container, identities),
        Some(_) => {}
        None if identities == Identities::Container => labels.push(("container", UNKNOWN.to_owned())),
        None => {}
    }
    labels
}

/// The label that says `other` for all those that are not told apart.
pub(super) fn first(identities: Identities) -> &'static str {
    if identities == Identities::Container { "container" } else { "comm" }
}

/// The container, pod and namespace, or the unit; a scope of systemd is named by a number and tells nothing.
fn place(labels: &mut Labels, container: &ContainerFacts, identities: Identities) {
    let ContainerFacts { id, name, runtime, pod, namespace, .. } = container;
    if *runtime == Runtime::Systemd {
        if id.ends_with(".service") {
            labels.push(("unit", value(id)));
        }
        return;
    }
    labels.push(("container", name.as_deref().map_or_else(|| UNKNOWN.to_owned(), value)));
    if identities == Identities::Pod {
        labels.extend(pod.as_deref().map(|pod| ("pod", value(pod))));
    }
    labels.extend(namespace.as_deref().map(|namespace| ("namespace", value(namespace))));
}

/// What others have chosen, without what would disturb a terminal, and not longer than it may be.
pub(super) fn value(text: &str) -> String {
    let text = printable(text);
    if text.chars().nth(LONGEST).is_none() {
        text.into_owned()
    } else {
        text.chars().take(LONGEST - 1).chain(['…']).collect()
    }
}
