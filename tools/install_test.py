"""Install Transom in a booted Debian, upgrade it, go back, take it away; `make install-test`.

Usage: python -m tools.install_test [--work build/install]

debootstrap makes a Debian 12 once; each run boots a fresh copy of it under its own systemd
(systemd-nspawn, a kernel and clock that it shares with this computer, no network), and
`tools/device_install.py` does in it what a device's owner would. Its words are kept in WORK/log;
exits 1 where anything is not as it must be. Needs root, and for the packages a Debian 12 itself.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools import deb, wheel
from tools.power_cuts.image import VM, offer_two_bundles, restless_door
from transom import __version__

PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv"
LIMIT_S = 3600
SAMPLES = "\n[samples]\n"
QUICK = {"DPKG_DEB_COMPRESSOR_TYPE": "gzip", "DPKG_DEB_COMPRESSOR_LEVEL": "1"}
"""What is handed out is smaller; here it is unpacked once and thrown away."""
PLATFORMS = ("manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_27_x86_64",
             "manylinux_2_28_x86_64", "manylinux_2_34_x86_64")  # fmt: skip
VERSIONS = {
    "current": __version__,
    "next": f"{__version__}.post1",
    "broken": f"{__version__}.post2",
    "changed": f"{__version__}.post3",
}
UNIT = """[Unit]
Description=Installs Transom, and looks
After=basic.target dbus.service
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /src/tools/device_install.py
StandardOutput=journal+console
StandardError=journal+console
"""


def main() -> None:
    """Make what is installed, boot, read what the machine said."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=wheel.ROOT / "build" / "install")
    work = parser.parse_args().work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    root = debian(work, PACKAGES)
    wheels = wheels_of_a_device(work)
    packages = versions(work, wheels)
    with wheel.sources("HEAD") as folder:
        binds = {"/src": folder, "/wheels": wheels, "/packages": packages}
        boot(root, binds, work / "log", UNIT, "--private-network")
    if "  all well" not in (work / "log").read_text("utf-8", errors="replace"):
        sys.exit(f"{work / 'log'}: see what is not as it must be")


def debian(work: Path, packages: str) -> Path:
    """Make a Debian 12, once; return its root.

    Args:
        work: Where it is made.
        packages: What it has beyond the least, with commas.
    """
    root, is_made = work / "root", work / "root.made"
    if not is_made.exists():
        shutil.rmtree(root, ignore_errors=True)
        mirror = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
        command = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm"]
        subprocess.run([*command, root, mirror], check=True)
        is_made.touch()
    return root


def wheels_of_a_device(work: Path) -> Path:
    """Fetch what a device needs, as the lock names it, once; return the folder."""
    wheels, lock = work / "wheels", wheel.ROOT / "requirements" / "device.txt"
    fetched = wheels / "lock.txt"
    if not fetched.exists() or fetched.read_bytes() != lock.read_bytes():
        shutil.rmtree(wheels, ignore_errors=True)
        platforms = [word for one in PLATFORMS for word in ("--platform", one)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                   "--require-hashes", "--only-binary=:all:", "--python-version", "3.11",
                   *platforms, "--dest", str(wheels), "--requirement", str(lock)]  # fmt: skip
        subprocess.run(command, check=True)
        shutil.copy(lock, fetched)
    return wheels


def versions(work: Path, wheels: Path) -> Path:
    """Build the versions of `tools/device_install.py`; return the folder of all but the wheels.

    Args:
        work: Where the packages are put.
        wheels: Where the wheels are put, beside what they need; the packages take that from there.
    """
    packages = work / "packages"
    shutil.rmtree(packages, ignore_errors=True)
    (packages / "etc").mkdir(parents=True)
    for old in wheels.glob("transom-*.whl"):
        old.unlink()
    os.environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), **QUICK}
    for kind in VERSIONS:
        with wheel.sources("HEAD") as folder:
            change(folder, kind)
            wheel.build_from(folder, wheels, wheel.time_of("HEAD"))
            if kind in ("current", "next"):
                deb.build(folder, packages, wheel.time_of("HEAD"))
    (packages / "versions.json").write_text(json.dumps(VERSIONS))
    zone = restless_door(packages / "etc" / "clip.mp4")
    (packages / "etc" / "transom.toml").write_text((VM / "cut.toml").read_text() + zone + SAMPLES)
    offer_two_bundles(work, packages, packages)
    return packages


def change(folder: Path, kind: str) -> None:
    """Make a version of `tools/device_install.py` out of the sources in a folder."""
    replace(folder / "transom" / "__init__.py", f'"{__version__}"', f'"{VERSIONS[kind]}"')
    if kind == "broken":
        replace(folder / "edge_runtime" / "serve.py", "    check_state_format(state)\n",
                '    raise SystemExit("ends before it is ready, on purpose")\n')  # fmt: skip
    if kind == "changed":
        replace(folder / "edge_runtime" / "state_format.py", "FORMAT = 1\n", "FORMAT = 2\n")


def replace(path: Path, old: str, new: str) -> None:
    """Replace what stands in a file once.

    Raises:
        ValueError: It does not.
    """
    text = path.read_text("utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{path}: {old!r} stands there {text.count(old)} times, must once")
    path.write_text(text.replace(old, new), "utf-8")


def boot(
    root: Path,
    binds: dict[str, Path],
    log: Path,
    unit: str,
    *options: str,
    hear: Callable[[str], None] = lambda _: None,
) -> None:
    """Boot a copy of a root, let it try everything, and keep what it says.

    Args:
        root: What is copied; it stays as it is.
        binds: Folders of this computer by their place there, to be read only.
        log: The file that gets all that is said.
        unit: The text of the unit that is started.
        options: More for systemd-nspawn.
        hear: Is told each line.
    """
    machine = log.parent / "machine"
    shutil.rmtree(machine, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", root, machine], check=True)
    (machine / "etc" / "systemd" / "system" / "install-test.service").write_text(unit)
    command = ["timeout", str(LIMIT_S), "systemd-nspawn", "--quiet", "--register=no", "--keep-unit",
               "--directory", str(machine), "--machine", "transom-install", *options,
               *(f"--bind-ro={there}:{here}" for here, there in binds.items()),
               "--boot", "systemd.unit=install-test.service", "systemd.show_status=no"]  # fmt: skip
    with log.open("wb") as file, subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as running:  # fmt: skip
        for line in running.stdout or ():
            file.write(line)
            said = line.decode(errors="replace")
            print(said, end="", flush=True)
            hear(said)
    shutil.rmtree(machine, ignore_errors=True)


if __name__ == "__main__":
    main()
