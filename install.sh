#!/bin/sh
# Install Transom on a device, change its version, or take it away: sudo sh install.sh
# Usage: install.sh --help
#
# It lies in a checkout or an unpacked source archive, and takes the unit and the locked requirements
# from there. Each version has a virtual environment of its own, /opt/transom/VERSION-DIGEST, and the
# link /opt/transom/current leads to the one that serves. The link is turned when the new version has
# accepted the configuration and the state; where it does not get ready, the link is turned back.
set -eu
umask 022                    # the service's user must be able to read it
unset PYTHONPATH PYTHONHOME  # or modules of whoever calls this would pass for installed ones

usage() {
    cat <<'END'
Usage: sudo sh install.sh [--wheel FILE] [--from FOLDER] [--ribbon-camera] [--no-start] [--dry-run]
       sudo sh install.sh --back
       sudo sh install.sh --uninstall [--purge]

Without an option it installs the checkout in which it lies, or brings a device to that version. What
is there already is left as it is: the configuration, the credentials, the state.

  --wheel FILE     this wheel of Transom, whichever version it is, instead of the checkout
  --from FOLDER    what is needed comes from the wheels in this folder, not from the internet; so does
                   Transom itself where --wheel does not say which
  --ribbon-camera  for picamera:0: Raspberry Pi OS's picamera2, and libcamera's devices in the unit
  --no-start       neither start nor restart the service
  --back           to the version that served before
  --uninstall      take program and unit away; configuration and state stay
  --purge          with --uninstall: configuration, credentials, events, pictures and bundles too
  --dry-run        say what would be done, and do nothing
  --root DIR       everything below DIR instead of /, and no systemctl: to look at what is laid

Example, on a device without internet, from the folder that `pip download` has filled elsewhere:
  sudo sh install.sh --from /media/stick/wheels
END
}

say() { echo "transom: $*"; }
fail() {
    echo "install.sh: $*" >&2
    exit 1
}
run() { # command...
    if [ "$dry_run" = yes ]; then echo "would run: $*"; else "$@"; fi
}
service() { # arguments of systemctl...
    if [ -z "$root" ]; then run systemctl "$@"; fi
}
is_active() { [ -z "$root" ] && systemctl --quiet is-active transom.service 2>/dev/null; }

# ---------------------------------------------------------------- what is asked for

parse() { # arguments...
    action=install wheel="" folder="" ribbon=no start=yes purge=no dry_run=no root=""
    while [ $# -gt 0 ]; do
        case "$1" in
        --wheel | --from | --root)
            [ -n "${2:-}" ] || { echo "install.sh: $1 needs a value; see --help" >&2; exit 2; }
            case "$1" in
            --wheel) wheel=$(absolute "$2") ;;
            --from) folder=$(absolute "$2") ;;
            --root) root=$(readlink -m "$2") ;;
            esac
            shift
            ;;
        --ribbon-camera) ribbon=yes ;;
        --no-start) start=no ;;
        --back) action=back ;;
        --uninstall) action=uninstall ;;
        --purge) purge=yes ;;
        --dry-run) dry_run=yes ;;
        -h | --help) usage; exit 0 ;;
        *) echo "install.sh: no such option: $1; see --help" >&2; exit 2 ;;
        esac
        shift
    done
    [ "$root" != / ] || root=""
    if [ "$purge" = yes ] && [ "$action" != uninstall ]; then
        echo "install.sh: --purge goes with --uninstall" >&2
        exit 2
    fi
    here=$(cd "$(dirname "$0")" && pwd)
    opt=$root/opt/transom
    etc=$root/etc/transom
    units=$root/etc/systemd/system
    state=$root/var/lib/transom
    config=$etc/transom.toml
    devices=$units/transom.service.d/libcamera.conf
    # A device that has it keeps it.
    [ ! -e "$devices" ] || ribbon=yes
}
absolute() { # path
    [ -e "$1" ] || fail "$1: there is no such file or folder"
    readlink -f "$1"
}

# ---------------------------------------------------------------- the machine

python=${PYTHON:-python3}

