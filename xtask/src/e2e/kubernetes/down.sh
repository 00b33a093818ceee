#!/bin/bash
# Takes away what up.sh has made: down.sh FOLDER. Processes by the ids that it noted.
work=$1
state=/run/tt-e2e-kubernetes
ctr=(ctr -a "$state/containerd/containerd.sock" -n k8s.io)
stop() { kill "$(cat "$work/pids/$1")" 2>/dev/null; }

for name in kubelet scheduler controllers apiserver etcd; do stop $name; done
sleep 2
for task in $("${ctr[@]}" tasks ls -q 2>/dev/null); do "${ctr[@]}" tasks kill -s 9 "$task"; done
sleep 2
for task in $("${ctr[@]}" tasks ls -q 2>/dev/null); do "${ctr[@]}" tasks rm -f "$task" >/dev/null; done
for container in $("${ctr[@]}" containers ls -q 2>/dev/null); do "${ctr[@]}" containers rm "$container"; done
stop containerd
sleep 1
for mount in $(awk '{ print $2 }' /proc/mounts | grep -F -e "$work/" -e "$state/" | sort -ru); do umount -l "$mount"; done
for link in $(ip -br link show master tte2e0 2>/dev/null | cut -d@ -f1); do ip link del "$link"; done
ip link del tte2e0 2>/dev/null
while IFS== read -r name value; do echo "$value" >"/proc/sys/$name"; done <"$work/sysctls"
find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} \; 2>/dev/null
# The kubelet's links to logs that are gone now, and the logs of pods.
find /var/log/containers -maxdepth 1 -type l -lname '/var/log/pods/*' -delete 2>/dev/null
rm -rf /var/log/pods/{shop,tcp-trace}_*
rmdir /var/log/containers /var/log/pods 2>/dev/null
rm -rf "$state" "$work"
true
