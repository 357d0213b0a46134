"""The documentation names what there is: every key of a recipe, topic and command."""

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from export.recipe import ExportRecipe
from transom.cli import cli
from transom.messages import Topics

ROOT = Path(__file__).resolve().parents[2]


def pages() -> str:
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return "\n".join(file.read_text("utf-8") for file in files)


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


def test_every_link_of_the_documentation_leads_to_a_file() -> None:
    broken = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for part in page.read_text("utf-8").split("](")[1:]:
            target = part.partition(")")[0].partition("#")[0]
            if target and "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []
