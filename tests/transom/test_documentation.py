"""The documentation names what there is: every key, topic, command and error."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from export.recipe import ExportRecipe
from transom import config, errors, updates
from transom.cli import cli
from transom.messages import Topics

ROOT = Path(__file__).resolve().parents[2]
TABLES = (
    ("mqtt", "Mqtt"),
    ("models", "Models"),
    ("decision", "Decision"),
    ("homeassistant", "HomeAssistant"),
    ("outbox", "Outbox"),
    ("capture", "Capture"),
    ("samples", "Samples"),
    ("updates", "Updates"),
    ("page", "Page"),
)


def pages() -> str:
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return "\n".join(file.read_text("utf-8") for file in files)


def keys() -> Iterator[str]:
    for _, part in inspect.getmembers(config, inspect.isclass):
        if issubclass(part, msgspec.Struct) and part is not msgspec.Struct:
            yield from part.__struct_fields__


@pytest.mark.parametrize("key", sorted(set(keys())))
def test_every_key_of_the_configuration_is_documented(key: str) -> None:
    assert f"`{key}`" in (ROOT / "docs" / "configuration.md").read_text("utf-8")


def numbers_of(part: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    """Yield the keys of a table that are numbers, each with its range in words."""

    def said(value: float) -> str:
        return f"{value:,.0f}" if value >= 1000 else f"{value:g}"

    for field in msgspec.structs.fields(part):
        found = msgspec.inspect.type_info(field.type)
        kinds = found.types if isinstance(found, msgspec.inspect.UnionType) else (found,)
        for kind in kinds:
            if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
                low = f"above {said(kind.gt)}" if kind.gt is not None else said(kind.ge or 0)
                high = f"below {said(kind.lt)}" if kind.lt is not None else said(kind.le or 0)
                yield field.name, f"{low} to {high}"


@pytest.mark.parametrize(
    ("heading", "part"),
    [
        *((f"`[{key}]`", getattr(config, f"{name}Config")) for key, name in TABLES),
        ("`[[cameras]]`", config.CameraConfig),
        ("`[[cameras.zones]]`", config.ZoneConfig),
    ],
)
def test_every_number_of_the_configuration_is_documented_with_its_range(
    heading: str, part: type[msgspec.Struct]
) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [
        line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")
    ]
    documented = {key.strip("`"): numbers for key, _, numbers, *_ in rows}
    assert {key: documented[key] for key, _ in numbers_of(part)} == dict(numbers_of(part))


def recipe_keys(part: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(part):
        if isinstance(field.default, msgspec.Struct):
            yield from recipe_keys(type(field.default), f"{field.name}.")
        else:
            yield f"{prefix}{field.name}"


@pytest.mark.parametrize("key", sorted(recipe_keys(ExportRecipe)))
def test_every_key_of_the_export_recipe_is_documented(key: str) -> None:
    assert f"`{key}`" in (ROOT / "docs" / "export.md").read_text("utf-8")


@pytest.mark.parametrize("command", cli.list_commands(click.Context(cli)))
def test_every_command_is_documented(command: str) -> None:
    assert f"transom {command}" in pages()


@pytest.mark.parametrize(
    "name", [name for name, member in vars(errors).items() if name.endswith("Error")]
)
def test_every_error_is_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "messages.md").read_text("utf-8")


def test_every_topic_is_documented() -> None:
    text = (ROOT / "docs" / "messages.md").read_text("utf-8")
    topics = Topics("transom", "<device>")
    found = [topics.status, topics.diagnostics, topics.model_state]
    found += [
        topics.model_keys,
        topics.model_trusted,
        topics.samples_ask,
        f"{topics.samples}/<request>/…",
    ]
    found += [topics.model_desired, topics.model_install, topics.model_report]
    found += [f("<zone>") for f in (topics.state, topics.event, topics.snapshot, topics.correct)]
    found += [f("<camera>") for f in (topics.camera_status, topics.camera_problem)]

    assert [topic for topic in found if f"`{topic}`" not in text] == []


@pytest.mark.parametrize("payload", [updates.Install, updates.Rollback, updates.ModelReport])
def test_every_key_of_an_update_is_documented(payload: type[msgspec.Struct]) -> None:
    _, _, part = (ROOT / "docs" / "messages.md").read_text("utf-8").partition("## Desired")
    assert [key for key in payload.__struct_fields__ if f"`{key}`" not in part] == []


def test_every_link_of_the_documentation_leads_to_a_file() -> None:
    broken = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for part in page.read_text("utf-8").split("](")[1:]:
            target = part.partition(")")[0].partition("#")[0]
            if target and "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []
