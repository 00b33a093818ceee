#!/bin/bash
# Builds Kubernetes 1.20.2 from Debian's source package: build.sh FOLDER; FOLDER/bin has the programs then. Some six
# minutes on two cores, 4 GB. Nothing of this host changes: Go and kubectl are unpacked, not installed.
set -euo pipefail
work=$1
mkdir -p "$work"/{lists/partial,cache/archives/partial,bin,debs,root}
cd "$work"

mirror=$(awk '/^URIs:/ { print $2; exit }' /etc/apt/sources.list.d/debian.sources)
cat >source.sources <<S
Types: deb-src
URIs: $mirror
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
S
apt=(-o "Dir::Etc::sourcelist=$work/source.sources" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
apt-get "${apt[@]}" update -qq
apt-get "${apt[@]}" source --download-only -qq kubernetes=1.20.5+really1.20.2-1.1+deb12u1
rm -rf path && mkdir -p path/src/k8s.io
tar xzf kubernetes_1.20*.orig.tar.gz && mv kubernetes-1.20.2 path/src/k8s.io/kubernetes
# kubectl collides with other packages of it, and another Go may be there: both stay in the folder.
(cd debs && apt-get -o APT::Sandbox::User=root download -qq golang-1.19-go golang-1.19-src kubernetes-client)
for package in debs/*.deb; do dpkg-deb -x "$package" root; done
rm -rf go && mkdir go && cp -a root/usr/share/go-1.19/. go/ && cp -a root/usr/lib/go-1.19/bin go/
rm -rf go/pkg && cp -a root/usr/lib/go-1.19/pkg go/ && rm -f go/pkg/include && cp -a root/usr/share/go-1.19/pkg/include go/pkg/
cp root/usr/bin/kubectl bin/kubectl

export GOROOT=$work/go GOPATH=$work/path GO111MODULE=off GOCACHE=$work/cache/go GOFLAGS='' CGO_ENABLED=0 HOME=/root
export PATH=$work/go/bin:$PATH
cd path/src/k8s.io/kubernetes
# The source package comes without its generated OpenAPI, which the API server cannot do without.
go build -o "$work/bin/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
inputs=$(grep -rl '+k8s:openapi-gen=' --include=*.go vendor/k8s.io/ pkg staging 2>/dev/null \
    | grep -v '_test.go\|/kube-openapi/\|/code-generator/\|/sample-\|zz_generated' \
    | sed 's#^staging/src/##; s#^vendor/##' | xargs -n1 dirname | sort -u | sed 's#^pkg#k8s.io/kubernetes/pkg#' | paste -sd,)
"$work/bin/openapi-gen" --v 0 --logtostderr -i "$inputs" --output-package k8s.io/kubernetes/pkg/generated/openapi \
    -O zz_generated.openapi -h /dev/null -r "$work/openapi.report" -o "$work/generated"
cp "$work/generated/k8s.io/kubernetes/pkg/generated/openapi/zz_generated.openapi.go" pkg/generated/openapi/
version='-X k8s.io/component-base/version.gitVersion=v1.20.2 -X k8s.io/component-base/version.gitMajor=1'
version="$version -X k8s.io/component-base/version.gitMinor=20"
for program in kubelet kube-apiserver kube-controller-manager kube-scheduler; do
    nice -n 15 go build -ldflags "-s -w $version" -o "$work/bin/$program" "k8s.io/kubernetes/cmd/$program"
    echo "built $program"
done
