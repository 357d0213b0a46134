"""The page of all commands, from what click knows of them."""

import inspect
from collections.abc import Iterator

import click

from tools.reference.pages import table
from transom.cli import cli


def command_sections() -> str:
    """Return a section for every command: what it does, an example, arguments, options."""
    return "\n\n".join(_sections(cli, click.Context(cli, info_name="transom")))


def walk(group: click.Group, context: click.Context) -> Iterator[tuple[click.Context, str]]:
    """Yield every command below a group, groups too: its context, and its full name."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        yield inner, inner.command_path
        if isinstance(command, click.Group):
            yield from walk(command, inner)


def _sections(group: click.Group, context: click.Context) -> Iterator[str]:
    for inner, path in walk(group, context):
        yield "\n\n".join([f"## {path}", *_parts(inner)])


def _parts(context: click.Context) -> Iterator[str]:
    text, example = _help(context.command)
    yield text
    usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```"
    if example:
        yield f"```sh\n{example}\n```"
    records = [parameter.get_help_record(context) for parameter in context.command.params]
    # An argument stands in the usage, and what it is in the text.
    rows = [(f"`{names}`", " ".join(said.split())) for names, said in filter(None, records) if said]
    if rows:
        yield table(("option", "meaning"), rows)


def _help(command: click.Command) -> tuple[str, str]:
    """Return a command's help as paragraphs, and its example as lines."""
    text, _, rest = inspect.cleandoc(command.help or "").partition("\b\n")
    example = inspect.cleandoc(rest.partition("\n")[2]) if rest else ""
    paragraphs = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    return "\n\n".join(paragraphs), example
