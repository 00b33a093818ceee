# The stage of the incidents: two network namespaces with a cable between them, which end with the script.
# Sourced, not run: `docs/incidents/NAME.sh [PATH OF tcp-trace]`, as root, with python3 and iproute2.
set -euo pipefail

tcp_trace=${1:-tcp-trace}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
server=tt-incident-server
client=tt-incident-client
started=()

command -v "$tcp_trace" > /dev/null || { echo "there is no $tcp_trace: name it as the first argument" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "network namespaces, and tracing, take root: sudo $0" >&2; exit 3; }

leave() {
    for pid in "${started[@]}"; do kill "$pid" 2> /dev/null || true; done
    wait 2> /dev/null || true
    ip netns delete "$client" 2> /dev/null || true
    ip netns delete "$server" 2> /dev/null || true
}
trap leave EXIT

ip netns add "$server"
ip netns add "$client"
ip -n "$server" link add wire type veth peer name wire netns "$client"
ip -n "$server" address add 198.18.0.1/15 dev wire
ip -n "$client" address add 198.18.0.2/15 dev wire
for place in "$server" "$client"; do
    ip -n "$place" link set lo up
    ip -n "$place" link set wire up
done

# plays NAMESPACE NAME [ARGUMENT…]: the part of a program of that name, from players.py.
plays() {
    local place=$1 name=$2
    shift 2
    ip netns exec "$place" python3 "$here/players.py" "$name" "$@" &
    started+=($!)
}

# watches ARGUMENT…: tcp-trace, on the server's side.
watches() {
    "$tcp_trace" "$@" --netns "$server"
}
