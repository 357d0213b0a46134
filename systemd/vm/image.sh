#!/bin/sh
# Make the files of a Debian machine with Transom, its unit and mosquitto, installed as a user would.
# Usage: image.sh WORK-FOLDER PYTHON   (root is needed for debootstrap)
#
# They lie in WORK-FOLDER/root. Debian is fetched once, Transom is installed anew each time.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
work=$1
python=$2
root=$work/root
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
site=$root/opt/transom/current/lib/python3.11/site-packages
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
mkdir -p "$root/opt/transom/current/bin" "$root/etc/transom/trusted_keys"
ln -s /usr/bin/python3 "$root/opt/transom/current/bin/python"
printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n' \
    > "$root/opt/transom/current/pyvenv.cfg"
cat > "$root/opt/transom/current/bin/transom" <<'EOF'
#!/opt/transom/current/bin/python
import sys
from transom.cli import entry
sys.exit(entry())
EOF
chmod 755 "$root/opt/transom/current/bin/transom"

cp "$project/systemd/transom.service" "$root/etc/systemd/system/"
printf 'listener 1883 127.0.0.1\nallow_anonymous true\n' > "$root/etc/mosquitto/conf.d/house.conf"
printf 'transom-test\n' > "$root/etc/hostname"
printf '127.0.0.1 localhost\n' > "$root/etc/hosts"
