"""Doors and kinds: fusions, balancing, maps, preprocessing, backbones, ensemble and student.

One network for two tasks, `kind` of thing and `state` of the door, judged on doors that no training
has seen. What is trained stays in --out: the same command goes on after an interruption, and more
parts or seeds add to what is there. The training set is reduced, and the tables say how.

    python benchmarks/comparison.py                        every part but the further ones
    python benchmarks/comparison.py --parts fusions,maps   some of them
    python benchmarks/comparison.py --parts heavy --seeds 1
    python benchmarks/comparison.py --parts "" --tables    tables of what has been trained so far
"""

import argparse
import fcntl
import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from comparison_parts import FURTHER, PARTS, TITLES

from export.compare import Judgement, judge
from train.compare import compare, cost_of, find_runs
from train.comparison import Comparison, Row, row_of, side_by_side
from train.corpus_loader import CorpusLoader
from train.cost import network_cost
from train.ensemble import make_ensemble
from train.fit import fit
from train.noise import Interval
from train.pretrain import Pretraining, pretrain_autoencoder
from train.recipe import Recipe
from train.run import METRICS, RECIPE, Run, read_run
from train.variants import Variant
from transom.dataset import read_dataset, write_dataset

KINDS_JUDGED = 0.5
"""Share of the groups of `kinds` that are judged on."""
SPLIT = "val"


def main() -> None:
    options = read_options()
    torch.set_num_threads(1)
    study = Study(options)
    if options.worker:
        study.work()
        return
    began = time.monotonic()
    if options.parts:
        study.prepare()
        spawn_workers(options.workers)
        if "together" in options.parts:
            study.make_ensemble()
            spawn_workers(options.workers)
    if options.tables or options.parts:
        text = study.tables()
        (options.out / f"comparison-{options.seeds}-seeds.md").write_text(text)
        print(text)
    print(f"{time.monotonic() - began:.0f} s with {options.workers} workers", file=sys.stderr)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("build/comparison"))
    parser.add_argument("--parts", default=",".join(p for p in PARTS if p not in FURTHER),
                        help=f"of {', '.join(PARTS)}; %(default)s unless given")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--size", type=int, default=96, help="side of the crops, pixels")
    parser.add_argument(
        "--doors", type=float, default=1.0, help="share of the photographs of doors"
    )
    parser.add_argument("--kinds", type=float, default=0.08, help="share of the groups of kinds")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="the default one")
    parser.add_argument("--tables", action="store_true", help="tables without any part, too")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.parts = [part for part in options.parts.split(",") if part]
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"--parts must be of {', '.join(PARTS)}, got {part}")
    return options


def spawn_workers(count: int) -> None:
    """Start this command as workers that share what is to be trained, and wait for them."""
    command = [sys.executable, *sys.argv, "--worker"]
    workers = [subprocess.Popen(command) for _ in range(count)]
    failed = [worker.returncode for worker in workers if worker.wait()]
    if failed:
        sys.exit(f"{len(failed)} of {count} workers failed; the same command goes on")


def reduced(folder: Path, out: Path, share: dict[str, float], *, once: bool) -> None:
    """Write a data set that has some groups of another one; its pictures are linked.

    Args:
        folder: The other one.
        out: Where to write.
        share: Of the groups, by split.
        once: Whether to take one row of each `source`: the others are its augmented copies.
    """
    if (out / "labels.csv").is_file():
        return
    dataset = read_dataset(folder)
    seen: set[str] = set()
    rows = []
    for row in dataset.rows:
        unit = row.extra["source"] if once else row.group_key
        if chance(unit) >= share[row.split] or (once and unit in seen):
            continue
        seen.add(unit)
        rows.append(row)
    out.mkdir(parents=True)
    (out / "images").symlink_to((folder / "images").resolve())
    write_dataset(out, name=dataset.name, tasks=dataset.tasks, rows=rows)


