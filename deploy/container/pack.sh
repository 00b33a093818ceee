#!/bin/bash
# Makes a container image of a folder, without any container engine:
#
#   deploy/container/pack.sh FOLDER NAME:TAG OUT.tar CONFIG-JSON
#
# An OCI image layout of one layer, with Docker's own manifest beside it. The same folder gives the same bytes.
set -euo pipefail
[ $# -eq 4 ] || { echo "usage: $0 FOLDER NAME:TAG OUT.tar CONFIG-JSON" >&2; exit 2; }
folder=$1 tag=$2 out=$3 config_json=$4
case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
    *) arch=$(uname -m) ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/blobs/sha256"

archive() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$1" -cf "$2" "${@:3}"; }
# Moves a file to where its content says that it belongs; prints digest and size.
blob() {
    local digest size
    digest=$(sha256sum "$1" | cut -d' ' -f1) size=$(stat -c %s "$1")
    mv "$1" "$work/blobs/sha256/$digest"
    echo "$digest $size"
}

archive "$folder" "$work/layer" .
content=$(sha256sum "$work/layer" | cut -d' ' -f1)
gzip -n "$work/layer"
read -r layer layer_size < <(blob "$work/layer.gz")

cat >"$work/config" <<JSON
{"architecture":"$arch","os":"linux","created":"1970-01-01T00:00:00Z","config":$config_json,
"rootfs":{"type":"layers","diff_ids":["sha256:$content"]},"history":[{"created":"1970-01-01T00:00:00Z"}]}
JSON
read -r config config_size < <(blob "$work/config")

cat >"$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$config_size},
"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:$layer","size":$layer_size}]}
JSON
read -r manifest manifest_size < <(blob "$work/manifest")

echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci-layout"
cat >"$work/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",
"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest","size":$manifest_size,
"platform":{"architecture":"$arch","os":"linux"},
"annotations":{"io.containerd.image.name":"$tag","org.opencontainers.image.ref.name":"${tag##*:}"}}]}
JSON
# What Docker reads where it knows no OCI layouts.
echo "[{\"Config\":\"blobs/sha256/$config\",\"RepoTags\":[\"$tag\"],\"Layers\":[\"blobs/sha256/$layer\"]}]" \
    >"$work/manifest.json"
archive "$work" "$out" oci-layout index.json manifest.json blobs
echo "$tag: $out, $(stat -c %s "$out") bytes; manifest sha256:$manifest" >&2
