"""Run the device's half on aarch64, emulated, and compare it with this machine.

Usage: python tools/arm64.py [--root build/arm64] [--cpu cortex-a72 --cpu cortex-a76]

Makes a Debian root for arm64 (debootstrap), puts the wheels into it that a Pi installs, and runs
`tools/device_check.py` there under qemu-user, as a Cortex-A72 (Pi 4) and a Cortex-A76 (Pi 5), and
here. Exits 1 unless the network's outputs are the same to the last bit, the goldens are within
their tolerance, and a clip gives the same transitions at the same times. Emulation is right for
what is computed and says nothing about speed. Needs root and binfmt_misc; see `make arm64`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from train.scenes import generate_clip

ROOT = Path(__file__).resolve().parent.parent
SUITE = "bookworm"
PYTHON = "3.11"
"""Of that suite: the wheels must be for it."""
GLIBC = 36
"""Minor version of the suite's glibc 2: wheels for newer ones do not load."""
CPUS = {
    "cortex-a72": ("0xd08", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": (
        "0xd0b",
        "fp asimd evtstrm crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc asimddp",
    ),
}
"""By qemu's name, part number and features: what such a board's /proc/cpuinfo says, which decides
the kernels that onnxruntime takes."""
CLIP_S = 24.0
NOISE_CROPS = 12

CONFIG = """
device = "check"
state_directory = "/tmp/state"
[mqtt]
host = "localhost"
[models]
[[cameras]]
name = "hall"
source = "file:clip.mp4"
fps = 5
"""


def main() -> None:
    """Make the root, run, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT / "build" / "arm64")
    parser.add_argument("--cpu", action="append", choices=list(CPUS), help="may be given again")
    arguments = parser.parse_args()
    root: Path = arguments.root.resolve()
    register_qemu()
    timed("root", lambda: make_root(root))
    timed("wheels", lambda: install_wheels(root))
    timed("case", lambda: write_case(root / "opt" / "case"))
    copy_code(root / "opt" / "transom")
    here = timed("x86-64", lambda: check_here(root / "opt" / "case"))
    good = True
    for cpu in arguments.cpu or CPUS:
        write_processor(root, cpu)
        there = timed(cpu, lambda cpu=cpu: check_there(root, cpu))
        good = report(cpu, here, there) and good
    raise SystemExit(0 if good else 1)


def timed(what: str, work: Any) -> Any:
    """Do something and say how long it took."""
    began = time.monotonic()
    found = work()
    print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)
    return found


def register_qemu() -> None:
    """Have the kernel run arm64 programs by qemu-user, where it does not yet."""
    if os.geteuid() != 0:
        raise SystemExit("tools/arm64.py: must be run by root, who may make and enter a root")
    formats = Path("/proc/sys/fs/binfmt_misc")
    if not (formats / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", formats], check=True)
    if not (formats / "qemu-aarch64").exists():
        subprocess.run(["update-binfmts", "--enable", "qemu-aarch64"], check=True)


def make_root(root: Path) -> None:
    """Install a small Debian for arm64; does nothing where it is there already."""
    if (root / "opt" / "made").exists():
        return
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    packages = "python3-minimal,libpython3-stdlib"
    subprocess.run(
        ["debootstrap", "--arch=arm64", "--variant=minbase", f"--include={packages}", SUITE, root],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (root / "opt" / "made").touch()


def install_wheels(root: Path) -> None:
    """Put what the base install needs, as aarch64 wheels, beside the root's Python."""
    target = root / "opt" / "site"
    if target.exists():
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest_first = range(GLIBC, 16, -1)
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in newest_first]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"),
            *(*platforms, "--platform=manylinux2014_aarch64"),
            *(f"--target={target}", *project["dependencies"]),
        ],
        check=True,
    )


def write_processor(root: Path, cpu: str) -> None:
    """Let the root's /proc and /sys, which are plain folders, say which processor this is."""
    part, features = CPUS[cpu]
    fields = {
        "processor": "0",
        "BogoMIPS": "108.00",
        "Features": features,
        "CPU implementer": "0x41",
        "CPU architecture": "8",
        "CPU variant": "0x0",
        "CPU part": part,
        "CPU revision": "3",
    }
    lines = "".join(f"{name}\t: {value}\n" for name, value in fields.items())
    (root / "proc" / "cpuinfo").write_text(lines)
    cores = root / "sys" / "devices" / "system" / "cpu"
    cores.mkdir(parents=True, exist_ok=True)
    for name in ("possible", "present"):
        (cores / name).write_text("0\n")


def write_case(case: Path) -> None:
    """Draw a clip of a room, write its configuration, and some crops of noise."""
    if (case / "transom.toml").exists():
        return
    case.mkdir(parents=True, exist_ok=True)
    truth = generate_clip(case / "clip.mp4", seed=10_001, seconds=CLIP_S, fps=10)
    zones = "".join(
        f'[[cameras.zones]]\nname = "{name}"\npolygon = {[list(p) for p in zone.points]}\n'
        for name, zone in truth.zones.items()
    )
    noise = np.random.default_rng(0).integers(0, 256, (NOISE_CROPS, 128, 128, 3), np.uint8)
    np.save(case / "crops.npy", noise)
    (case / "transom.toml").write_text(CONFIG + zones)


def copy_code(target: Path) -> None:
    """Copy what a device has of this repository."""
    shutil.rmtree(target, ignore_errors=True)
    for name in ("transom", "edge_runtime"):
        shutil.copytree(ROOT / name, target / name)
    shutil.copy(ROOT / "tools" / "device_check.py", target)


def check_here(case: Path) -> dict[str, Any]:
    """Run the check on this machine."""
    command = [sys.executable, str(ROOT / "tools" / "device_check.py"), str(case)]
    return answer(command, dict(os.environ))


def check_there(root: Path, cpu: str) -> dict[str, Any]:
    """Run it in the root, as this processor."""
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": "/opt/transom:/opt/site",
        "QEMU_CPU": cpu,
        "OMP_NUM_THREADS": "1",
    }
    command = ["chroot", str(root), "/usr/bin/python3", "/opt/transom/device_check.py", "/opt/case"]
    return answer(command, environment)


def answer(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Run a check and return what it says."""
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def report(cpu: str, here: dict[str, Any], there: dict[str, Any]) -> bool:
    """Say how the two compare; return whether they are alike."""
    alike = True
    for name, digest in here["sha256"].items():
        is_same = there["sha256"][name] == digest
        alike &= is_same
        ours, theirs = (np.asarray(side["logits"][name]) for side in (here, there))
        rows = int((ours == theirs).all(axis=1).sum())
        print(
            f"  {cpu} {name}: {rows} of {len(ours)} rows the same to the last bit, largest "
            f"difference {np.abs(ours - theirs).max():.3g}"
        )
    is_same = here["events"] == there["events"]
    count = len(there["events"])
    print(f"  {cpu} replay: {count} transitions, {'as' if is_same else 'NOT as'} here")
    for ours, theirs in zip(here["events"], there["events"], strict=False):
        if ours != theirs:
            print(f"    here {ours}, there {theirs}")
    seconds = ", ".join(f"{name} {value:.0f}" for name, value in there["seconds"].items())
    print(f"  {cpu} onnxruntime {there['onnxruntime']}; seconds since its start: {seconds}")
    return alike and is_same


if __name__ == "__main__":
    main()
