"""The command `transom demo`."""

import json
import shutil
import time
from pathlib import Path

import click

from demo.story import Story, tell
from demo.summary import describe


@click.command("demo")
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("transom-demo"),
    show_default=True,
    help="Folder for everything the demo makes; replaced if it is there.",
)
@click.option("--seed", default=0, show_default=True, help="Another number draws another house.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one line of JSON.")
def demo_command(folder: Path, seed: int, as_json: bool) -> None:
    """Go the whole way on this machine: pictures, training, bundle, daemon, alerts.

    Draws rooms with doors and windows, trains a network on some of them, judges it on others,
    exports one signed INT8 bundle, starts a broker and the daemon, plays a clip as the camera
    and prints what a subscriber receives. Needs nothing but this installation.

    \b
    Example:
        transom demo
        transom demo --out /tmp/demo --json
    """
    started = time.monotonic()
    if folder.is_symlink() or (folder.exists() and not (folder / ".transom-demo").exists()):
        raise click.UsageError(f"{folder} exists and no demo made it; name another with --out")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / ".transom-demo").touch()
    outcome = tell(
        Story(folder=folder.resolve(), seed=seed, say=lambda t: click.echo(t, err=as_json))
    )
    seconds = time.monotonic() - started
    if as_json:
        click.echo(json.dumps(outcome.as_json(seconds)))
    else:
        click.echo(describe(outcome, seconds))
