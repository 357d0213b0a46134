#!/bin/sh
# Runs inside the booted machine, as root: is the daemon what its unit promises?
# What stands in single quotes is for the shell that `check` runs.
# shellcheck disable=SC2016
set -u
failures=0
say() { echo "transom-check: $*"; }
check() { # words command...
    words=$1
    shift
    if "$@" >/tmp/check.out 2>&1; then
        say "ok   $words"
    else
        failures=$((failures + 1))
        say "FAIL $words"
        cat /tmp/check.out
    fi
}
is_active() { test "$(systemctl is-active transom)" = active; }
restarts() { systemctl show -P NRestarts transom; }
hears() { timeout 120 mosquitto_sub -h 127.0.0.1 -C 1 -t "$1" | grep -q "$2"; }
wait_for() { # seconds command...
    left=$1
    shift
    while [ "$left" -gt 0 ]; do
        "$@" && return 0
        sleep 1
        left=$((left - 1))
    done
    return 1
}

modprobe vivid n_devs=1 node_types=0x1
wait_for 120 test -e /dev/video0
say "kernel $(uname -r), $(systemctl --version | head -1), cameras: $(echo /dev/video*)"
began=$(cut -d. -f1 /proc/uptime)
check "is ready after the first verdict of its camera" systemctl start transom
say "ready $(($(cut -d. -f1 /proc/uptime) - began)) s after its start"
check "is active" is_active
check "runs as a user of its own" sh -c 'test "$(stat -c %u "/proc/$(systemctl show -P MainPID transom)")" -gt 60000'
check "says online" hears transom/hall-pi/status online
check "its camera delivers" hears transom/hall-pi/camera/hall/status online
check "its zone has a state" hears transom/hall-pi/front_door/state '"state"'
check "is in Home Assistant" hears homeassistant/device/transom_hall-pi/config front_door
check "keeps its state directory to itself" sh -c 'test "$(stat -L -c %a /var/lib/transom)" = 700'
check "is exposed by at most 1.5 of 10" systemd-analyze security --threshold=15 --no-pager transom.service
systemd-analyze security --no-pager transom.service | tail -1
systemctl show -P MemoryCurrent transom | sed 's/^/transom-check: memory in bytes /'

before=$(restarts)
kill -STOP "$(systemctl show -P MainPID transom)"
check "is killed by the watchdog when it hangs" wait_for 400 sh -c "test \"\$(systemctl show -P NRestarts transom)\" -gt $before"
check "is active again" wait_for 400 is_active
check "says online again" wait_for 60 hears transom/hall-pi/status online

check "stops within its time" systemctl stop transom
check "says offline when it is stopped" hears transom/hall-pi/status offline
sed -i 's/^host = .*/hots = "localhost"/' /etc/transom/transom.toml
systemctl start transom 2>/dev/null
sleep 10
check "stays down where its configuration is wrong" sh -c 'test "$(systemctl show -P ExecMainStatus transom)" = 78 && test "$(systemctl is-active transom)" = failed'

journalctl -u transom --no-pager -o cat | tail -40 | sed 's/^/journal: /'
if [ "$failures" = 0 ]; then say "all well"; else say "$failures failures"; fi
systemctl poweroff --no-block
