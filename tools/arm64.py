"""Run the device's half on aarch64, emulated, and compare it with this machine.

Usage: python tools/arm64.py [--root build/arm64] [--cpu cortex-a72 --cpu cortex-a76]

Makes a Debian root for arm64 (debootstrap), puts the wheels into it that a Pi installs, and runs
`tools/device_check.py` there under qemu-user, as a Cortex-A72 (Pi 4) and a Cortex-A76 (Pi 5), and
here. Exits 1 unless

- the goldens are within their tolerance, the logits and the embedding the same to the last bit, and
  the distance, a sum whose order each processor's matrix routine chooses, the same but for that;
- a clip without loss, which gives every processor the same pictures, gives the same messages at the
  same times, and as sure to half a per cent: where OpenCV averages areas (`crop_zone`), its sums
  round differently on each processor, and a pixel of a crop may be one level apart;
- the clip as a camera would compress it gives the same transitions, each at most a frame apart:
  FFmpeg's own arithmetic is another on each processor (docs/export.md).

Emulation is right for what is computed and says nothing about speed. Needs root and binfmt_misc;
see `make arm64`.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from train.scenes import generate_clip
from transom.bundle import read_bundle
from transom.manifest import DISTANCE
from transom.starter import STARTER, bundle_path, starter_keys

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
FPS = 5
NOISE_CROPS = 12
DISTANCE_TOLERANCE = 1e-6
"""Relative, and absolute in a network's own unit, in which distances are of the order of one."""

SURE_TOLERANCE = 0.005
"""How far apart a confidence may be: about that of one level in some pixels of a crop."""
CONFIDENCE = re.compile(r'(?<="confidence":)[0-9.e-]+')

Finding = tuple[bool, list[str]]
"""Whether two processors are alike in something, and the words for it."""

CONFIG = """
device = "check"
state_directory = "/tmp/state"
[mqtt]
host = "localhost"
[models]
[[cameras]]
name = "hall"
source = "file:clip.mp4"
fps = %d
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
    """Write crops of noise, as large as the starter wants them, a clip and its configuration."""
    case.mkdir(parents=True, exist_ok=True)
    size = read_bundle(bundle_path(STARTER), starter_keys()).manifest.input.size
    noise = np.random.default_rng(0).integers(0, 256, (NOISE_CROPS, size, size, 3), np.uint8)
    np.save(case / "crops.npy", noise)
    if (case / "clip.mkv").exists():
        return
    truth = generate_clip(case / "clip.mp4", seed=10_001, seconds=CLIP_S, fps=2 * FPS)
    zones = "".join(
        f'[[cameras.zones]]\nname = "{name}"\npolygon = {[list(p) for p in zone.points]}\n'
        for name, zone in truth.zones.items()
    )
    (case / "transom.toml").write_text(CONFIG % FPS + zones)
    write_without_loss(case / "clip.mp4", case / "clip.mkv")


def write_without_loss(clip: Path, target: Path) -> None:
    """Write the pictures of a clip that the daemon looks at, so that all decode the same (FFV1)."""
    reader = cv2.VideoCapture(str(clip))
    keys = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    width, height = (int(reader.get(key)) for key in keys)
    codec = cv2.VideoWriter.fourcc(*"FFV1")
    writing = target.with_stem("writing")
    writer = cv2.VideoWriter(str(writing), cv2.CAP_FFMPEG, codec, float(FPS), (width, height))
    if not writer.isOpened():
        raise SystemExit(f"{target}: OpenCV has no encoder for FFV1 here")
    while (found := reader.read())[0]:
        writer.write(found[1])
        reader.grab()  # the clip has two pictures for each look
    writer.release()
    writing.rename(target)


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
    findings = [
        *(compare_output(name, here, there) for name in here["logits"]),
        compare_messages(here["messages"], there["messages"]),
        compare_transitions(here["transitions"], there["transitions"]),
    ]
    for name, ours in here["levels"].items():
        brighter = np.subtract(there["levels"][name], ours)
        shown = ", ".join(f"{level:+.2f}" for level in brighter)
        print(f"  {cpu} {name}: mean levels of blue, green, red {shown} against here")
    for _, lines in findings:
        print(*(f"  {cpu} {line}" for line in lines), sep="\n")
    seconds = ", ".join(f"{name} {value:.0f}" for name, value in there["seconds"].items())
    print(f"  {cpu} onnxruntime {there['onnxruntime']}; seconds since its start: {seconds}")
    return all(is_alike for is_alike, _ in findings)


def compare_output(name: str, here: dict[str, Any], there: dict[str, Any]) -> Finding:
    """Compare one output of the network, (N, C), over all crops."""
    ours, theirs = (np.asarray(side["logits"][name]) for side in (here, there))
    rows = int((ours == theirs).all(axis=1).sum())
    is_alike = (
        np.allclose(theirs, ours, DISTANCE_TOLERANCE, DISTANCE_TOLERANCE)
        if name == DISTANCE
        else here["sha256"][name] == there["sha256"][name]
    )
    return bool(is_alike), [
        f"{name}: {rows} of {len(ours)} rows the same to the last bit, largest difference "
        f"{np.abs(ours - theirs).max():.3g}{'' if is_alike else ': TOO MUCH'}"
    ]


def compare_messages(ours: list[Any], theirs: list[Any]) -> Finding:
    """Compare (second, topic, payload) of a replay of the same pictures."""
    pairs = list(zip_longest(ours, theirs))
    apart = [messages_apart(one, other) for one, other in pairs]
    differing = [pair for pair, far in zip(pairs, apart, strict=True) if far > SURE_TOLERANCE]
    equal = sum(one == other for one, other in pairs)
    said = f"{equal} byte for byte, confidences at most {max(apart, default=0.0):.4f} apart"
    if differing:
        said = f"{len(differing)} NOT as here"
    lines = [f"replay of equal pictures: {len(theirs)} messages, {said}"]
    return not differing, lines + [f"  here {one}, there {other}" for one, other in differing]


def messages_apart(one: Any, other: Any) -> float:
    """Return how far the confidences of two messages are apart; inf = they differ in more."""
    if one is None or other is None or one[:2] != other[:2]:
        return math.inf
    if one == other:
        return 0.0
    (ours, our_rest), (theirs, their_rest) = (_confidences(text) for _, _, text in (one, other))
    if our_rest != their_rest or len(ours) != len(theirs):
        return math.inf
    return max((abs(a - b) for a, b in zip(ours, theirs, strict=True)), default=math.inf)


def _confidences(payload: str) -> tuple[list[float], str]:
    """Return the confidences of a payload in their order, and what is left of it."""
    return [float(found) for found in CONFIDENCE.findall(payload)], CONFIDENCE.sub("", payload)


def compare_transitions(ours: list[Any], theirs: list[Any]) -> Finding:
    """Compare (second, topic, type, state) of a replay in which each decoded the video itself."""
    pairs = list(zip_longest(ours, theirs))
    differing = [pair for pair in pairs if pair[0] != pair[1]]
    is_alike = all(
        one is not None
        and other is not None
        and one[1:] == other[1:]
        and abs(one[0] - other[0]) <= 1.001 / FPS
        for one, other in pairs
    )
    said = f"{len(differing)} one frame apart" if is_alike else "NOT as here"
    lines = [f"replay of a video: {len(theirs)} transitions, {said}"]
    return is_alike, lines + [f"  here {one}, there {other}" for one, other in differing]


if __name__ == "__main__":
    main()