check_machine() {
    if [ "$dry_run" = no ] && [ -z "$root" ] && [ "$(id -u)" != 0 ]; then
        fail "this must be run by root: sudo sh $0"
    fi
    [ -n "$root" ] || check_systemd
    command -v "$python" >/dev/null || fail "there is no $python; install it: sudo apt-get install python3-venv"
    "$python" -c 'import sys; sys.exit(sys.maxsize < 2**32)' ||
        fail "Transom needs a 64-bit system, this one has 32 bits; write a card with Raspberry Pi OS (64-bit)"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Transom needs Python 3.11 or later, $python is $("$python" -V); Debian 12 and Raspberry Pi OS 12 have it"
}
check_systemd() {
    [ -d /run/systemd/system ] ||
        fail "systemd does not run here; in a container or elsewhere use pip (docs/install.md)"
    version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 252 ] ||
        fail "the unit needs systemd 252 or later, this is ${version:-unknown}; Debian 12 and Raspberry Pi OS 12 have it"
}
debian_packages() { # names...
    [ -z "$root" ] || fail "install first: $*"
    say "installing Debian's $*"
    run apt-get update -qq
    run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# ---------------------------------------------------------------- which version

# Sets $name, of a folder below /opt/transom: the same name is the same files.
name_version() {
    if [ -z "$wheel" ] && [ -n "$folder" ]; then
        wheel=$(find "$folder" -maxdepth 1 -name 'transom-*.whl' | sort -V | tail -n 1)
        [ -n "$wheel" ] || fail "$folder: holds no wheel of Transom (transom-*.whl)"
    fi
    if [ -n "$wheel" ]; then
        version=$(basename "$wheel" | sed -n 's/^transom-\([^-]*\)-py3-none-any\.whl$/\1/p')
        [ -n "$version" ] || fail "$wheel: no wheel of Transom; it must be called transom-VERSION-py3-none-any.whl"
    else
        version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$here/transom/__init__.py")
        [ -n "$version" ] || fail "$here/transom/__init__.py: says no version; is this a whole checkout?"
    fi
    name=$version-$(digest | cut -c 1-8)
}
digest() {
    {
        if [ -n "$wheel" ]; then cat "$wheel"; else sources | sort -z | xargs -0 cat; fi
        cat "$here/requirements/device.txt" "$here/systemd/transom.service"
        echo "$ribbon"
    } | sha256sum
}
sources() {
    find "$here/pyproject.toml" "$here/transom" "$here/edge_runtime" "$here/fleet" "$here/train" \
        "$here/export" "$here/demo" -type f -not -path '*/__pycache__/*' -print0
}

# ---------------------------------------------------------------- its environment

make_environment() {
    new=$opt/$name
    if [ -e "$new/.complete" ] && "$new/bin/transom" --version >/dev/null 2>&1; then
        say "$name is there already"
        return
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null || debian_packages python3-venv
    [ "$ribbon" = no ] || "$python" -c 'import picamera2' 2>/dev/null || debian_packages python3-picamera2
    say "installing $version into $new; on a Pi this takes some minutes"
    run rm -rf "$new"
    run install -d -m 755 "$opt"
    scratch=$(mktemp -d)
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [ "$ribbon" = yes ]; then
        run "$python" -m venv --system-site-packages "$new"
    else
        run "$python" -m venv "$new"
    fi
    # The digests also keep out what a Pi's second index has built anew under the same name.
    pip install --only-binary :all: --require-hashes --no-deps -r "$here/requirements/device.txt"
    if [ -n "$wheel" ]; then pip install --no-deps "$wheel"; else install_checkout; fi
    run install -m 644 "$here/systemd/transom.service" "$here/systemd/libcamera.conf" "$new/"
    run touch "$new/.complete"
}
leave() {
    rm -rf "$scratch"
    [ "$dry_run" = yes ] || [ -e "$new/.complete" ] || rm -rf "$new"
}
pip() { # arguments...
    if [ -n "$folder" ]; then
        run "$new/bin/python" -m pip --quiet --disable-pip-version-check "$@" --no-index --find-links "$folder"
    else
        run "$new/bin/python" -m pip --quiet --disable-pip-version-check "$@"
    fi
}
install_checkout() {
    # From a copy: a build leaves files behind, and here they would be root's.
    (cd "$here" && cp -r pyproject.toml README.md LICENSE transom edge_runtime fleet train export demo "$scratch/")
    pip install --no-deps "$scratch"
}

# ---------------------------------------------------------------- configuration

configure() {
    run install -d -m 755 "$etc" "$etc/trusted_keys"
    [ ! -e "$config" ] || return 0
    # Asks what it must know, where somebody is there to answer.
    if [ "$dry_run" = no ] && [ -t 0 ] && [ -t 1 ] && "$new/bin/transom" setup --help >/dev/null 2>&1; then
        say "there is no configuration yet; Ctrl-C leaves the example to be edited"
        trap : INT # it ends the questions, not the installation
        "$new/bin/transom" setup --config "$config" || true
        trap 'exit 130' INT
    fi
    [ -e "$config" ] || run install -m 644 "$here/systemd/transom.toml" "$config"
}
is_example() { [ ! -e "$config" ] || cmp -s "$here/systemd/transom.toml" "$config"; }

# ---------------------------------------------------------------- the turn

# A version that cannot read the configuration or the state does not get the device.
accept() { # name
    [ "$dry_run" = no ] || return 0
    "$opt/$1/bin/transom" check "$config" >/dev/null ||
        fail "$1 does not accept $config or the state; nothing was changed. Mend what it names and run this again"
}
turn_to() { # name
    run install -d -m 755 "$units" "$root/usr/local/bin"
    run sync # what the link leads to must be on the card before the link is
    run ln -sfn "$1" "$opt/.current"
    run mv -T "$opt/.current" "$opt/current"
    run install -m 644 "$opt/$1/transom.service" "$units/transom.service"
    run ln -sfn /opt/transom/current/bin/transom "$root/usr/local/bin/transom"
    service daemon-reload
}
lay_devices() { # name
    run install -D -m 644 "$opt/$1/libcamera.conf" "$devices"
}
take_devices() {
    [ -e "$devices" ] || return 0
    run rm -f "$devices"
    rmdir "$(dirname "$devices")" 2>/dev/null || true # where nothing of the device's owner is in it
}
switch() { # name
    before=$(readlink "$opt/current" 2>/dev/null || true)
    had_devices=no
    [ ! -e "$devices" ] || had_devices=yes
    [ "$ribbon" = no ] || lay_devices "$1"
    turn_to "$1"
    if ! started; then
        [ -z "$root" ] && journalctl --unit transom.service --lines 20 --no-pager --output cat >&2
        if [ -z "$before" ] || [ "$before" = "$1" ]; then
            fail "$1 is installed and did not get ready; see above, and: transom doctor --config $config"
        fi
        say "$1 did not get ready; going back to $before"
        if [ "$had_devices" = yes ]; then lay_devices "$before" || true; else take_devices; fi
        turn_to "$before"
        service restart transom.service || true
        fail "$1 did not get ready, see above; $before serves again, configuration and state are as they were"
    fi
    [ -z "$before" ] || [ "$before" = "$1" ] || run ln -sfn "$before" "$opt/previous"
}
# Is true where nothing had to be started, too.
started() {
    if [ "$start" = no ] || [ -n "$root" ] || is_example; then return 0; fi
    service --quiet enable transom.service
    say "starting; ready when each camera was seen or is known to be away"
    service restart transom.service
}
remove_older() {
    for old in "$opt"/*/; do
        old=$(basename "$old")
        case "$old" in
        current | previous | "$(readlink "$opt/current")" | "$(readlink "$opt/previous" || true)") ;;
        [0-9]*) run rm -rf "${opt:?}/$old" ;;
        esac
    done
}
report() {
    if [ "$dry_run" = yes ]; then
        say "nothing was done"
    elif is_example; then
        say "$name is installed. Now edit $config and run:"
        say "  sudo transom check $config && sudo systemctl enable --now transom"
        say "the broker's password: sudo install -m 600 /dev/stdin $etc/mqtt-password, type it, Enter, Ctrl-D"
    elif is_active; then
        say "$(readlink "$opt/current") serves; what it does: journalctl -u transom"
    else
        say "$(readlink "$opt/current") is installed and not started: sudo systemctl enable --now transom"
    fi
}

# ---------------------------------------------------------------- the three actions

install_version() {
    check_machine
    name_version
    make_environment
    configure
    accept "$name"
    if [ "$(readlink "$opt/current" 2>/dev/null)" = "$name" ] && is_active &&
        cmp -s "$new/transom.service" "$units/transom.service"; then
        say "$name serves already"
        return
    fi
    switch "$name"
    [ "$dry_run" = yes ] || remove_older
    report
}

back() {
    check_machine
    name=$(readlink "$opt/previous" 2>/dev/null) || fail "$opt/previous: there is no version to go back to"
    "$opt/$name/bin/transom" --version >/dev/null 2>&1 || fail "$opt/$name does not run any more; install that version again"
    accept "$name"
    switch "$name"
    report
}

# What the script has laid; with --purge what the daemon kept counts too.
is_anything_there() {
    [ ! -e "$opt" ] && [ ! -e "$units/transom.service" ] && [ ! -L "$root/usr/local/bin/transom" ] || return 0
    [ "$purge" = yes ] || return 1
    for kept in "$etc" "$state" "$root/var/lib/private/transom" "$units/transom.service.d"; do
        [ ! -e "$kept" ] || return 0
    done
    return 1
}
uninstall() {
    [ "$dry_run" = yes ] || [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "this must be run by root: sudo sh $0"
    if ! is_anything_there; then
        say "nothing is here that this script has installed"
        [ ! -e "$root/usr/lib/transom" ] || say "the Debian package goes by: sudo apt-get remove transom"
        return
    fi
    if [ -e "$units/transom.service" ]; then
        service --quiet disable --now transom.service
        run rm -f "$units/transom.service"
    fi
    run rm -rf "$opt"
    if [ -L "$root/usr/local/bin/transom" ]; then run rm -f "$root/usr/local/bin/transom"; fi
    if [ "$purge" = yes ]; then
        # systemd keeps the state of a user that exists only while it runs below private/.
        run rm -rf "$etc" "$state" "$root/var/lib/private/transom" "$units/transom.service.d"
    fi
    service daemon-reload
    if [ "$dry_run" = yes ]; then
        say "nothing was done"
    elif [ "$purge" = yes ]; then
        say "Transom and all that it kept are gone"
    else
        say "Transom is gone; $etc and $state stay (--uninstall --purge removes them too)"
    fi
}

parse "$@"
case "$action" in
install) install_version ;;
back) back ;;
uninstall) uninstall ;;
esac
