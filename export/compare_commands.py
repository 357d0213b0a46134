"""The command `transom compare`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from train.commands import read_settings, resolve_recipe
from train.corpus_loader import CorpusLoader
from train.progress import progress_bar
from train.recipe import Recipe, parse_setting
from transom.atomic import write_file

if TYPE_CHECKING:
    from export.compare import Judgement

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)

PAGE = "compare.html"
TABLE = "compare.json"
RECOMMENDED = "recommended.toml"


@click.command("compare")
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...", type=_FOLDER)
@click.option("--out", required=True, type=_FOLDER, help="Folder of the comparison.")
@click.option(
    "--vary",
    "varied",
    multiple=True,
    required=True,
    metavar="KEY=A,B",
    help="A key of the recipe and its values; give it again for more keys.",
)
@click.option(
    "--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Trainings of each."
)
@click.option("--recipe", "recipe_file", type=_FILE, help="TOML file; what it omits is default.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="One key of the recipe."
)
@click.option("--epochs", type=int, help="Passes over the data.")
@click.option(
    "--split",
    type=click.Choice(["val", "test"]),
    default="val",
    show_default=True,
    help="Rows to compare on. With val, test is left to judge the winner.",
)
@click.option(
    "--single/--no-single", default=True, show_default=True, help="Train single-task networks too."
)
@click.option(
    "--at-cost/--no-at-cost",
    default=True,
    show_default=True,
    help="With --single: also on smaller crops, so that all together cost what a shared one does.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the table as one JSON list.")
def compare_command(
    datasets: tuple[Path, ...],
    out: Path,
    varied: tuple[str, ...],
    seeds: int,
    recipe_file: Path | None,
    settings: tuple[str, ...],
    epochs: int | None,
    split: str,
    single: bool,
    at_cost: bool,
    as_json: bool,
) -> None:
    """Train networks in every combination and put them side by side.

    Accuracy of each task with intervals over groups and seeds, the gain over single-task
    networks, size, INT8 latency and training time; a page with a plot and an answer in plain
    words. Whatever has been trained is kept in the folder: the same command goes on after Ctrl-C,
    and more values or seeds add to what is there.

    \b
    Examples:
        transom compare doors --out cmp --vary backbone=tiny,efficientnet_lite0
        transom compare doors home --out cmp --vary weighting=equal,dwa --vary size=96,128
    """
    from export.compare import judge
    from export.compare_page import write_comparison
    from train.compare import compare  # torch is seconds: not for --help
    from train.corpus import learnable
    from train.variants import plan_variants

    values = read_settings(settings) | ({} if epochs is None else {"epochs": epochs})

    def make(chosen: Mapping[str, object]) -> Recipe:
        return resolve_recipe(recipe_file, {**values, **chosen})

    load = CorpusLoader(datasets)
    tasks = len(learnable(load(make({})))[0])
    has_singles = single and tasks > 1  # a network for the only task is the network itself
    variants = plan_variants(
        make,
        _varied(varied),
        has_singles=has_singles,
        budget_tasks=tasks if has_singles and at_cost else 0,
    )
    with progress_bar("training") as progress:
        comparison = compare(
            variants,
            load,
            out,
            seeds=seeds,
            split=split,
            datasets=datasets,
            progress=progress,
            report=lambda line: click.echo(line, err=True),
        )
    with progress_bar("exporting") as progress:
        judgement = judge(comparison, load, out, progress=progress)
    table = msgspec.json.encode(judgement.table())
    write_file(out / TABLE, msgspec.json.format(table, indent=1) + b"\n")
    chosen = comparison.rows[judgement.choice].variant.recipe
    write_file(out / RECOMMENDED, chosen.to_toml().encode())
    names = ", ".join(dict.fromkeys(folder.resolve().name for folder in datasets))
    write_comparison(out / PAGE, judgement, f"Networks compared on {names}")
    click.echo(table.decode() if as_json else _text(judgement, out))


def _varied(texts: tuple[str, ...]) -> dict[str, list[object]]:
    """Read `KEY=A,B`, each value TOML or plain text, or `KEY=[A, B]`, TOML."""
    varied: dict[str, list[object]] = {}
    for text in texts:
        key, equals, values = (part.strip() for part in text.partition("="))
        parts = [part.strip() for part in values.split(",") if part.strip()]
        if not (key and equals and parts):
            raise click.BadParameter(
                f"must be KEY=A,B, such as backbone=tiny,efficientnet_lite0, got {text!r}",
                param_hint="--vary",
            )
        if key in varied:
            raise click.BadParameter(f"{key} is given twice; name its values in one --vary")
        whole = parse_setting(text)[1]  # a TOML list, for values that hold commas themselves
        found = (
            whole
            if isinstance(whole, list)
            else [parse_setting(f"{key}={part}")[1] for part in parts]
        )
        varied[key] = [value for n, value in enumerate(found) if value not in found[:n]]
    return varied


def _text(judgement: "Judgement", out: Path) -> str:
    from export.verdict import answers, headline
    from train.page import answer_text

    lines = [headline(judgement), ""]
    tasks = judgement.comparison.tasks
    width = max(len(line["name"]) for line in judgement.table())
    header = "".join(f"{task[:14]:>16}" for task in tasks)
    lines.append(
        f"{'':<{width}}{header}{'Δm':>8}{'at cost':>9}{'params':>10}{'MACs':>9}{'INT8 ms':>9}"
        f"{'train s':>9}"
    )
    for line in judgement.table():
        right = "".join(_cell(line["tasks"][task]) for task in tasks)
        delta, at_cost = (_percent(line[key]) for key in ("delta_m", "delta_m_at_cost"))
        ms = "-" if line["int8_ms"] is None else f"{line['int8_ms']:.2f}"
        lines.append(
            f"{line['name']:<{width}}{right}{delta:>8}{at_cost:>9}"
            f"{line['parameters'] / 1e6:>8.2f} M"
            f"{line['macs'] / 1e6:>7.1f} M{ms:>9}{line['train_s']:>9.1f}"
            f"{'  <- take' if line['is_choice'] else ''}"
        )
    return "\n".join(
        [
            *lines,
            answer_text(answers(judgement)),
            "",
            f"{out / PAGE}: the same as a page, with a plot",
        ]
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"


def _cell(task: dict[str, object]) -> str:
    interval = task["interval"]
    half = ""
    if isinstance(interval, tuple):
        half = f" ± {50 * (interval[1] - interval[0]):.1f}"
    return f"{100 * float(str(task['accuracy'])):.1f}{half}".rjust(16)
