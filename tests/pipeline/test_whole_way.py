"""From real photographs to a subscriber: every step by the command a user types."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from train.start import named_run
from transom.bundle import read_bundle
from transom.dataset import read_dataset, write_dataset
from transom.signing import load_trusted_keys

pytestmark = pytest.mark.timeout(600)


def transom(*arguments: str, cache: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "transom", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TRANSOM_CACHE": str(cache)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def some_groups(source: Path, target: Path, *, train: int, val: int) -> Path:
    """Write a data set with the first groups of another's `train` and `val`; images are linked."""
    dataset = read_dataset(source)
    kept: list[str] = []
    for split, count in (("train", train), ("val", val)):
        groups = dict.fromkeys(row.group for row in dataset.rows if row.split == split)
        # Evenly spread, because the groups are sorted by their state.
        kept += [list(groups)[i] for i in np.linspace(0, len(groups) - 1, count, dtype=int)]
    rows = [row for row in dataset.rows if row.group in kept]
    write_dataset(target, name=dataset.name, tasks=dataset.tasks, rows=rows)
    (target / "images").symlink_to((source / "images").resolve())
    return target


@pytest.fixture(scope="module")
def whole_way(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path | dict[str, object]]:
    folder = tmp_path_factory.mktemp("whole_way")
    doors = some_groups(shared_data / "doors", folder / "doors", train=60, val=40)
    kinds = some_groups(shared_data / "kinds", folder / "kinds", train=40, val=30)
    cache = folder / "cache"
    options = ["--start", "starter", "--epochs", "1", "--set", "frozen_epochs=0"]
    transom("train", str(doors), str(kinds), "--out", str(folder / "run"), *options, cache=cache)
    transom("keys", "new", str(folder / "keys" / "test.pem"), cache=cache)
    said = transom(
        "export",
        str(folder / "run"),
        "--out",
        str(folder / "doors.bundle"),
        "--key",
        str(folder / "keys" / "test.pem"),
        "--json",
        cache=cache,
    )
    return {
        "folder": folder,
        "doors": doors,
        "kinds": kinds,
        "cache": cache,
        "export": json.loads(said),
    }


def test_the_bundle_is_signed_int8_and_knows_both_tasks(whole_way: dict[str, Path]) -> None:
    folder = whole_way["folder"]

    bundle = read_bundle(folder / "doors.bundle", load_trusted_keys(folder / "keys"))

    assert bundle.manifest.precision == "int8"
    assert bundle.manifest.task_set().names == ("kind", "state")
    assert bundle.manifest.input.size == named_run("starter").recipe.size  # it began there


def test_the_bundle_is_better_than_chance_on_doors_it_has_never_seen(
    whole_way: dict[str, Path],
) -> None:
    folder = whole_way["folder"]

    said = json.loads(
        transom(
            "evaluate",
            str(folder / "doors.bundle"),
            str(whole_way["doors"]),
            str(whole_way["kinds"]),
            "--split",
            "val",
            "--json",
            cache=whole_way["cache"],
        )
    )

    state, kind = said["tasks"]["state"], said["tasks"]["kind"]
    assert said["precision"] == "int8"
    # Chance is a third. The starter's training never saw these groups either; because it begins
    # there, this holds the way from run to bundle, and that a training does not spoil its start.
    assert state["balanced_accuracy"] > 0.5
    assert kind["accuracy"] > 0.8
    assert np.asarray(state["confusion"]).sum() == state["n"] < said["n"]


def test_the_report_page_stands_alone(whole_way: dict[str, Path]) -> None:
    page = (whole_way["folder"] / "run" / "report.html").read_text("utf-8")

    assert "data:image/jpeg;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
