"""The store of bundles at every step of an installation: killed there, or the disk fails."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.models import serving_bundle
from tests.edge_runtime.conftest import TinyBundle, tiny_bundle
from tests.edge_runtime.updating import rewrite
from tests.faults.proof import Proof
from tests.faults.strace import FAULTS, require_strace, run_failing, sample, steps_of
from transom.config import ModelsConfig

__all__ = ["tiny_bundle"]

pytestmark = pytest.mark.timeout(400)  # many starts, on a machine that others use too
LEAST_RUNS = 300
"""Fewer than there are steps and faults: the full lane takes each of them once."""
OLD, NEW = ("tiny", 1), ("tiny", 2)


class Store:
    """A device's store with one bundle, and another to install."""

    def __init__(self, folder: Path, tiny: TinyBundle) -> None:
        self.folder, self._keys = folder, tiny.keys
        self.store = folder / "store"
        self.store.mkdir(parents=True)
        shutil.copy(tiny.path, self.store / "mine.bundle")
        self._new = folder.parent / "new.bundle"
        if not self._new.exists():
            rewrite(tiny, self._new, sequence=2)

    @property
    def command(self) -> list[str]:
        words = ["-m", "tests.faults.store_work", "models"]
        return [sys.executable, *words, str(self.store), str(self._keys), str(self._new)]

    def serves(self) -> tuple[str, int]:
        """What the next start would serve, verified."""
        config = ModelsConfig(store=str(self.store), trusted_keys=str(self._keys))
        manifest = serving_bundle(config).manifest
        return manifest.name, manifest.sequence


def test_an_installation_that_ends_or_fails_at_any_step_leaves_the_old_or_the_new_bundle(
    tmp_path: Path, tiny_bundle: TinyBundle, proof: Proof
) -> None:
    require_strace()
    claim = proof(
        9,
        "killed, an I/O error or a full disk (`strace -e inject`) at each write, sync, rename, "
        "open and removal of download, installation, commit and three starts; then once more "
        "without",
        fast=5,
        full=LEAST_RUNS,
        unit="runs",
    )
    unharmed = Store(tmp_path / "unharmed", tiny_bundle)
    steps = steps_of(unharmed.command, unharmed.store, tmp_path / "log")
    assert {"write", "fsync", "rename", "openat"} <= {step.call for step in steps}
    assert unharmed.serves() == NEW
    wanted = claim.runs if claim.runs < LEAST_RUNS else 10**6
    outcomes = {OLD: 0, NEW: 0}
    runs = sample(steps, wanted, random.Random(5))
    for number, (step, fault, lasts) in enumerate(runs):
        place = Store(tmp_path / str(number), tiny_bundle)
        done = run_failing(place.command, step, fault, lasts)
        try:
            # A file that does not open once may end a start; the next one is five seconds away.
            assert (done.returncode == 0) != (fault == FAULTS[0]) or step.call == "openat"
            serves = place.serves()
            outcomes[serves] += 1
            said = done.stdout.splitlines()
            assert serves == (NEW if "installed" in said else serves)
            again = subprocess.run(place.command, capture_output=True, text=True, check=True)
            assert again.stdout.endswith("ended\n")
            assert place.serves() == NEW
        except BaseException as error:
            error.add_note(f"{fault}{lasts} at {step.shown}: {done.stdout} {done.stderr[-2000:]}")
            raise
        shutil.rmtree(place.folder)
    claim.found(
        "{steps} steps; 0 broken: {old} times the old bundle, {new} times the new one, verified; "
        "afterwards the new one each time",
        runs=len(runs),
        steps=len(steps),
        old=outcomes[OLD],
        new=outcomes[NEW],
    )
