#!/bin/sh
# Install the system packages that a make target needs, where this user may; else say which.
# Usage: system-packages.sh venv|demo|test|vm|deb|install-test|container|tutorial|arm64
set -eu

python=${PYTHON:-python3}

missing=""
need() { # command package
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}

case "$1" in
venv)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
    ;;
demo)
    need mosquitto mosquitto
    ;;
test)
    need mosquitto mosquitto
    need mosquitto_sub mosquitto-clients
    need ffmpeg ffmpeg
    need systemd-analyze systemd
    need git git
    need strace strace
    need shellcheck shellcheck
    need ip iproute2
    need iptables iptables
    need chromium chromium
    # Debian keeps the server's programs out of the search path.
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need initdb postgresql
    ;;
vm)
    need debootstrap debootstrap
    need qemu-system-x86_64 qemu-system-x86
    need mke2fs e2fsprogs
    ;;
deb | install-test)
    need dpkg-buildpackage dpkg-dev
    need dh debhelper
    need lintian lintian
    /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
    [ "$1" = deb ] || need debootstrap debootstrap
    [ "$1" = deb ] || need systemd-nspawn systemd-container
    ;;
container)
    need debootstrap debootstrap
    need buildah buildah
    ;;
tutorial)
    need debootstrap debootstrap
    need systemd-nspawn systemd-container
    ;;
arm64)
    need debootstrap debootstrap
    need qemu-aarch64-static qemu-user-static
    need update-binfmts binfmt-support
    ;;
*)
    echo "usage: $0 venv|demo|test|vm|deb|install-test|container|tutorial|arm64" >&2
    exit 2
    ;;
esac

[ -z "$missing" ] && exit 0

# Words of $missing are package names: splitting is meant.
# shellcheck disable=SC2086
if [ "$(id -u)" = 0 ]; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null && exit 0
elif sudo -n true 2>/dev/null; then
    sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null && exit 0
fi

echo "install first: sudo apt-get install$missing" >&2
# The demo has a broker of its own to fall back on; nothing else can go on without.
[ "$1" = demo ]
