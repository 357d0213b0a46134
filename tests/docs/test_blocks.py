"""Every block of code of the documentation is one that works, and what sentences name is there."""

import configparser
import csv
import io
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from export.recipe import ExportRecipe
from tests.docs.blocks import (
    ROOT,
    Block,
    all_options,
    blocks,
    command_lines,
    spans,
    wrong_in_command,
)
from tools.reference.parts import PAYLOADS
from train.recipe import Recipe
from transom.config import Config
from transom.dataset import read_dataset
from transom.messages import Topics
from transom.mistakes import find_mistakes

SQUARE = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.9], [0.1, 0.9]]
ZONE = {"name": "front_door", "polygon": SQUARE}
CAMERA = {"name": "hall", "source": "usb:0", "zones": [ZONE]}
CONFIG: dict[str, Any] = {
    "device": "hall-pi",
    "mqtt": {"host": "broker.lan"},
    "cameras": [CAMERA],
}
LANGUAGES = {"", "sh", "text", "toml", "csv", "ini", "json", "yaml", "python"}
ELSEWHERE = {
    *("sudo", "sudoedit", "systemctl", "systemd-analyze", "journalctl", "install", "apt-get"),
    *("pip", "python3.11", "python3", "createdb", "curl", "ssh", "scp", "cp", "mkdir", "cd", "sh"),
    *("mosquitto_sub", "mosquitto_pub", "git", ".", "tar", "torchrun", "nvidia-smi", "docker"),
}
"""Programs that are not Transom's."""


def named(*languages: str) -> list[Any]:
    return [pytest.param(b, id=str(b)) for b in blocks() if b.language in languages]


def test_every_block_is_of_a_language_that_is_looked_at() -> None:
    assert [str(block) for block in blocks() if block.language not in LANGUAGES] == []


def test_a_block_without_a_language_holds_no_command() -> None:
    found = [str(b) for b in blocks() if b.language == "" and re.search(r"^transom ", b.code, re.M)]
    assert found == []


@pytest.mark.parametrize("block", named("sh"))
def test_every_command_of_a_block_can_be_given_so(block: Block) -> None:
    wrong = [why for words in command_lines(block.code) if (why := wrong_with(words))]
    assert wrong == []


def wrong_with(words: list[str]) -> str:
    """Return what is wrong with a command; nothing = it can be given so."""
    words = words[1:] if words[0] == "sudo" else words
    words = [word for word in words if not re.match(r"[A-Z_]+=\S*$", word)] or [""]
    program = Path(words[0]).name or words[0]
    if program == "transom":
        return wrong_in_command(words[1:])
    if program == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
        return "" if set(words[1:]) <= targets else f"make has no target of {words[1:]}"
    if program == "python" and words[1] == "-m":
        place = ROOT / words[2].replace(".", "/")
        is_there = place.with_suffix(".py").exists() or place.is_dir() or words[2] == "sphinx"
        return "" if is_there else f"there is no module {words[2]}"
    if program == "python":
        return "" if (ROOT / words[1]).exists() else f"there is no file {words[1]}"
    if program in ("sh", "python3") and words[1].endswith((".sh", ".py")):
        return "" if (ROOT / words[1]).exists() else f"there is no file {words[1]}"
    return "" if program in ELSEWHERE else f"what is {program}?"


@pytest.mark.parametrize("block", named("toml"))
def test_every_toml_block_is_accepted(block: Block, tmp_path: Path) -> None:
    raw = tomllib.loads(block.code)
    if block.note == "a zone":
        raw = {"cameras": [CAMERA | {"zones": [ZONE | raw]}], "samples": {}}
    elif block.note == "a camera":
        raw = {"cameras": [CAMERA | raw]}
    if block.note == "a configuration":
        assert find_mistakes(raw, Config) == []
    elif block.note == "a recipe":
        msgspec.convert(raw, Recipe)
    elif "tasks" in raw:
        (tmp_path / "dataset.toml").write_text(block.code, "utf-8")
        (tmp_path / "labels.csv").write_text(f"image,{','.join(raw['tasks'])}\n", "utf-8")
        assert read_dataset(tmp_path).tasks.names == tuple(raw["tasks"])
    else:
        assert find_mistakes(CONFIG | raw, Config) == []


@pytest.mark.parametrize("block", named("json", "yaml", "csv", "ini", "python"))
def test_every_other_block_can_be_read(block: Block) -> None:
    if block.language == "json":
        json.loads(block.code)
    elif block.language == "yaml":
        assert yaml.safe_load(block.code) is not None
    elif block.language == "ini":
        configparser.ConfigParser(strict=False).read_string(block.code)
    elif block.language == "python":
        compile(block.code, str(block), "exec")
    else:
        rows = list(csv.reader(io.StringIO(block.code)))
        assert len({len(row) for row in rows}) == 1


def test_every_command_that_a_sentence_names_can_be_given_so() -> None:
    wrong = []
    for page, span in spans():
        if re.match(r"transom [\w-]", span) and "--help" not in span and "->" not in span:
            (words,) = list(command_lines(f"{span} …")) or [[]]
            why = wrong_in_command(words[1:]) if words[1:2] != ["COMMAND"] else ""
            wrong += [f"{page}: {span}: {why}"] if why else []
    assert wrong == []


