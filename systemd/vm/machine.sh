#!/bin/sh
# Become a running machine: QEMU without hardware help (TCG), no network, its console on stdout.
# Usage: machine.sh WORK-FOLDER DISK UNIT [WORD-FOR-THE-KERNEL...]
#
# The machine's clock counts its instructions, one a nanosecond, about what a Pi 3 does, and jumps
# where the machine has nothing to do. So however slow or busy this computer is, nothing in there
# is late: the unit runs with its own timeouts, and a minute of the watchdog's takes seconds. Where
# it waits for its disk the clock jumps too, so the disk must not wait for this computer's
# (`cache=unsafe`); what was written to it outlives QEMU, however that ends.
# Its processor has no FMA: QEMU computes each of those by itself, and a network in float32 takes
# ten times as long as with what the Nehalem had.
# It boots into UNIT alone: no logins, no timers, nothing that a Pi's owner would not miss here.
set -eu

root=$1/root
disk=$2
unit=$3
shift 3
cat "$disk" > /dev/null  # into this computer's memory
exec qemu-system-x86_64 -nodefaults -no-user-config -no-reboot \
    -display none -serial stdio -m 1536 -cpu Nehalem,+rdrand -accel tcg -icount shift=0,sleep=off -rtc clock=vm \
    -kernel "$root/vmlinuz" -initrd "$root/initrd.img" \
    -append "root=/dev/vda rw console=ttyS0 quiet mitigations=off nowatchdog audit=0 panic=-1 \
systemd.show_status=no systemd.unit=$unit $*" \
    -drive "file=$disk,format=raw,if=virtio,cache=unsafe" < /dev/null