def chance(name: str) -> float:
    """Return a number from 0 to 1 that only depends on the name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


class Study:
    """All that is compared on one reduced data set, in one folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, options.out
        self.base = Recipe(backbone=options.backbone, size=options.size, epochs=options.epochs)
        data = self.out / f"data-{options.doors:g}-{options.kinds:g}"
        self.datasets = [data / "doors", data / "kinds"]
        self.load = CorpusLoader(self.datasets)
        self.default = Variant({"what": "default"}, self.base)
        self.ensemble = self.out / f"ensemble-{self.base.digest[:8]}-{options.seeds}"

    def variants(self, parts: Sequence[str]) -> list[Variant]:
        """Return what some parts are made of, the default first, each once."""
        found = {(self.base.digest, False): self.default}
        for part in parts:
            for variant in PARTS[part](self.base, self.out):
                found.setdefault((variant.recipe.digest, variant.is_single), variant)
        return list(found.values())

    def prepare(self) -> None:
        """Reduce the data, decode them once for all workers, pretrain what needs it."""
        options = self.options
        doors = dict.fromkeys(("train", "val"), options.doors)
        kinds = {"train": options.kinds, "val": max(options.kinds, KINDS_JUDGED * options.doors)}
        reduced(options.data / "doors", self.datasets[0], doors, once=True)
        reduced(options.data / "kinds", self.datasets[1], kinds, once=False)
        for variant in self.variants(options.parts):
            self.load(variant.recipe)
        trunk = self.out / "autoencoder.safetensors"
        if "autoencoder" in options.parts and not trunk.is_file():
            crops = np.asarray(self.load(self.base).split("train").crops)
            settings = Pretraining(epochs=5 * options.epochs)
            pretrain_autoencoder("autoencoder", crops, trunk, settings=settings)

    def work(self) -> None:
        """Train whatever no other worker trains."""
        for variant in self.variants(self.options.parts):
            with claimed(self.out, variant.recipe.digest[:16]) as is_mine:
                if is_mine and not self.runs(variant):
                    compare([variant], self.load, self.out, seeds=self.options.seeds,
                            split=SPLIT, datasets=self.datasets, report=tell)  # fmt: skip
        if "together" in self.options.parts and (self.ensemble / METRICS).is_file():
            for seed in range(self.options.seeds):
                with claimed(self.out, f"student-{seed}") as is_mine:
                    if is_mine:
                        self.train_student(seed)

    def runs(self, variant: Variant) -> tuple[tuple[Run, ...], ...] | None:
        """Return the runs of a variant, by seed; None where not all are finished."""
        return find_runs(variant, self.load, self.out, seeds=self.options.seeds)

    def make_ensemble(self) -> None:
        """Put the default's runs together."""
        if (self.ensemble / METRICS).is_file():
            return
        members = [run for (run,) in self.runs(self.default) or ()]
        corpus = self.load(self.base)
        make_ensemble(members, corpus, self.ensemble, datasets=self.datasets)

    def student(self, seed: int) -> Path:
        """Return the folder of a student."""
        return self.ensemble.with_name(f"{self.ensemble.name}-student-{seed}")

    def train_student(self, seed: int) -> None:
        """Train a network that learns from the ensemble beside the labels."""
        folder = self.student(seed)
        if (folder / METRICS).is_file():
            return
        recipe = self.base.with_values({"seed": seed})
        run = fit(recipe, self.load(recipe), folder, resume=(folder / RECIPE).is_file(),
                  datasets=self.datasets, teachers=[read_run(self.ensemble)])  # fmt: skip
        found = run.results.evaluations[SPLIT]["tasks"]
        right = ", ".join(f"{name} {task['accuracy']:.1%}" for name, task in found.items())
        tell(f"student, seed {seed}: {right}")

    def tables(self) -> str:
        """Put everything side by side that has been trained, and return Markdown."""
        rows = {variant.name: self.row(variant) for variant in self.variants(list(PARTS))}
        known = {name: row for name, row in rows.items() if row is not None}
        if self.default.name not in known:
            sys.exit("the default has not been trained yet; run a part first")
        known |= self.put_together(known[self.default.name])
        comparison = with_bases(side_by_side(list(known.values()), SPLIT), self.base)
        judgement = judge(comparison, self.load, self.out, seconds=3.0 * len(known))
        places = {name: place for place, name in enumerate(known)}
        parts = [self.facts(judgement)]
        for part, title in TITLES.items():
            names = [variant.name for variant in PARTS[part](self.base, self.out)]
            names += ["ensemble", "student"] if part == "together" else []
            mine = [places[name] for name in names if name in places]
            if mine:
                alone = single_tasks(comparison) if part == "fusions" else []
                shown = [places[self.default.name], *mine, *alone]
                parts.append(section(title, judgement, shown, len(mine)))
        return "\n\n".join(parts) + "\n"

    def row(self, variant: Variant) -> Row | None:
        """Return what a variant's runs say, if all are finished."""
        runs = self.runs(variant)
        if runs is None:
            return None
        return row_of(variant, runs, cost_of(variant, self.load(variant.recipe).tasks), SPLIT)

    def put_together(self, default: Row) -> dict[str, Row]:
        """Return the ensemble and its students, where they are there."""
        found = {}
        if (self.ensemble / METRICS).is_file():
            run = read_run(self.ensemble)
            cost = network_cost(run.network(), run.recipe.size)
            variant = Variant({"what": f"ensemble of {self.options.seeds}"}, self.base)
            row = row_of(variant, ((run,),), cost, SPLIT)
            seconds = default.seconds * self.options.seeds
            found["ensemble"] = replace(row, seconds=seconds)
        students = [self.student(seed) for seed in range(self.options.seeds)]
        if all((folder / METRICS).is_file() for folder in students):
            runs = tuple((read_run(folder),) for folder in students)
            variant = Variant({"what": "student of the ensemble"}, self.base)
            found["student"] = row_of(variant, runs, default.cost, SPLIT)
        return found

    def facts(self, judgement: Judgement) -> str:
        """Say what the tables rest on, and what was reduced."""
        options, comparison = self.options, judgement.comparison
        corpus = self.load(self.base)
        train = corpus.split("train")
        doors = sum(origin == "doors" for origin in train.origins)
        judged = ", ".join(f"{n} rows for `{task}`" for task, n in comparison.n.items())
        return (
            f"Trained on {doors} rows of `doors` (one copy of a photograph; share {options.doors:g}"
            f" of them) and {len(train) - doors} of `kinds` (share {options.kinds:g} of its groups)"
            f", {options.size} px, {options.epochs} epochs, {options.seeds} seeds, one thread a "
            f"training and {options.workers} trainings at a time. Judged on split `{SPLIT}`: "
            f"{judged}, in {comparison.groups} groups. Default: `{self.base.backbone}`, its other "
            "keys as in the recipe. Δm: over the default's single-task networks, each as large as "
            "it; at cost: over those that together cost what it does. Latency and training time: "
            "times the default's. Brackets: 95 % intervals over groups and seeds. **Bold**: apart "
            "from the default by more than chance, all rows of a table taken together. Machine: "
            f"{judgement.machine}."
        )