def test_every_option_that_a_sentence_names_is_there() -> None:
    programs = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tools").rglob("*.py")]
    programs += [*(ROOT / "tests").rglob("*.py"), *ROOT.glob("*.sh")]
    others = {
        option
        for file in programs
        for option in re.findall(r"--[a-z][a-z-]*", file.read_text("utf-8"))
    }
    theirs = {
        "--no-deps",
        "--require-hashes",
        "--system-site-packages",
        "--offline",
        "--seccomp-bpf",
        "--nproc-per-node",
        "--remove-retained",
        "--strict",
    }
    known = all_options() | others | theirs
    wrong = [
        f"{page}: {option}"
        for page, span in spans()
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)
        if option not in known
    ]
    assert wrong == []


def test_every_key_of_a_table_that_a_sentence_names_is_there() -> None:
    tables = {
        field.name: part
        for field in msgspec.structs.fields(Config)
        if (part := struct_of(field.type)) is not None
    }
    wrong = [
        f"{page}: {span}"
        for page, span in spans()
        if (found := re.fullmatch(r"(\w+)\.(\w+)(?: = .+)?", span)) is not None
        and found[1] in tables
        and found[2] not in {*tables[found[1]].__struct_fields__, "toml", "md", "py", "sqlite3"}
    ]
    assert wrong == []


def struct_of(of: Any) -> type[msgspec.Struct] | None:
    """Return the struct that a type is, may be, or holds many of."""
    found = [of, *getattr(of, "__args__", ())]
    found += [inner for one in found for inner in getattr(one, "__args__", ())]
    return next((o for o in found if isinstance(o, type) and issubclass(o, msgspec.Struct)), None)


def keys_of(part: type[msgspec.Struct]) -> set[str]:
    """Return the keys of a tree of structs, at whatever depth."""
    found: set[str] = set()
    for field in msgspec.structs.fields(part):
        inner = struct_of(field.type)
        found |= {field.name} | (keys_of(inner) if inner is not None else set())
    return found


def test_every_setting_that_a_sentence_names_is_a_key() -> None:
    known = keys_of(Config) | keys_of(Recipe) | keys_of(ExportRecipe)
    known |= {key for part in PAYLOADS for key in keys_of(part)}
    wrong = [
        f"{page}: {span}"
        for page, span in spans()
        if (found := re.fullmatch(r"([a-z_]+) = (?:true|false|\d\S*|\".*\"|\[.*\]|\{.*\})", span))
        and found[1] not in known
    ]
    assert wrong == []


def test_every_topic_that_a_sentence_names_is_there() -> None:
    topics = Topics("transom", "<device>")
    patterns = [topics.status, topics.diagnostics, topics.model_state, topics.model_desired]
    patterns += [topics.model_install, topics.model_report, topics.model_keys]
    patterns += [topics.model_trusted, topics.samples_ask, f"{topics.samples}/<request>/…"]
    patterns += [f("<zone>") for f in (topics.state, topics.event, topics.snapshot, topics.correct)]
    patterns += [f("<camera>") for f in (topics.camera_status, topics.camera_problem)]
    known = [pattern.split("/")[2:] for pattern in patterns]

    def is_topic(levels: list[str]) -> bool:
        return any(
            len(levels) == len(pattern)
            and all(
                one in ("+", "#", "…") or other.startswith("<") or one == other
                for one, other in zip(levels, pattern, strict=True)
            )
            for pattern in known
        )

    wrong = []
    for page, span in spans():
        found = re.fullmatch(r"transom/(?:<device>|\+|#|[a-z][a-z0-9-]*-pi)(?:/(.+))?", span)
        levels = (found[1] or "").split("/") if found else []
        if found and found[1] and levels != ["#"] and levels[-1:] != ["#"] and not is_topic(levels):
            wrong.append(f"{page}: {span}")
    assert wrong == []


def test_names_of_products_are_written_as_their_makers_do() -> None:
    wrong_names = {
        r"\bHome assistant\b|\bHomeassistant\b|\bHomeAssistant\b": "Home Assistant",
        r"\bNode-Red\b|\bNodeRED\b|\bnode-red\b|\bNode Red\b": "Node-RED",
        r"\bZigbee2mqtt\b|\bZigbee2Mqtt\b": "zigbee2mqtt",
        r"\bRaspberry PI\b|\bRaspberrypi\b|\bRaspbian\b": "Raspberry Pi (OS)",
        r"\bOnnxruntime\b|\bONNXRuntime\b": "onnxruntime",
        r"\bPytorch\b|\bpytorch\b": "PyTorch",
        r"\bGithub\b": "GitHub",
        r"\bPostgreSql\b|\bPostgres\b": "PostgreSQL",
        r"\bSystemd\b": "systemd",
        r"\bopenCV\b|\bOpencv\b": "OpenCV",
        r"\bfrigate\b": "Frigate",
    }
    wrong = []
    for page in sorted({block.page for block in blocks()} | {page for page, _ in spans()}):
        text = re.sub(
            r"```.*?```|`[^`\n]+`|\]\([^)]*\)", "", (ROOT / page).read_text("utf-8"), flags=re.S
        )
        for pattern, right in wrong_names.items():
            wrong += [
                f"{page}: {name} is written {right}"
                for name in re.findall(rf"(?<![\w./-])(?:{pattern})(?![\w./#-])", text)
            ]
    assert wrong == []
