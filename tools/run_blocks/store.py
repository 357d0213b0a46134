"""What the pages take for granted: data sets, runs, bundles and keys.

It is made once, and laid where a command names it and it is not there yet.
"""

import csv
import re
import shlex
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tests.docs.blocks import ROOT
from train.scenes import generate_clip
from transom.crop import crop_zone
from transom.dataset import Row, read_dataset

EXAMPLE = ROOT / "systemd" / "transom.toml"
DRAWN = (("doors", 16, 3, 11), ("home", 16, 3, 12), ("data/kinds", 12, 2, 13),
         ("data/hall", 9, 20, 14))  # fmt: skip
"""Data sets: name, groups, pictures of each, seed. Small: it is the commands that are tried."""
YOLO_CLASSES = ("closed", "open")
SECRETS = ("mqtt.secret", "cam.secret", "db-password", "home/.mqtt", "home/.mqtt-password")
WRITTEN = re.compile(
    r"--out[ =](\S+)|transom keys new (\S+)|transom data generate (\S+)|> ?(\S+)"
    r"|transom data import \w+ \S+ (\S+)|transom setup.* --config (\S+)|--pictures (\S+)"
)
"""What a command writes, which is not laid for it."""


class Store:
    """Makes and lays what commands need.

    Args:
        folder: Where it is made; what is there already is not made again.
        data: The folder of photographs, CIFAR-10 and MNIST (TRANSOM_DATA), for imports.
    """

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self._data = data

    def make(self) -> None:
        """Make everything that is not there yet, by the commands a user would type."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, groups, pictures, seed in DRAWN:
            words = ("--groups", str(groups), "--pictures", str(pictures), "--seed", str(seed))
            size = ("--size", "320", "240")
            self._run_once(name, "data", "generate", name, *words, *size)
        change_rows(self.folder / "home" / "labels.csv", as_pulled)
        for copy, of in (("data/garage", "doors"), ("kinds", "data/kinds"),
                         ("frames", "doors"), ("pulled", "home")):  # fmt: skip
            if not (self.folder / copy).exists():
                shutil.copytree(self.folder / of, self.folder / copy)
        change_rows(self.folder / "frames" / "labels.csv", lambda _: {"kind": "", "state": ""})
        self._forms()
        self._downloads()
        self._keys()
        for name, seed in (("a", "0"), ("b", "1"), ("c", "2")):
            run = f"runs/{name}"
            self._run_once(run, "train", "doors", "--out", run, "--epochs", "2", "--seed", seed)
        for name, run in (("hall", "hall"), ("home", "home"), ("hall-7", "hall")):
            self._run_once(f"runs/{run}", "train", "doors", "home", "--out", f"runs/{run}")
            out = f"{name}.bundle"
            self._run_once(out, "export", f"runs/{run}", "--key", "home.pem", "--out", out)

    def _run_once(self, made: str, *words: str) -> None:
        """Run a command of `transom` in the store, where what it makes is not there yet."""
        if not (self.folder / made).exists():
            self.run(*words)

    def run(self, *words: str) -> None:
        """Run a command of `transom` in the store.

        Raises:
            subprocess.CalledProcessError: It fails.
        """
        print(f"  $ transom {shlex.join(words)}", flush=True)
        log = (self.folder / "log").open("ab")
        command = [sys.executable, "-m", "transom", *words]
        with log:
            subprocess.run(command, cwd=self.folder, check=True, stdout=log, stderr=log)

    def lay(self, command: str, folder: Path, home: Path) -> None:
        """Lay what a command names and does not write, where it is not there yet."""
        written = {word.strip("/") for found in WRITTEN.findall(command) for word in found if word}
        written.add("data")  # a command is called so, too
        for word in named_in(command):
            target = home / word[2:] if word.startswith("~/") else folder / word
            source = self.folder / ("home/" + word[2:] if word.startswith("~/") else word)
            if word not in written and source.exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target, symlinks=True)
                else:
                    shutil.copy(source, target)

    def _forms(self) -> None:
        """Put pictures of `home` into the forms that are imported, and a clip beside them."""
        for number, row in enumerate(read_dataset(self.folder / "home").rows):
            state = row.labels.get("state")
            if state is None:
                continue
            picture = cv2.imread(str(self.folder / "home" / row.image))
            assert picture is not None, row.image
            for form in ("photos", "front_door"):
                target = self.folder / form / state / f"{number:04}.jpg"
                target.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(target), crop_zone(picture, row.zone, 160, 0.1))
            if state in YOLO_CLASSES:
                self._box(f"{number:04}", picture, row)
        if not (self.folder / "monday.mp4").exists():
            generate_clip(self.folder / "monday.mp4", seed=3, seconds=20.0, fps=5)
        shutil.copy(EXAMPLE, self.folder / "transom.toml")

    def _box(self, name: str, picture: npt.NDArray[np.uint8], row: Row) -> None:
        """Write a picture and its box as YOLO's tools do."""
        labels, images = (self.folder / "downloads" / "doors" / of for of in ("labels", "images"))
        for folder in (labels, images):
            folder.mkdir(parents=True, exist_ok=True)
        x, y = zip(*row.zone.points, strict=True)
        middle = ((min(x) + max(x)) / 2, (min(y) + max(y)) / 2, max(x) - min(x), max(y) - min(y))
        numbers = " ".join(f"{value:.4f}" for value in middle)
        (labels / f"{name}.txt").write_text(
            f"{YOLO_CLASSES.index(row.labels['state'])} {numbers}\n"
        )
        cv2.imwrite(str(images / f"{name}.jpg"), picture)

    def _downloads(self) -> None:
        """Lead to what others publish, where it is at hand."""
        for name in ("cifar-10-batches-bin", "mnist"):
            target = self.folder / "downloads" / name
            if (self._data / name).exists() and not target.exists():
                target.parent.mkdir(exist_ok=True)
                shutil.copytree(self._data / name, target)
        source = "downloads/cifar-10-batches-bin"
        if (self.folder / source).exists():
            words = ("data", "import", "cifar10", source, "data/cifar10", "--limit", "60")
            self._run_once("data/cifar10", *words)

    def _keys(self) -> None:
        """Make keys, and files that hold a password."""
        for name in ("home.pem", "spare.pem", "old.pem", "new.pem"):
            self._run_once(name, "keys", "new", name)
        keys = self.folder / "home" / "keys"
        keys.mkdir(parents=True, exist_ok=True)
        for name in ("home.pem", "home.pub"):
            shutil.copy(self.folder / name, keys)
        for name in SECRETS:
            (self.folder / name).write_text("secret\n")
            (self.folder / name).chmod(0o600)


