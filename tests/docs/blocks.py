"""Blocks of code in the documentation, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from transom.cli import cli

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(
    r"(?:^ *<!-- block: (?P<note>[^>]*?) -->\n\n?)?"
    r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.M | re.S,
)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: Where it stands, from the repository's root.
        line: Its first line there.
        language: As the page says.
        code: Without the page's indentation.
        note: What the comment above it says of it (`<!-- block: … -->`), or nothing.
    """

    page: str
    line: int
    language: str
    code: str
    note: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return every page whose blocks are looked at."""
    named = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "systemd" / "README.md"]
    return [*named, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks() -> Iterator[Block]:
    """Yield the blocks of all pages."""
    for page in pages():
        text = page.read_text("utf-8")
        for found in _FENCE.finditer(text):
            indent = found["indent"]
            code = re.sub(f"^{indent}", "", found["code"], flags=re.M)
            line = text.count("\n", 0, found.start("code")) + 1
            name = str(page.relative_to(ROOT))
            yield Block(name, line, found["language"], code, found["note"] or "")


def spans() -> Iterator[tuple[str, str]]:
    """Yield what stands in `code` within sentences, each with its page."""
    for page in pages():
        text = _FENCE.sub("", page.read_text("utf-8"))
        name = str(page.relative_to(ROOT))
        yield from ((name, span.replace("\\|", "|")) for span in _SPAN.findall(text))


def command_lines(code: str) -> Iterator[list[str]]:
    """Yield the commands of a shell block, each as its words.

    What is left out (`…`), a variable, and what another command would have said is a word.
    """
    plain = re.sub(r"\$\([^)]*\)", "SAID", code.replace("\\\n", " "))
    for line in plain.splitlines():
        for part in re.split(r"&&|\|\||;|(?<!\S)\|(?!\S)", re.sub(r"(^|\s)#.*", "", line)):
            words = shlex.split(part)
            if words:
                yield words


def wrong_in_command(words: list[str]) -> str:
    """Return what is wrong with the words after `transom`; nothing = they can be given so."""
    context = click.Context(cli, info_name="transom")
    command: click.Command = cli
    while isinstance(command, click.Group):
        name = next((word for word in words if not word.startswith("-")), None)
        if name is None:
            break
        inner = command.get_command(context, name)
        if inner is None:
            break
        words = words[words.index(name) + 1 :]
        context, command = click.Context(inner, info_name=name, parent=context), inner
    if command is cli and words and words[0] not in ("--help", "--version"):
        return f"there is no command {words[0]}"
    try:
        command.make_parser(context).parse_args(list(words))
    except click.UsageError as error:
        is_left_out = isinstance(error, click.MissingParameter)
        return "" if is_left_out else f"{context.command_path}: {error.format_message()}"
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        return "" if getattr(command, "invoke_without_command", False) else f"no {words[0]} there"
    return ""


def all_options() -> set[str]:
    """Return every option of every command."""
    found: set[str] = set()

    def collect(command: click.Command, context: click.Context) -> None:
        for parameter in command.get_params(context):
            found.update(parameter.opts + parameter.secondary_opts)
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                collect(inner, click.Context(inner, info_name=name, parent=context))

    collect(cli, click.Context(cli, info_name="transom"))
    return found
