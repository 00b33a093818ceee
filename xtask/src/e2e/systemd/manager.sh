# Becomes systemd's manager of services: manager.sh RUNTIME-FOLDER, as root, in a mount namespace of its own.
set -e
runtime=$1
# In cgroups of its own: the manager moves all processes of the one that it is started in.
for hierarchy in $(awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts); do
    # One of cpusets takes no process before it has been given CPUs; the manager does not use it.
    mkdir -p "$hierarchy/tt-e2e-systemd" && (echo $$ >"$hierarchy/tt-e2e-systemd/cgroup.procs") 2>/dev/null || true
done
# Where /run is no mount, units with API file systems of their own get an empty one.
mountpoint -q /run || mount --bind /run /run
# It asks whether the machine was booted by systemd, and keeps what hides files there.
mount -t tmpfs none /run/systemd
mkdir -p /run/systemd/system /run/systemd/inaccessible
cd /run/systemd/inaccessible
touch reg && mkdir dir && mkfifo fifo && mknod chr c 0 0 && mknod blk b 0 0
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
chmod 000 reg dir fifo chr blk sock
cd /
export XDG_RUNTIME_DIR=$runtime XDG_CONFIG_HOME=$runtime/config HOME=$runtime SYSTEMD_UNIT_PATH=$runtime/units:
unset DBUS_SESSION_BUS_ADDRESS NOTIFY_SOCKET
exec /lib/systemd/systemd --user --unit=basic.target
