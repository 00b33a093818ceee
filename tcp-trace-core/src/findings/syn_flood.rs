//! `syn_flood`: a listener is asked for connections that are never completed.

use super::{
    Evidence, Finding, Severity, Subject,
    memory::Case,
    requests::{self, Requests, Trouble},
};
use crate::report::{NamespaceSummary, PrefixCount};

/// The id of its findings.
pub(super) const ID: &str = "syn_flood";

/// Sources that can be turned away one by one.
const FEW: u64 = 16;

/// Looks at each listener; what a namespace counts and no listener accounts for is put down to the namespace.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let all = requests::all(case);
    let flooded = all.iter().filter(|requests| requests.trouble(case) == Some(Trouble::Flood));
    let mut findings: Vec<_> = flooded.map(|requests| listener(case, requests)).collect();
    let attributed = |namespace: &NamespaceSummary| {
        let known =
            |requests: &Requests<'_>| requests.overflow > 0 || requests.trouble(case) == Some(Trouble::Flood);
        all.iter().any(|requests| requests.listener.netns == Some(namespace.netns) && known(requests))
    };
    let others = case.report.half_open.namespaces.iter().filter(|namespace| !attributed(namespace));
    findings.extend(others.filter_map(|namespace| unattributed(case, namespace)));
    findings
}

fn listener(case: &Case<'_>, requests: &Requests<'_>) -> Finding {
    let (open, all) = (requests.open(), requests.open().saturating_add(requests.done));
    let subject = requests.subject();
    let cookies = requests.namespace.and_then(|namespace| namespace.syncookies);
    let drops = requests.namespace.map_or(0, |namespace| namespace.request_queue_full_drops);
    let turned_away = drops > 0 && requests.overflow > 0;
    let spread = match requests.listener.sources {
        Some(sources) if sources <= FEW => format!(", from few addresses (about {sources})"),
        Some(sources) if sources.saturating_mul(2) >= requests.undone => {
            format!(", from about {sources} addresses, hardly one of them twice, as forged ones are")
        }
        Some(sources) => format!(", from about {sources} addresses"),
        None => String::new(),
    };
    let state = match cookies {
        Some(0) if turned_away => "; SYN cookies are off, and SYNs of everybody are dropped",
        Some(0) => "; SYN cookies are off",
        Some(_) => "; SYN cookies are on, so that others still get in",
        None => "",
    };
    let cause = format!(
        "{open} of {all} requests to the {subject} were not completed by their clients{spread}{state}."
    );
    let mut evidence = requests.evidence();
    evidence.push(Evidence::new(
        "net.ipv4.tcp_syncookies",
        cookies.map(u64::from),
        "",
        "half_open.namespaces[].syncookies",
    ));
    Finding {
        id: ID,
        severity: if turned_away { Severity::Critical } else { Severity::Warning },
        subject,
        since: case.since_this_window(),
        cause,
        advice: advice(requests, cookies),
        evidence,
    }
}

/// Whoever completes more than this share of its requests is somebody's customer, and is not to be turned away.
const CUSTOMER_SHARE: f64 = 0.05;

fn advice(requests: &Requests<'_>, cookies: Option<u8>) -> String {
    let listener = requests.listener;
    let attacks =
        |prefix: &&PrefixCount| (prefix.completed as f64) <= CUSTOMER_SHARE * prefix.requests as f64;
    let few = listener.sources.is_some_and(|sources| sources <= FEW);
    let port = listener.local.map_or_else(|| "PORT".to_owned(), |local| local.port.to_string());
    match (cookies, requests::worst(&listener.prefixes).filter(attacks)) {
        (Some(0), _) => {
            "Turn SYN cookies on in its network namespace: `sysctl -w net.ipv4.tcp_syncookies=1`.".to_owned()
        }
        (_, Some(most)) if few => {
            let tables = if most.prefix.contains(':') { "ip6tables" } else { "iptables" };
            let prefix = &most.prefix;
            format!("Turn them away: `{tables} -I INPUT -p tcp --syn --dport {port} -s {prefix} -j DROP`.")
        }
        _ => format!(
            "Limit SYNs to port {port} before this host (provider, load balancer, `synproxy`), and let \
             `sysctl net.ipv4.tcp_syncookies` stay 1: forged addresses cannot be blocked one by one."
        ),
    }
}

/// With cookies for everybody, or where queues are empty again, nothing but the namespace's counters shows a flood.
fn unattributed(case: &Case<'_>, namespace: &NamespaceSummary) -> Option<Finding> {
    let NamespaceSummary { netns, name, syncookies, syncookies_received, .. } = namespace;
    let subject = Subject::Namespace { netns: *netns, name: name.clone() };
    let open = requests::overflow(namespace);
    let thresholds = case.thresholds.syn_flood;
    let share = *syncookies_received as f64 / open.saturating_add(*syncookies_received).max(1) as f64;
    if !case.reaches(&subject, open as f64, thresholds.min_requests.get() as f64)
        || share > thresholds.max_completed_share.get()
        || namespace.passive_opens > open
    {
        return None;
    }
    let source =
        "half_open.namespaces[]: request_queue_full_cookies - syncookies_received + request_queue_full_drops";
    Some(Finding {
        id: ID,
        severity: Severity::Warning,
        subject,
        since: case.since_this_window(),
        cause: format!(
            "{open} SYNs beyond full queues came to nothing in this namespace; of which listener the kernel does not tell."
        ),
        advice: "See which port they are for: `tcpdump -nn -c 100 'tcp[tcpflags] == tcp-syn'`.".to_owned(),
        evidence: vec![
            Evidence::new("beyond a full queue", open, "SYNs", source),
            Evidence::new("cookies answered", *syncookies_received, "cookies", "half_open.namespaces[]"),
            Evidence::new("net.ipv4.tcp_syncookies", syncookies.map(u64::from), "", "half_open.namespaces[]"),
        ],
    })
}
