#!/usr/bin/env bash
# Who fills TIME_WAIT, and when do the ports run out? A batch job with a connection for each row, and few local ports.
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
ip netns exec "$client" sysctl -qw net.ipv4.ip_local_port_range='32768 34767'
plays "$server" ledger
plays "$client" nightly-import
server=$client watches report --duration 5s