def change_rows(labels: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Change the rows of a `labels.csv`: what is returned for each takes its columns' place."""
    with labels.open(newline="") as file:
        rows = [row | change(row) for row in csv.DictReader(file)]
    with labels.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def as_pulled(row: dict[str, str]) -> dict[str, str]:
    """Return the columns that a picture has which was pulled from a device and labelled there."""
    number = zlib.crc32(f"{row['image']} {row['zone']}".encode())
    at = f"2026-11-{1 + zlib.crc32(row['group'].encode()) % 28:02}T12:00:00Z"
    return {
        "device": "hall-pi",
        "camera": "hall",
        "zone_name": "front_door",
        "taken_at": at,
        "why": "doubt",
        "model": "starter",
        "said": row["state"],
        "confidence": "0.6000",
        "copies": "1",
        "drawn": "1",
        "sha256": f"{number:064x}",
        "label": row["state"],
        "labelled_by": "page",
        "labelled_at": at,
    }


def named_in(command: str) -> list[str]:
    """Return the words of a command that may be paths, as they would lie in its folder.

    Examples:
        >>> named_in("transom replay --clip hall=monday.mp4 data/hall/ --unlike data/kinds:kind=x")
        ['transom', 'replay', '--clip', 'hall=monday.mp4', 'monday.mp4', 'data/hall', \
'--unlike', 'data/kinds']
    """
    words: list[str] = []
    for word in shlex.split(command):
        whole, _, behind = word.partition("=")
        parts = [word.partition(":")[0] if ":" in word else word]
        parts += [behind] if behind and not whole.startswith("--set") else []
        words += [part.rstrip("/") for part in parts if part]
    return words
