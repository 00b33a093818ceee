//! The namespace is another one, and the host stays as it is.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use tcp_trace_testkit::{NetNs, Tun, TunConfig};

use super::Test;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("namespaces_are_apart", namespaces_are_apart),
    ("sysctls_stay_inside", sysctls_stay_inside),
    ("tun_stays_inside", tun_stays_inside),
    ("children_are_inside", children_are_inside),
    ("panics_come_out", panics_come_out),
];

fn own_inum() -> u32 {
    u32::try_from(fs::metadata("/proc/thread-self/ns/net").unwrap().ino()).unwrap()
}

fn namespaces_are_apart() -> io::Result<()> {
    let host = own_inum();
    let (a, b) = (NetNs::new()?, NetNs::new()?);
    assert_eq!(own_inum(), host, "the caller was moved");
    assert!(a.inum() != host && b.inum() != host && a.inum() != b.inum());
    assert_eq!(a.run(own_inum), a.inum());
    assert_eq!(b.spawn("inum", own_inum)?.join().unwrap(), b.inum());
    let listener = a.run(|| TcpListener::bind("127.0.0.1:7001"))?;
    assert!(a.run(|| TcpStream::connect("127.0.0.1:7001")).is_ok());
    let refused = b.run(|| TcpStream::connect("127.0.0.1:7001")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(b.run(|| TcpListener::bind("127.0.0.1:7001")).is_ok());
    assert!(a.run(|| TcpListener::bind("[::1]:7001")).is_ok());
    drop(listener);
    Ok(())
}

fn sysctls_stay_inside() -> io::Result<()> {
    let ns = NetNs::new()?;
    for (name, value) in [
        ("net.ipv4.tcp_synack_retries", "1"),
        ("net.ipv4.tcp_syn_retries", "1"),
        ("net.ipv4.tcp_syncookies", "2"),
        ("net.ipv4.tcp_fin_timeout", "62"),
        ("net.ipv4.tcp_max_syn_backlog", "17"),
        ("net.ipv4.tcp_max_tw_buckets", "4711"),
        ("net.ipv4.tcp_tw_reuse", "1"),
        ("net.ipv4.tcp_timestamps", "0"),
        ("net.ipv4.tcp_fastopen", "3"),
        ("net.ipv4.tcp_retries2", "3"),
        ("net.ipv4.tcp_rfc1337", "1"),
        ("net.ipv4.tcp_abort_on_overflow", "1"),
        ("net.ipv4.tcp_no_metrics_save", "1"),
        ("net.ipv4.ip_local_port_range", "1024\t65535"),
        ("net.core.somaxconn", "77"),
    ] {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        let host = fs::read_to_string(&file)?;
        ns.sysctl(name, value)?;
        assert_eq!(ns.read_sysctl(name)?, value, "{name}");
        assert_eq!(fs::read_to_string(&file)?, host, "{name} of the host");
    }
    for machine_wide in ["net.ipv4.tcp_mem", "net.ipv4.tcp_max_orphans", "net.core.netdev_max_backlog"] {
        let refused = ns.sysctl(machine_wide, 1).unwrap_err();
        assert!(
            matches!(refused.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied),
            "{machine_wide}: {refused}"
        );
    }
    Ok(())
}

fn tun_stays_inside() -> io::Result<()> {
    let ns = NetNs::new()?;
    let tun = Tun::open(&ns, "testkit0", &TunConfig::default())?;
    let devices = || fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    assert!(ns.run(devices).contains(tun.name()));
    assert!(!devices().contains(tun.name()));
    let too_long = Tun::open(&ns, "a-name-that-is-too-long", &TunConfig::default()).unwrap_err();
    assert_eq!(too_long.kind(), ErrorKind::InvalidInput);
    Ok(())
}

fn children_are_inside() -> io::Result<()> {
    let ns = NetNs::new()?;
    let child = ns.command(Command::new("readlink").arg("/proc/self/ns/net").stdout(Stdio::piped()))?;
    let output = child.wait_with_output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("net:[{}]", ns.inum()));
    Ok(())
}

fn panics_come_out() -> io::Result<()> {
    let ns = NetNs::new()?;
    let panic = std::panic::catch_unwind(|| ns.run(|| std::panic::resume_unwind(Box::new("on purpose"))));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"on purpose"));
    Ok(())
}
