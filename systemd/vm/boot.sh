#!/bin/sh
# Boot a Debian machine with a camera, install the unit as a user would, and look what it does.
# Usage: boot.sh WORK-FOLDER PYTHON   (root is needed for debootstrap; no network in the machine)
#
# QEMU without hardware help (TCG), Debian's own kernel with `vivid`, a camera made of software, and
# mosquitto. What is looked at is in `check.sh`; its words and the journal end in WORK-FOLDER/log.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
work=$1
python=$2
root=$work/root
log=$work/log
packages=systemd,systemd-sysv,udev,dbus,kmod,linux-image-amd64,python3,mosquitto,mosquitto-clients
mkdir -p "$work"

if [ ! -e "$work/root.made" ]; then
    rm -rf "$root"
    debootstrap --variant=minbase --include=$packages bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
    touch "$work/root.made"
fi

# The machine's Python is 3.11; the wheels must be for it, whatever runs here.
rm -rf "$root/opt/transom"
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --only-binary :all: \
    --python-version 3.11 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
    --platform manylinux_2_27_x86_64 --platform manylinux_2_34_x86_64 \
    --target "$root/opt/transom/lib" \
    "numpy<2.5" opencv-python-headless "onnxruntime>=1.24.4" "paho-mqtt>=2.1,<3" msgspec \
    cryptography click safetensors
cp -r "$project/transom" "$project/edge_runtime" "$root/opt/transom/lib/"
mkdir -p "$root/opt/transom/bin" "$root/etc/transom/trusted_keys"
cat > "$root/opt/transom/bin/transom" <<'EOF'
#!/usr/bin/python3
import sys
sys.path.insert(0, "/opt/transom/lib")
from transom.cli import entry
sys.exit(entry())
EOF
chmod 755 "$root/opt/transom/bin/transom"

cp "$project/systemd/transom.service" "$root/etc/systemd/system/"
cp "$here/transom.toml" "$root/etc/transom/"
cp "$here/check.sh" "$root/opt/check.sh"
cp "$here/transom-check.service" "$root/etc/systemd/system/"
printf 'listener 1883 127.0.0.1\nallow_anonymous true\n' > "$root/etc/mosquitto/conf.d/house.conf"
printf 'transom-test\n' > "$root/etc/hostname"
# A machine without hardware help is many times slower; all but these waits is the unit's own.
mkdir -p "$root/etc/systemd/system/transom.service.d"
printf '[Service]\nTimeoutStartSec=%s\nWatchdogSec=%s\n' "${START_S:-600}" "${WATCHDOG_S:-60}" \
    > "$root/etc/systemd/system/transom.service.d/test.conf"
ln -sf /etc/systemd/system/transom-check.service "$root/etc/systemd/system/multi-user.target.wants/"

rm -f "$work/disk"
truncate -s 4G "$work/disk"
mke2fs -q -t ext4 -d "$root" "$work/disk"

timeout "${BOOT_LIMIT_S:-2400}" qemu-system-x86_64 -nographic -no-reboot -m 1536 -smp 2 -cpu max \
    -accel tcg -nic none -kernel "$root/vmlinuz" -initrd "$root/initrd.img" \
    -append "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=no" \
    -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe" < /dev/null 2>&1 | tee "$log"
grep -q 'transom-check: all well' "$log"
