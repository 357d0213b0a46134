"""Every text file that Transom reads, as a bomb: an error that names it, in bounded memory."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.recipe import load_export_recipe
from tests.conftest import MakeDataset
from tests.faults.hostile_files import csv_bombs, toml_bombs
from tests.faults.memory import growth
from tests.faults.proof import Proof
from train.importers.yolo import import_yolo
from train.recipe import load_recipe, parse_setting
from transom.config import load_config
from transom.dataset import read_dataset
from transom.errors import TransomError
from transom.messages import Topics

CONFIGURATION = """
device = "pi"
[mqtt]
host = "localhost"
[[cameras]]
name = "hall"
source = "usb:0"
[[cameras.zones]]
name = "door"
polygon = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.9], [0.1, 0.9]]
"""
RECIPE = "epochs = 3\n"
DATASET = 'name = "home"\n[tasks.state]\nclasses = ["closed", "open"]\n'
MOST_S = 10.0


def outcome(read: Callable[[], object], name: str) -> str:
    """Return what reading a file came to; only an error of our own, or none, is an outcome."""
    began_s = time.process_time()
    try:
        read()
        said = "read"
    except TransomError as error:
        said = str(error)
    assert time.process_time() - began_s < MOST_S, name
    return said


def test_every_file_that_is_read_may_be_a_bomb(
    tmp_path: Path, make_dataset: MakeDataset, proof: Proof
) -> None:
    folder = make_dataset()
    readers: list[tuple[Path, str, Callable[[], object]]] = [
        (tmp_path / "transom.toml", CONFIGURATION, lambda: load_config(tmp_path / "transom.toml")),
        (tmp_path / "recipe.toml", RECIPE, lambda: load_recipe(tmp_path / "recipe.toml")),
        (tmp_path / "export.toml", "", lambda: load_export_recipe(tmp_path / "export.toml")),
        (folder / "dataset.toml", DATASET, lambda: read_dataset(folder)),
    ]
    files = [
        (path, name, make, read)
        for path, good, read in readers
        for name, make in toml_bombs(good).items()
    ]
    files += [
        (folder / "labels.csv", name, make, readers[-1][2]) for name, make in csv_bombs().items()
    ]
    claim = proof(
        21, "bombs as configuration, recipes, dataset.toml and labels.csv: nesting, numbers, keys, "
        "cells, encodings", fast=len(files), full=len(files), unit="files",
    )  # fmt: skip
    with growth() as grown:
        for path, name, make, read in files:
            good = path.read_bytes() if path.exists() else None
            path.write_bytes(make())
            said = outcome(read, f"{path.name}: {name}")
            if said != "read":
                assert str(path) in said, name
                assert len(said) < 200_000, name
            if path.suffix == ".toml":
                assert said != "read", (path.name, name)
            path.unlink() if good is None else path.write_bytes(good)
    assert grown.mb < 700.0
    claim.found("each an error that names the file; at most {grown_mb} MB", grown_mb=grown.mb)


def test_a_yaml_beside_pictures_is_read_for_its_names_and_runs_nothing(
    tmp_path: Path, proof: Proof
) -> None:
    claim = proof(21, "a data.yaml with anchors of anchors and a Python object", unit="files")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "data.yaml").write_bytes(toml_bombs("")["a YAML with anchors"]())
    said = outcome(lambda: import_yolo(tmp_path / "source", tmp_path / "out"), "yaml")
    assert said != "read"
    assert not (tmp_path / "out").exists()
    claim.found("an error; no loader of YAML is used")


def test_a_setting_on_the_command_line_may_be_a_bomb() -> None:
    for value in ("[" * 100_000, "9" * 100_000, "{a=" * 50_000, "\0", "\ud800"):
        assert parse_setting(f"seed={value}")[0] == "seed"


NAMES = st.text(min_size=1, max_size=70) | st.sampled_from(
    [
        "+",
        "#",
        "/",
        "$SYS",
        "a/b",
        "a+",
        "#a",
        "\0",
        "ａ",
        "door\n",
        "Door",
        "é",
        "..",
        " ",
        "-a",
        "_",
    ]
)


@pytest.mark.parametrize("key", ["device", "camera", "zone", "prefix"])
def test_no_name_reaches_a_topic_that_is_not_one_level_of_plain_letters(
    tmp_path: Path, key: str, proof: Proof
) -> None:
    claim = proof(21, f"unicode and wildcards as the name of a {key}", fast=150, full=20_000,
                  unit="names")  # fmt: skip
    old = {"device": '"pi"', "camera": '"hall"', "zone": '"door"', "prefix": '"localhost"'}[key]
    path = tmp_path / "transom.toml"
    taken: list[str] = []

    @given(NAMES)
    @settings(max_examples=claim.runs, database=None)
    def check(name: str) -> None:
        quoted = '"' + "".join(f"\\U{ord(c):08X}" for c in name) + '"'
        new = f'"localhost"\nprefix = {quoted}' if key == "prefix" else quoted
        path.write_text(CONFIGURATION.replace(old, new, 1), "utf-8", "surrogatepass")
        if outcome(lambda: load_config(path), name) != "read":
            return
        taken.append(name)
        config = load_config(path)
        topics = Topics(config.mqtt.prefix, config.device)
        zone = config.cameras[0].zones[0].name
        levels = topics.state(zone).split("/")
        assert re.fullmatch(r"[A-Za-z0-9_/-]+", topics.state(zone))
        assert "" not in levels
        assert key == "prefix" or len(levels) == 4

    check()
    claim.found("{taken} of them plain enough to be taken, no other", taken=len(set(taken)))
