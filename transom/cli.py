"""The command `transom`. Each subcommand's module is imported when the command is called."""

import errno
import importlib
import sys
from typing import Any

import click

from transom import __version__
from transom.errors import EXIT_DONE, EXIT_FAILED, TransomError
from transom.printable import printable_lines

# Names, not imports: `transom run` on a device must not load torch, and this package must not
# know the packages that build on it.
_COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("demo.commands", "demo_command", "The whole way on this machine, in five minutes."),
    "data": ("train.data_commands", "data_group", "Check, split, import or draw a data set."),
    "train": ("train.commands", "train_command", "Train a network on data sets."),
    "pretrain": ("train.pretrain_commands", "pretrain_command", "Learn from unlabelled pictures."),
    "evaluate": ("train.evaluate_commands", "evaluate_command", "Judge a run or bundle on data."),
    "compare": ("export.compare_commands", "compare_command", "Networks side by side, by recipe."),
    "backbones": ("train.backbone_commands", "backbones_command", "What there is to train."),
    "tune": ("train.tune_commands", "tune_command", "Search for a better recipe."),
    "ensemble": ("train.ensemble_commands", "ensemble_command", "Put several runs together."),
    "export": ("export.commands", "export_command", "Turn a run into a signed bundle."),
    "bench": ("export.commands", "bench_command", "Latency and memory of a bundle here."),
    "keys": ("export.commands", "keys_group", "Make and show signing keys."),
    "run": ("edge_runtime.run_command", "run_command", "The daemon."),
    "setup": ("edge_runtime.setup.commands", "setup_command", "Cameras, zones, broker: a device."),
    "check": ("edge_runtime.commands", "check_command", "Check a configuration file."),
    "doctor": ("edge_runtime.commands", "doctor_command", "Find what is wrong with this device."),
    "page": ("edge_runtime.web.commands", "page_command", "The link that opens the page."),
    "label": ("edge_runtime.web.commands", "label_command", "Label a data set in a browser."),
    "replay": (
        "edge_runtime.commands",
        "replay_command",
        "Play a clip through the daemon's rules.",
    ),
    "pull": ("fleet.pull_commands", "pull_command", "Pictures of devices become a data set."),
    "deploy": ("fleet.commands", "deploy_command", "Bring a bundle to devices, stage by stage."),
    "rollback": ("fleet.commands", "rollback_command", "Back to the bundle that served before."),
    "fleet": ("fleet.commands", "fleet_group", "Who runs what; keep everybody's events."),
    "watch": ("edge_runtime.commands", "watch_command", "Zones as they are, alerts as they come."),
}
_EXTRAS = {
    "demo": "demo",
    "train": "train",
    "train.tune_commands": "tune",
    "export": "train",
    "fleet": "fleet",
    "edge_runtime.web.commands": "web",
}
"""The extra that a module needs, or else its package."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


class _LazyGroup(click.Group):
    """A group that knows its subcommands by name and imports one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            raise click.ClickException(_what_to_install(module, error)) from error
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ImportError as error:  # what is heavy is imported when a command has begun
            module = _COMMANDS[ctx.invoked_subcommand or ""][0]
            raise click.ClickException(_what_to_install(module, error)) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


def _what_to_install(module: str, error: ImportError) -> str:
    is_missing = isinstance(error, ModuleNotFoundError)
    what = f"{error.name} is not installed" if is_missing else f"cannot be loaded: {error}"
    extra = _EXTRAS.get(module) or _EXTRAS.get(module.partition(".")[0])
    if extra is not None:
        return f"{what}; this command needs the extra {extra!r}: pip install 'transom[{extra}]'"
    return f"{what}; install Transom again from its source: pip install --force-reinstall ."


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="transom")
def cli() -> None:
    """Know which doors and windows are open, from a camera.

    \b
    Example:
        transom demo
    """


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    A command returns None or its own exit code, or raises TransomError.

    Returns:
        0 done, 1 failed, 2 usage, 78 configuration, 130 stopped by Ctrl-C.
    """
    try:
        outcome: Any = cli.main(args=arguments, prog_name="transom", standalone_mode=False)
    except TransomError as error:
        click.echo(printable_lines(str(error)), err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return 130
    except OSError as error:
        click.echo(_what_failed(error), err=True)
        return EXIT_FAILED
    return outcome if isinstance(outcome, int) else EXIT_DONE


def _what_failed(error: OSError) -> str:
    if error.filename is not None and error.strerror is not None:
        advice = "; make room and try again" if error.errno in _FULL else ""
        return f"{error.filename}: {error.strerror}{advice}"
    return str(error) or type(error).__name__


def entry() -> None:
    """Console script."""
    sys.exit(main())
