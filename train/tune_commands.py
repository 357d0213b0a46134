"""The command `transom tune`."""

from pathlib import Path
from typing import Any

import click
import msgspec

from train.commands import read_settings, resolve_recipe
from train.corpus_loader import CorpusLoader
from train.progress import progress_bar
from train.recipe import Recipe
from train.search_space import Space, default_space, parse_space
from transom.atomic import write_file

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)

PAGE = "tune.html"
BEST = "best.toml"


@click.command("tune")
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...", type=_FOLDER)
@click.option("--out", required=True, type=_FOLDER, help="Folder of the search.")
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="How many the study shall hold, those of all workers together.",
)
@click.option(
    "--search",
    "searched",
    multiple=True,
    metavar="KEY=LOW..HIGH[:log]|A,B",
    help="A key of the recipe and where to search it; again for more.  [default: the usual ones]",
)
@click.option("--recipe", "recipe_file", type=_FILE, help="TOML file to begin with.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="One key of the recipe."
)
@click.option("--epochs", type=int, help="Passes over the data in a trial.")
@click.option(
    "--storage",
    default="",
    metavar="URL|FILE",
    help="A database's URL or a journal file that workers share.  [default: SQLite in --out]",
)
@click.option("--study", default="transom", show_default=True, help="Name of the study.")
@click.option("--seed", type=int, help="Of the proposals, for a single worker.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def tune_command(
    datasets: tuple[Path, ...],
    out: Path,
    trials: int,
    searched: tuple[str, ...],
    recipe_file: Path | None,
    settings: tuple[str, ...],
    epochs: int | None,
    storage: str,
    study: str,
    seed: int | None,
    as_json: bool,
) -> None:
    """Search for a better recipe.

    Trials that fall behind are given up after an epoch. Rows of the split test are never looked
    at. The same command goes on after Ctrl-C; started again beside itself, or on another machine
    with the same --storage and --study, it is one more worker on the same search. A database
    keeps a killed worker's trial for the next one; a journal file does not.

    \b
    Examples:
        transom tune doors home --out search --trials 40
        transom tune doors --out rates --search learning_rate=1e-4..1e-2:log
        transom tune doors --out worker2 --storage postgresql+pg8000://tune@db/searches
    """
    from train.page import answer_text
    from train.tune import open_storage, search  # torch is seconds: not for --help
    from train.tune_page import answers, headline, write_search

    values = read_settings(settings) | ({} if epochs is None else {"epochs": epochs})
    recipe = resolve_recipe(recipe_file, values)
    load = CorpusLoader(datasets)
    space, recipe = _space(searched, recipe, load)
    out.mkdir(parents=True, exist_ok=True)
    with progress_bar("searching") as progress:
        found = search(
            recipe,
            space,
            load,
            out,
            open_storage(storage, out),
            name=study,
            trials=trials,
            seed=seed,
            datasets=datasets,
            progress=progress,
            report=lambda line: click.echo(line, err=True),
        )
    write_file(out / BEST, found.best_recipe.to_toml().encode())
    names = ", ".join(dict.fromkeys(folder.resolve().name for folder in datasets))
    write_search(out / PAGE, found, f"Search for a recipe on {names}")
    if as_json:
        best, start = found.complete[0], found.start
        said: dict[str, Any] = {
            "study": study,
            "trials": len(found.trials),
            "complete": len(found.complete),
            "pruned": sum(trial.state == "pruned" for trial in found.trials),
            "best": {"trial": best.number, "accuracy": best.accuracy, "values": best.values},
            "start": start and {"trial": start.number, "accuracy": start.accuracy},
            "gain": found.gain,
            "importances": found.importances,
            "recipe": str(out / BEST),
        }
        click.echo(msgspec.json.encode(said).decode())
    else:
        ends = [f"{out / BEST}: the best recipe", f"{out / PAGE}: the same as a page, with plots"]
        click.echo("\n".join([headline(found), answer_text(answers(found)), "", *ends]))


def _space(searched: tuple[str, ...], recipe: Recipe, load: CorpusLoader) -> tuple[Space, Recipe]:
    if not searched:
        space, needed = default_space(load(recipe).tasks)
        return space, recipe.with_values(needed)
    try:
        return parse_space(searched), recipe
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--search") from error
