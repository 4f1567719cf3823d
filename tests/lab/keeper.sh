# The keeper of one lab: process 1 of a process namespace of its own, with mount and network namespaces of
# its own. All that a lab consists of lives in these three, so that the kernel removes everything, whatever
# the cause, once this process ends. It ends when its stdin is closed: that is the lease its owner holds.
#
# arguments: the cached root, the folder with this lab's own files, the name of its control group
set -eu
root=$1 stage=$2 group=/sys/fs/cgroup/$3

mount --make-rprivate /
mount -t tmpfs -o mode=755 run /run
mkdir /run/netns /run/lab
# systemd in the boxes wants the unified hierarchy. Where the machine has another layout, show it here only.
if [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi

# The keeper's own network is the router between the boxes. A router that stops forwarding drops packets in
# silence, which is what a cut cable looks like from the far end.
ip link set lo up
subnet=0
for node in edge nas; do
    subnet=$((subnet + 1))
    ip netns add "$node"
    ip link add "to-$node" type veth peer name eth0 netns "$node"
    ip addr add "10.97.$subnet.1/24" dev "to-$node"
    ip link set "to-$node" up
    ip -n "$node" link set lo up
    ip -n "$node" addr add "10.97.$subnet.2/24" dev eth0
    ip -n "$node" link set eth0 up
    ip -n "$node" route add default via "10.97.$subnet.1"
done
echo 1 >/proc/sys/net/ipv4/ip_forward

for node in edge nas; do
    mkdir -p "/run/lab/$node" "/run/lab/upper-$node" "/run/lab/work-$node" "$group/$node"
    mount -t overlay overlay "/run/lab/$node" \
        -o "lowerdir=$stage/$node:$root,upperdir=/run/lab/upper-$node,workdir=/run/lab/work-$node"
    (
        # nspawn makes the box's groups below the one it is started in: each box needs its own.
        echo 0 >"$group/$node/cgroup.procs"
        # It ends when the box reboots, or when a test kills its process 1: as a power cut. Up again, then.
        while true; do
            systemd-nspawn --quiet --boot --register=no --keep-unit --directory="/run/lab/$node" \
                --machine="$node" --network-namespace-path="/run/netns/$node" \
                --resolv-conf=off --timezone=off --link-journal=no --console=pipe || true
            sleep 0.1 # so that one that cannot boot at all does not take a whole core
        done
    ) </dev/null &
done
read -r _ || true
