#!/bin/sh
# Installs the system packages of the named groups (tools/packages.txt) that this machine lacks; installs nothing else.
# As a plain user it only says what is missing, and with which command to get it. Exit code 3: something is missing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "install.sh: not a Debian or Ubuntu machine: see tools/packages.txt for what is needed" >&2
    exit 0
fi

wanted=
for group in "$@"; do
    names=$(sed -n "s/^$group  *//p" "$here/packages.txt")
    [ -n "$names" ] || { echo "install.sh: no group '$group' in tools/packages.txt" >&2; exit 2; }
    wanted="$wanted $names"
done

look() {
    missing=
    for name in $wanted; do
        dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || missing="$missing $name"
    done
    missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
    [ -n "${missing% }" ] || exit 0
}
look

if [ "$(id -u)" != 0 ]; then
    echo "missing system packages: $missing" >&2
    echo "    sudo apt-get install --no-install-recommends $missing" >&2
    exit 3
fi

# Two sessions may want something at one time.
exec 9</var/lib/dpkg
flock 9
look

# INITRD=No: the kernel is only booted by qemu, from this machine's own root; an initial RAM disk takes a minute to build.
export DEBIAN_FRONTEND=noninteractive INITRD=No

# Of a service only the programs are wanted: while these are installed no database is made and nothing is started, and
# afterwards nothing starts with the machine.
policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.d/pycontainer-tests.conf
services=$(printf '%s\n' $missing | grep -x -e postgresql -e redis-server -e docker-registry || true)
if [ -n "$services" ]; then
    mkdir -p "${clusters%/*}"
    echo "create_main_cluster = false" >"$clusters"
    made=$clusters
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made="$made $policy"
    fi
    # shellcheck disable=SC2064 # what was made is known now
    trap "rm -f $made" EXIT
fi

apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
if [ -n "$services" ] && [ -d /run/systemd/system ]; then
    # shellcheck disable=SC2086 # a list of words
    systemctl --quiet disable $services
fi
