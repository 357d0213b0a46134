#!/bin/sh
# Boot a Debian machine with a camera, install the unit as a user would, and look what it does.
# Usage: boot.sh WORK-FOLDER PYTHON   (root is needed for debootstrap; no network in the machine)
#
# QEMU without hardware help (TCG), Debian's own kernel with `vivid`, a camera made of software, and
# mosquitto. What is looked at is in `check.sh`; its words and the journal end in WORK-FOLDER/log.
#
# The machine's clock counts its instructions, one a nanosecond, about what a Pi 3 does, and jumps
# where the machine has nothing to do. So however slow or busy this computer is, nothing in there
# is late: the unit runs with its own timeouts, and a minute of the watchdog's takes seconds.
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
    # Only what finds the disk: unpacking every driver costs more than all the rest of the boot.
    sed -i 's/^MODULES=.*/MODULES=list/' "$root/etc/initramfs-tools/initramfs.conf"
    printf 'virtio_pci\nvirtio_blk\next4\n' >> "$root/etc/initramfs-tools/modules"
    chroot "$root" update-initramfs -u
    touch "$work/root.made"
fi

# The machine's Python is 3.11; the wheels must be for it, whatever runs here.
site=$root/opt/transom/lib/python3.11/site-packages
rm -rf "$root/opt/transom"
"$python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    --python-version 3.11 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
    --platform manylinux_2_27_x86_64 --platform manylinux_2_34_x86_64 \
    --target "$site" \
    "numpy<2.5" opencv-python-headless "onnxruntime>=1.24.4" "paho-mqtt>=2.1,<3" msgspec \
    cryptography click safetensors
cp -r "$project/transom" "$project/edge_runtime" "$site/"
"$python" -m compileall -q "$site/transom" "$site/edge_runtime"
# A virtual environment, as `python3 -m venv` makes it.
mkdir -p "$root/opt/transom/bin" "$root/etc/transom/trusted_keys"
ln -s /usr/bin/python3 "$root/opt/transom/bin/python"
printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n' \
    > "$root/opt/transom/pyvenv.cfg"
cat > "$root/opt/transom/bin/transom" <<'EOF'
#!/opt/transom/bin/python
import sys
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
printf '127.0.0.1 localhost\n' > "$root/etc/hosts"
rm -f "$work/disk"
truncate -s 4G "$work/disk"
mke2fs -q -t ext4 -d "$root" "$work/disk"

# Booted into the check itself: no logins, no timers, nothing that a Pi's owner would not miss here.
timeout "${BOOT_LIMIT_S:-2400}" qemu-system-x86_64 -nodefaults -no-user-config -no-reboot \
    -display none -serial stdio -m 1536 -cpu max -accel tcg -icount shift=0,sleep=off -rtc clock=vm \
    -kernel "$root/vmlinuz" -initrd "$root/initrd.img" \
    -append "root=/dev/vda rw console=ttyS0 quiet mitigations=off nowatchdog audit=0 panic=-1 \
systemd.show_status=no systemd.unit=transom-check.service" \
    -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe" < /dev/null 2>&1 | tee "$log"
grep -q 'transom-check: all well' "$log"
