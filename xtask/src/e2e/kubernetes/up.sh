#!/bin/bash
# One real node of Kubernetes on loopback: up.sh BIN FOLDER IMAGE.tar…; down.sh takes it away again. Needs root, and
# containerd, runc, etcd and the plugins of CNI on this host; none of them may be configured or at work already.
set -euo pipefail
bin=$1 work=$2
shift 2
state=/run/tt-e2e-kubernetes
mkdir -p "$work"/{etcd,pki,kubelet,manifests,logs,cni,pids} "$state"
cd "$work"

# The kubelet changes these.
for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys \
    kernel/keys/root_maxbytes net/ipv4/ip_forward; do
    echo "$name=$(cat "/proc/sys/$name")"
done >sysctls

start() {
    local name=$1
    shift
    setsid nohup "$@" >"logs/$name.log" 2>&1 &
    echo $! >"pids/$name"
}
# Waits until a command succeeds.
await() {
    local what=$1
    shift
    for _ in $(seq 90); do
        "$@" >/dev/null 2>&1 && return
        sleep 1
    done
    echo "error: $what after 90 s; see $work/logs" >&2
    exit 1
}

cat >cni/10-bridge.conflist <<JSON
{"cniVersion":"0.4.0","name":"pods","plugins":[{"type":"bridge","bridge":"tte2e0","isGateway":true,"ipMasq":false,
"ipam":{"type":"host-local","dataDir":"$state/ipam","ranges":[[{"subnet":"198.18.98.0/24"}]],
"routes":[{"dst":"0.0.0.0/0"}]}},{"type":"loopback"}]}
JSON
cat >containerd.toml <<TOML
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  # Some machines let even root not lower it.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$work/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
TOML
socket=$state/containerd/containerd.sock
start containerd containerd -c containerd.toml --root "$work/containerd" --state "$state/containerd" --address "$socket"
await "containerd does not answer" ctr -a "$socket" version
for image in "$@"; do
    ctr -a "$socket" -n k8s.io images import "$image" >/dev/null
done

openssl genrsa -out pki/sa.key 2048 2>/dev/null
openssl rsa -in pki/sa.key -pubout -out pki/sa.pub 2>/dev/null
# Good for this loopback address and this run.
echo 'e2e,admin,admin,"system:masters"' >pki/tokens.csv
start etcd etcd --data-dir etcd --listen-client-urls http://127.0.0.1:22379 \
    --advertise-client-urls http://127.0.0.1:22379 --listen-peer-urls http://127.0.0.1:22380
await "etcd does not answer" curl -sf http://127.0.0.1:22379/health
start apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:22379 --bind-address=127.0.0.1 \
    --advertise-address=127.0.0.1 --secure-port=26443 --insecure-port=0 --cert-dir=pki --token-auth-file=pki/tokens.csv \
    --authorization-mode=AlwaysAllow --service-account-key-file=pki/sa.pub --service-account-signing-key-file=pki/sa.key \
    --service-account-issuer=https://kubernetes.default --service-cluster-ip-range=198.18.97.0/24 --allow-privileged=true \
    --endpoint-reconciler-type=none
cat >kubeconfig <<YAML
apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: "https://127.0.0.1:26443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: e2e}}]
contexts: [{name: e2e, context: {cluster: e2e, user: admin}}]
current-context: e2e
YAML
kubectl() { "$bin/kubectl" --kubeconfig "$work/kubeconfig" "$@"; }
await "the API server is not ready" kubectl get --raw /readyz
start controllers "$bin/kube-controller-manager" --kubeconfig=kubeconfig --leader-elect=false --bind-address=127.0.0.1 \
    --port=0 --cert-dir=pki-controllers --service-account-private-key-file=pki/sa.key --controllers='*,-nodelifecycle'
start scheduler "$bin/kube-scheduler" --kubeconfig=kubeconfig --leader-elect=false --bind-address=127.0.0.1 --port=0 \
    --cert-dir=pki-scheduler
cat >kubelet.yaml <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
readOnlyPort: 0
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
failSwapOn: false
makeIPTablesUtilChains: false
evictionHard: {}
enforceNodeAllocatable: [pods]
staticPodPath: $work/manifests
YAML
start kubelet "$bin/kubelet" --config=kubelet.yaml --kubeconfig=kubeconfig --root-dir="$work/kubelet" \
    --container-runtime=remote --container-runtime-endpoint="unix://$socket" --image-service-endpoint="unix://$socket" \
    --hostname-override=node1 --cert-dir=pki-kubelet --runtime-cgroups=/ --kubelet-cgroups=/
node_is_ready() { kubectl get nodes | grep -q ' Ready'; }
await "the node is not ready" node_is_ready
kubectl get nodes
