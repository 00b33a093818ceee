#!/bin/bash
# Makes a container image of tcp-trace, without any container engine:
#
#   deploy/container/build.sh [--binary FILE] [--tag NAME:TAG] OUT.tar
#
# OUT.tar is what `podman load`, `docker load` and `ctr images import` take: an OCI image layout with Docker's own
# manifest beside it. There is one file in it besides the licences: the program, which needs no other. The same program
# gives the same bytes.
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
    (cd "$root" && RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static' \
        cargo build --release --locked --target "$triple" --package tcp-trace --bin tcp-trace)
    binary=$target/$triple/release/tcp-trace
fi
if ldd "$binary" >/dev/null 2>&1; then
    echo "error: $binary needs shared libraries, which the image does not have; leave --binary out to have it built" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/rootfs/usr/bin" "$work/rootfs/usr/share/doc/tcp-trace" "$work/rootfs/etc/tcp-trace" "$work/image/blobs/sha256"
install -m 755 "$binary" "$work/rootfs/usr/bin/tcp-trace"
install -m 644 "$root"/LICENSE-* "$work/rootfs/usr/share/doc/tcp-trace/"
install -m 644 "$root/deploy/config/agent.toml" "$work/rootfs/etc/tcp-trace/agent.toml"

archive() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$1" -cf "$2" "${@:3}"; }
# Moves a file to where its content says that it belongs; prints digest and size.
blob() {
    local digest size
    digest=$(sha256sum "$1" | cut -d' ' -f1) size=$(stat -c %s "$1")
    mv "$1" "$work/image/blobs/sha256/$digest"
    echo "$digest $size"
}

archive "$work/rootfs" "$work/layer" .
layer_content=$(sha256sum "$work/layer" | cut -d' ' -f1)
gzip -n "$work/layer"
read -r layer layer_size < <(blob "$work/layer.gz")

cat >"$work/config" <<JSON
{"architecture":"$arch","os":"linux","created":"1970-01-01T00:00:00Z",
"config":{"Entrypoint":["/usr/bin/tcp-trace"],"Cmd":["agent","--config","/etc/tcp-trace/agent.toml"],"WorkingDir":"/",
"Env":["PATH=/usr/bin"],
"Labels":{"org.opencontainers.image.title":"tcp-trace","org.opencontainers.image.version":"$version",
"org.opencontainers.image.licenses":"MIT OR Apache-2.0"}},
"rootfs":{"type":"layers","diff_ids":["sha256:$layer_content"]},"history":[{"created":"1970-01-01T00:00:00Z"}]}
JSON
read -r config config_size < <(blob "$work/config")

cat >"$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$config_size},
"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:$layer","size":$layer_size}]}
JSON
read -r manifest manifest_size < <(blob "$work/manifest")

echo '{"imageLayoutVersion":"1.0.0"}' >"$work/image/oci-layout"
cat >"$work/image/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",
"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest","size":$manifest_size,
"platform":{"architecture":"$arch","os":"linux"},
"annotations":{"io.containerd.image.name":"$tag","org.opencontainers.image.ref.name":"${tag##*:}"}}]}
JSON
# What Docker reads where it knows no OCI layouts.
echo "[{\"Config\":\"blobs/sha256/$config\",\"RepoTags\":[\"$tag\"],\"Layers\":[\"blobs/sha256/$layer\"]}]" \
    >"$work/image/manifest.json"
archive "$work/image" "$out" oci-layout index.json manifest.json blobs
echo "$tag: $out, $(stat -c %s "$out") bytes; manifest sha256:$manifest" >&2
