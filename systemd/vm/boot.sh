#!/bin/sh
# Boot a Debian machine with a camera, install the unit as a user would, and look what it does.
# Usage: boot.sh WORK-FOLDER PYTHON   (root is needed for debootstrap; no network in the machine)
#
# Debian's own kernel with `vivid`, a camera made of software, and mosquitto (`image.sh`), in QEMU
# (`machine.sh`). What is looked at is in `check.sh`; its words and the journal end in
# WORK-FOLDER/log.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=$1
root=$work/root
log=$work/log

sh "$here/image.sh" "$work" "$2"
cp "$here/transom.toml" "$root/etc/transom/"
cp "$here/check.sh" "$root/opt/check.sh"
cp "$here/transom-check.service" "$root/etc/systemd/system/"
rm -f "$work/disk"
truncate -s 4G "$work/disk"
mke2fs -q -t ext4 -d "$root" "$work/disk"

timeout "${BOOT_LIMIT_S:-7200}" \
    sh "$here/machine.sh" "$work" "$work/disk" transom-check.service 2>&1 | tee "$log"
grep -q 'transom-check: all well' "$log"