@contextmanager
def claimed(out: Path, name: str) -> Iterator[bool]:
    """Say whether this worker is the only one with a name; a worker that ends lets go of it."""
    path = out / "claims" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def with_bases(comparison: Comparison, base: Recipe) -> Comparison:
    """Let whatever has the default's backbone stand against the default's single-task networks."""
    default = next(p for p, r in enumerate(comparison.rows) if r.variant.recipe == base)
    own, small = comparison.bases[default], comparison.budget_bases[default]
    is_kin = [
        row.variant.recipe.backbone == base.backbone
        and row.variant.recipe.pretrained == base.pretrained
        and not row.variant.is_single
        for row in comparison.rows
    ]
    return replace(
        comparison,
        bases=tuple(own if k else b for k, b in zip(is_kin, comparison.bases, strict=True)),
        budget_bases=tuple(
            small if k else b for k, b in zip(is_kin, comparison.budget_bases, strict=True)
        ),
    )


def single_tasks(comparison: Comparison) -> list[int]:
    """Return the places of the default's single-task networks."""
    return [
        place
        for place, row in enumerate(comparison.rows)
        if row.variant.is_single and not row.variant.settings
    ]


def section(title: str, judgement: Judgement, places: Sequence[int], others: int) -> str:
    """Return a table.

    Args:
        title: Above it.
        judgement: What was compared.
        places: Of the rows; the first is the default's.
        others: How many rows the default is compared with.
    """
    comparison = judgement.comparison
    head = ["", *(f"`{task}` %" for task in comparison.tasks), "mean, points more", "Δm %",
            "Δm at cost %", "M parameters", "MMAC", "INT8 ×", "training ×"]  # fmt: skip
    lines = [" | ".join(head), "|".join(["---", *["---:"] * (len(head) - 1)])]
    lines += [" | ".join(cells(judgement, place, places[0], others)) for place in places]
    return f"### {title}\n\n" + "\n".join(f"| {line} |" for line in lines)


def cells(judgement: Judgement, place: int, default: int, others: int) -> list[str]:
    comparison, draws = judgement.comparison, judgement.comparison.draws
    row, ms = comparison.rows[place], judgement.int8_ms
    found = [row.variant.name]
    for column in range(len(comparison.tasks)):
        interval = draws.interval_of_share(draws.by_task[:, place, column])
        found.append(f"{100 * draws.means[place, column]:.1f}{span(interval, 100)}")
    apart = draws.of_tasks[:, place] - draws.of_tasks[:, default]
    lead = 100 * float(draws.means_of_tasks[place] - draws.means_of_tasks[default])
    wide = draws.interval(apart, 1 - 0.05 / max(others, 1))
    text = f"{lead:+.1f}{span(draws.interval(apart), 100, '+')}" if place != default else ""
    is_apart = bool(text and wide and not wide[0] <= 0 <= wide[1])
    found.append(f"**{text}**" if is_apart else text)
    for is_budget in (False, True):
        delta = comparison.delta(place, is_budget=is_budget)
        found.append("" if delta is None else f"{delta[0]:+.1f}{span(delta[1], 1, '+')}")
    found += [f"{row.cost.parameters / 1e6:.2f}", f"{row.cost.macs / 1e6:.0f}"]
    mine, first = ms[place], ms[default]
    found.append("-" if mine is None or first is None else f"{mine / first:.2f}")
    return [*found, f"{row.seconds / comparison.rows[default].seconds:.2f}"]


def span(interval: Interval | None, scale: float, sign: str = "") -> str:
    if interval is None:
        return ""
    low, high = (f"{scale * end:{sign}.1f}" for end in interval)
    return f" ({low} to {high})"


def tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line.partition('  ')[2] or line}", flush=True)


if __name__ == "__main__":
    main()
