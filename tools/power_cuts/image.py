"""The disk that a machine begins with: Transom, a door that never rests, two bundles on offer."""

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from train.scenes import Move, generate_clip
from transom.bundle import read_bundle, write_bundle
from transom.signing import load_private_key, new_key
from transom.starter import STARTER, bundle_path, starter_keys

ROOT = Path(__file__).resolve().parents[2]
VM = ROOT / "systemd" / "vm"
CLIP_S = 32.0


def make_disk(work: Path) -> Path:
    """Make the machine's disk: the one of `make vm`, with work to do.

    Returns:
        The disk's file.
    """
    subprocess.run(["sh", VM / "image.sh", work, sys.executable], check=True)
    root, offered = work / "root", work / "root" / "opt" / "offered"
    shutil.rmtree(offered, ignore_errors=True)
    offered.mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "device_cut.py", root / "opt")
    shutil.copy(VM / "transom-cut.service", root / "etc" / "systemd" / "system")
    configuration = root / "etc" / "transom"
    configuration.joinpath("transom.toml").write_text(
        (VM / "cut.toml").read_text() + restless_door(configuration / "clip.mp4")
    )
    offer_two_bundles(work, offered, configuration / "trusted_keys")
    disk = work / "cut-disk"
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(4 * 2**30)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, disk], check=True)
    return disk


def restless_door(clip: Path) -> str:
    """Draw a door that opens and shuts all the time; return its zone as configuration."""
    moves = [
        Move("door", start_s, 0.5, "closed" if number % 2 else "open")
        for number, start_s in enumerate(range(3, int(CLIP_S) - 2, 4))
    ]
    truth = generate_clip(clip, seed=10_001, seconds=CLIP_S, fps=4, size=(320, 240), script=moves)
    polygon = [list(point) for point in truth.zones["door"].points]
    return f'\n[[cameras.zones]]\nname = "door"\npolygon = {polygon}\n'


def offer_two_bundles(work: Path, offered: Path, trusted: Path) -> None:
    """Sign the starter's network twice, under two names, with a key that the machine trusts."""
    key = work / "cut.pem"
    for path in (key, key.with_suffix(".pub")):
        path.unlink(missing_ok=True)
    new_key(key)
    shutil.copy(key.with_suffix(".pub"), trusted)
    starter = read_bundle(bundle_path(STARTER), starter_keys())
    for sequence, name in enumerate(("first", "second"), 1):
        write_bundle(
            offered / f"{name}.bundle",
            manifest=msgspec.structs.replace(starter.manifest, name=name, sequence=sequence),
            model=starter.model,
            goldens=starter.goldens,
            report=starter.report,
            key=load_private_key(key),
        )
