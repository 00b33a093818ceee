#!/bin/bash
# Makes a container image of tcp-trace, without any container engine:
#
#   deploy/container/build.sh [--binary FILE] [--tag NAME:TAG] OUT.tar
#
# OUT.tar is what `podman load`, `docker load` and `ctr images import` take. The program is alone in it with the licences
# and an example of its configuration, and needs no other file.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
binary='' tag='' out=''
while [ $# -gt 0 ]; do
    case $1 in
        --binary) binary=$2; shift 2 ;;
        --tag) tag=$2; shift 2 ;;
        -*) echo "usage: $0 [--binary FILE] [--tag NAME:TAG] OUT.tar" >&2; exit 2 ;;
        *) out=$1; shift ;;
    esac
done
[ -n "$out" ] || { echo "usage: $0 [--binary FILE] [--tag NAME:TAG] OUT.tar" >&2; exit 2; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -1)
tag=${tag:-localhost/tcp-trace:$version}
case $(uname -m) in
    x86_64) arch=amd64 triple=x86_64-unknown-linux-gnu ;;
    aarch64) arch=arm64 triple=aarch64-unknown-linux-gnu ;;
    *) echo "error: no image for $(uname -m)" >&2; exit 1 ;;
esac

# With a --target of its own, so that build scripts and macros are built as ever.
if [ -z "$binary" ]; then
    target=${CARGO_TARGET_DIR:-$root/target}
    (cd "$root" && CARGO_PROFILE_RELEASE_STRIP=debuginfo \
        RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static' \
        cargo build --release --locked --target "$triple" --package tcp-trace --bin tcp-trace)
    binary=$target/$triple/release/tcp-trace
fi
if ldd "$binary" >/dev/null 2>&1; then
    echo "error: $binary needs shared libraries, which the image does not have; leave --binary out to have it built" >&2
    exit 1
fi

rootfs=$(mktemp -d)
trap 'rm -rf "$rootfs"' EXIT
mkdir -p "$rootfs/usr/bin" "$rootfs/usr/share/doc/tcp-trace" "$rootfs/etc/tcp-trace"
install -m 755 "$binary" "$rootfs/usr/bin/tcp-trace"
install -m 644 "$root"/LICENSE-* "$rootfs/usr/share/doc/tcp-trace/"
install -m 644 "$root/deploy/config/agent.toml" "$rootfs/etc/tcp-trace/agent.toml"
"$root/deploy/container/pack.sh" "$rootfs" "$tag" "$out" \
    '{"Entrypoint":["/usr/bin/tcp-trace"],"Cmd":["agent","--config","/etc/tcp-trace/agent.toml"],"Env":["PATH=/usr/bin"],
"Labels":{"org.opencontainers.image.title":"tcp-trace","org.opencontainers.image.version":"'"$version"'",
"org.opencontainers.image.licenses":"MIT OR Apache-2.0"}}'
