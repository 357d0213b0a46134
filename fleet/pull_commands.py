"""`transom pull`: what devices keep to be labelled becomes a data set."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import msgspec

from edge_runtime.broker_options import broker_access, broker_options
from edge_runtime.clock import Clock
from fleet.console import check_devices, device_options, json_option, progress_line, say
from fleet.pull import Outcome, Pull
from fleet.pulled import PulledDataset
from fleet.roster import choose, read_roster
from fleet.session import Session
from transom.errors import EXIT_DONE, EXIT_FAILED


@click.command("pull")
@click.argument("dataset", type=click.Path(path_type=Path, file_okay=False))
@device_options
@click.option(
    "--answer-s",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="A device that is online and says nothing for so long does not share its pictures.",
)
@json_option
@broker_options
def pull_command(
    dataset: Path,
    devices: tuple[str, ...],
    everyone: bool,
    answer_s: float,
    as_json: bool,
    config_file: Path | None,
    **broker: Any,
) -> int:
    """Bring pictures and corrections of devices into a data set.

    A device shares them only with `pull = true` in [samples] of its configuration. Given again, the
    command fetches what is new, also where it was cut off. Every fourth day is held out.

    \b
    Example:
        transom pull home hall-pi --host broker.lan --username me
        transom pull home --all --config /etc/transom/transom.toml
    """
    check_devices(devices, everyone=everyone)
    began_s = time.monotonic()
    outcomes = []
    pulled = PulledDataset(dataset)
    with Session(broker_access(config_file, broker), Clock()) as session:
        members = choose(read_roster(session), devices, everyone=everyone)
        pull = Pull(session, Clock(), pulled, answer_s)
        with progress_line() as progress:

            def show(outcome: Outcome, total: int) -> None:
                done = outcome.new + outcome.known + outcome.removed
                progress(f"{outcome.device}: {done} of {total} pictures")

            for outcome in pull.run(members, show):
                outcomes.append(outcome)
                if not as_json:
                    for line in _lines(outcome):
                        say(line)
    rows = pulled.rows.values()
    labelled = sum(bool(row.labels) for row in rows)
    if as_json:
        told = {
            "dataset": str(dataset),
            "samples": len(rows),
            "labelled": labelled,
            "devices": {outcome.device: asdict(outcome) for outcome in outcomes},
            "seconds": round(time.monotonic() - began_s, 3),
        }
        click.echo(msgspec.json.encode(told))
    else:
        click.echo(f"{dataset}: {len(rows)} pictures, {labelled} labelled")
    return EXIT_DONE if _is_good(outcomes, everyone=everyone) else EXIT_FAILED


def _lines(outcome: Outcome) -> list[str]:
    if outcome.standing in ("refused", "away"):
        return [f"{outcome.device}: {outcome.reason}"]
    told = f"{outcome.device}: {outcome.new} new pictures, {outcome.labels} new labels"
    removed = f", {outcome.removed} taken out here before" if outcome.removed else ""
    lines = [f"{told}, {outcome.known} known{removed}"]
    if outcome.reason:
        lines.append(f"{outcome.device}: failed: {outcome.reason}")
    return lines + [f"{outcome.device}: put aside: {what}" for what in outcome.aside]


def _is_good(outcomes: list[Outcome], *, everyone: bool) -> bool:
    """Of all devices some are away and some do not share; one that was named should."""
    standings = [outcome.standing for outcome in outcomes]
    if everyone:
        return "failed" not in standings and "done" in standings
    return set(standings) == {"done"}
