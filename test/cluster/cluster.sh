#!/usr/bin/env bash
# Runs a command beside a fresh one-node Kubernetes cluster and exits with the command's status.
#
#   cluster.sh BIN IMAGES COMMAND [ARGUMENT...]     (called by with-cluster.ts; IMAGES are archives, one a line)
#
# The script starts itself a second time in mount, PID and network namespaces of its own: every port, address, socket and bridge
# name is private, so they are constants, clusters run side by side, and with the end of the command every process, mount and
# interface goes. What is left to remove is the work folder and the control groups. Both are also removed, for a cluster that
# was killed, by the next one that starts: a lock on the folder, held by every process of the cluster, says that it lives.
set -euo pipefail
say() { echo "# cluster: $*" >&2; }

if [ -z "${KUBE_WORK:-}" ]; then
  groups=$(findmnt -rno TARGET -t cgroup,cgroup2 || true)
  [ -n "$groups" ] || { say "no control groups are mounted below /sys/fs/cgroup"; exit 1; }
  forget() { # FOLDER
    local id="juicepod-kube-${1##*.}" group try
    for group in $groups; do
      for try in {1..100}; do
        [ -d "$group/$id" ] || break
        find "$group/$id" -depth -type d -exec rmdir {} + 2> /dev/null || sleep 0.1
      done
    done
    rm -rf --one-file-system "$1"
  }
  for old in "${TMPDIR:-/tmp}"/juicepod-kube.??????; do
    if [ -d "$old" ] && (flock --nonblock 8) 8< "$old"; then forget "$old"; fi
  done
  export KUBE_BIN=$1 KUBE_IMAGES=$2
  shift 2
  KUBE_WORK=$(mktemp -d "${TMPDIR:-/tmp}/juicepod-kube.XXXXXX")
  export KUBE_WORK KUBE_ID=juicepod-kube-${KUBE_WORK##*.}
  exec 9< "$KUBE_WORK"
  flock 9
  for group in $groups; do
    # Version 2 hands a controller down only where the parent says so.
    [ ! -e "$group/cgroup.controllers" ] || sed 's/[^ ]*/+&/g' "$group/cgroup.controllers" > "$group/cgroup.subtree_control" 2> /dev/null || true
    mkdir "$group/$KUBE_ID"
  done
  setpriv --pdeathsig KILL unshare --mount --pid --net --fork --kill-child --mount-proc --propagation private \
    bash "$0" "$@" <&0 &
  node=$!
  trap 'kill -KILL $node 2> /dev/null || true' TERM INT HUP # unshare ignores TERM and INT
  status=0
  wait $node || status=$?
  while kill -0 $node 2> /dev/null; do wait $node 2> /dev/null || true; done
  trap '' TERM INT HUP
  if [ -n "${JUICEPOD_CLUSTER_LOGS:-}" ]; then
    mkdir -p "$JUICEPOD_CLUSTER_LOGS"
    cp "$KUBE_WORK"/log/*.log "$JUICEPOD_CLUSTER_LOGS" || true
  fi
  exec 9<&-
  forget "$KUBE_WORK"
  exit $status
fi

# From here on: PID 1 of the new namespaces. The paths are short whatever TMPDIR is: a socket's name has 107 characters at most.
work=/run/kube address=10.244.0.1 here=$PWD
mount -t tmpfs tmpfs /run
mkdir $work
mount --bind "$KUBE_WORK" $work
mkdir $work/{pki,log,cni,var,varwork}
# Nothing is written to the machine's own /var.
mount -t overlay overlay -o lowerdir=/var,upperdir=$work/var,workdir=$work/varwork /var
mount --make-rshared / # for mountPropagation: Bidirectional
cd $work
ip link set lo up
ip link add cni0 type bridge
ip addr add $address/24 dev cni0
ip link set cni0 up
ip route add default dev cni0 # service addresses need a route before kube-proxy's rules see them
[ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229

certificate() { # NAME SUBJECT [OPTION...]
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -keyout pki/$1.key -out pki/$1.crt -subj "$2" "${@:3}" 2> /dev/null
}
signed() { certificate "$@" -CA pki/ca.crt -CAkey pki/ca.key; }
client() { # NAME SUBJECT
  signed "$1" "$2"
  cat > $1.kubeconfig << Y
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://$address:6443", certificate-authority: $work/pki/ca.crt}}]
users: [{name: u, user: {client-certificate: $work/pki/$1.crt, client-key: $work/pki/$1.key}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
Y
}
certificate ca /CN=kube-ca
signed apiserver /CN=kube-apiserver -addext "subjectAltName=DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$address,IP:10.96.0.1"
signed kubelet-server /CN=node1 -addext "subjectAltName=DNS:node1,IP:$address"
client admin /O=system:masters/CN=admin
client manager /CN=system:kube-controller-manager
client scheduler /CN=system:kube-scheduler
client proxy /CN=system:kube-proxy
client kubelet /O=system:nodes/CN=system:node:node1
openssl pkey -in pki/ca.key -pubout -out pki/ca.pub 2> /dev/null
export KUBE_WORK=$work KUBECONFIG=$work/admin.kubeconfig PATH=$KUBE_BIN:$PATH

cat > containerd.toml << Y
version = 2
root = "$work/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/busybox:1"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$work/cni"
Y
cat > cni/10-bridge.conflist << Y
{"cniVersion": "1.0.0", "name": "bridge", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
 "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
Y
# Nothing beyond the node can be reached: with no resolver, names fail at once instead of timing out.
cat > kubelet.yaml << Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $address
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$KUBE_ID
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
evictionHard: {memory.available: 100Mi}
imageGCHighThresholdPercent: 100
# A container that is killed every 5 s is to be there every 5 s: the kubelet's own pause grows to five minutes.
crashLoopBackOff: {maxContainerRestartPeriod: 2s}
resolvConf: ""
clusterDomain: cluster.local
tlsCertFile: $work/pki/kubelet-server.crt
tlsPrivateKeyFile: $work/pki/kubelet-server.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $work/pki/ca.crt}}
authorization: {mode: Webhook}
Y

start() { # NAME COMMAND...
  local log=log/$1.log
  shift
  "$@" >> "$log" 2>&1 < /dev/null &
  echo $! > "${log%.log}.pid"
}
wait_for() { # for a minute
  local try
  for try in {1..600}; do
    "$@" > /dev/null 2>&1 && return
    sleep 0.1
  done
  say "gave up waiting for: $*"
  tail -n 5 log/*.log >&2
  return 1
}
# What the node itself runs, apart: restart-node.sh starts it anew.
cat > node.sh << 'Y'
start_containerd() { start containerd containerd -c containerd.toml; }
start_kubelet() {
  start kubelet kubelet --config=kubelet.yaml --kubeconfig=kubelet.kubeconfig --hostname-override=node1 --node-ip=$address --root-dir="$work/kubelet" --v=2
}
Y
# The node as a reset leaves it: nothing that it ran lives on, nothing is mounted, what was in /run is gone, and its disk is as it was.
{
  echo "set -euo pipefail; work=$work address=$address KUBE_ID=$KUBE_ID; cd \$work; export PATH=$KUBE_BIN:\$PATH"
  declare -f say start wait_for
  cat << 'Y'
. ./node.sh
kill -9 $(cat log/kubelet.pid) $(cat log/containerd.pid)
for each in /proc/[0-9]*; do
  # PIDs of this cluster alone are seen here.
  if [ "$(cat $each/comm 2> /dev/null)" = containerd-shim ] || grep -q /kubepods $each/cgroup 2> /dev/null; then kill -9 ${each#/proc/} 2> /dev/null || true; fi
done
mounts() { awk '{print $5}' /proc/self/mountinfo | grep -E "^($work/kubelet|/run/containerd|/run/netns)/" | sort -r; }
for try in {1..100}; do
  [ -n "$(mounts)" ] || break
  mounts | xargs -r -n 1 umount -l 2> /dev/null || true
done
rm -rf /run/containerd/* /run/netns/*
# The kubelet would look at each group that is left for seconds.
groups=$(findmnt -rno TARGET -t cgroup,cgroup2)
for try in {1..50}; do
  left=
  for group in $groups; do
    [ ! -d "$group/$KUBE_ID/kubepods" ] || find "$group/$KUBE_ID/kubepods" -depth -type d -exec rmdir {} + 2> /dev/null || left=$group
  done
  [ -n "$left" ] || break
  sleep 0.1
done
start_containerd
wait_for ctr version
start_kubelet
Y
} > restart-node.sh
export JUICEPOD_E2E_RESTART_NODE=$work/restart-node.sh
. ./node.sh
start_containerd
start etcd etcd --data-dir etcd --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379
start apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address=$address --secure-port=6443 \
  --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --client-ca-file=pki/ca.crt \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=pki/ca.pub --service-account-signing-key-file=pki/ca.key \
  --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged \
  --kubelet-client-certificate=pki/admin.crt --kubelet-client-key=pki/admin.key --kubelet-certificate-authority=pki/ca.crt \
  --kubelet-preferred-address-types=InternalIP
wait_for ctr version
while read -r image; do
  ctr -n k8s.io image import "$image" > log/import.log 2>&1 || { say "cannot import $image"; cat log/import.log >&2; exit 1; }
done <<< "$KUBE_IMAGES"
wait_for kubectl get --raw /readyz
# At its default of 20 requests a second the manager needs 4 s to start its controllers.
start manager kube-controller-manager --kubeconfig=manager.kubeconfig --leader-elect=false --secure-port=0 \
  --service-account-private-key-file=pki/ca.key --root-ca-file=pki/ca.crt --use-service-account-credentials --kube-api-qps=500 --kube-api-burst=500
start scheduler kube-scheduler --kubeconfig=scheduler.kubeconfig --leader-elect=false --secure-port=0
start proxy kube-proxy --kubeconfig=proxy.kubeconfig --hostname-override=node1 --cluster-cidr=10.244.0.0/24 --proxy-mode=iptables --conntrack-max-per-core=0
start_kubelet
wait_for kubectl wait --for=condition=Ready node/node1 --timeout=30s
wait_for kubectl get serviceaccount default
say "ready after $SECONDS s"
unset KUBE_IMAGES
cd "$here"
"$@" # not exec: this shell reaps orphans
