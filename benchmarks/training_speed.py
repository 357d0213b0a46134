"""Training beside a plain PyTorch loop over the same network and the same pictures.

    python benchmarks/training_speed.py                     # the reported figures
    python benchmarks/training_speed.py --parts memory      # one of them
    python benchmarks/training_speed.py --parts ways --compile

Both sides train EfficientNet-Lite0 (ImageNet weights) at 128 px on the same rows of `doors` and
`kinds`, two tasks, batches of 32, AdamW, the gradient clipped, with the same variation of
pictures, computed by the same code a batch at a time. The plain loop is what one writes first:
`Dataset`, `DataLoader`, the network in PyTorch's own layers and memory format, float32. It runs
twice: on crops that it has decoded beforehand, as Transom's cache has, and decoding in every
epoch in two worker processes.

Each side is a process of its own; they take turns, so that whatever else the machine does meets
all of them. A ratio is that of medians over the turns, in brackets the least and the largest of a
single turn: by the clock, and by the processor time of the side and its workers, which a busy
machine disturbs less, with --threads 1 least of all.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from training_turns import Make, Turn, take_turns

from train.allocator import keep_memory
from train.augment import Augment
from train.backbones.layers import ConvUnit
from train.corpus import Corpus, learnable, load_corpus
from train.engine import Engine
from train.fit import Training
from train.history import Silent
from train.losses import TaskLosses
from train.network import Network, build_network, to_image
from train.recipe import Recipe
from transom.crop import crop_zone
from transom.dataset import Row
from transom.geometry import Zone
from transom.image_file import read_image

PLAIN = Recipe(epochs=1, frozen_epochs=0, average=0.0, sampling="shuffled", precision="float32")
PARTS = ("tuning", "frozen", "memory", "ways")


def main() -> None:
    """Measure and print."""
    options = read_options()
    threads = options.threads or len(os.sched_getaffinity(0))
    print(f"{threads} threads, {options.rows} rows a turn, {options.turns} turns")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRANSOM_CACHE"] = cache
        folders = [options.data / "doors", options.data / "kinds"]
        for part in options.parts:
            MEASURES[part](options, Setting(folders, options.rows, threads))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--rows", type=int, default=256, help="pictures an epoch")
    parser.add_argument("--turns", type=int, default=5, help="of each side")
    parser.add_argument("--epochs", type=int, default=30, help="of the frozen stage")
    parser.add_argument("--threads", type=int, default=0, help="0 = one a core")
    parser.add_argument("--many", type=int, default=100_000, help="rows whose memory is measured")
    parser.add_argument("--compile", action="store_true", help="try torch.compile too: minutes")
    return parser.parse_args()


class Setting(msgspec.Struct, frozen=True):
    """What all sides have in common.

    Attributes:
        folders: The data sets.
        rows: How many of their training rows are used.
        threads: Of PyTorch.
    """

    folders: list[Path]
    rows: int
    threads: int

    def corpus(self) -> Corpus:
        """Return the rows, always the same."""
        torch.set_num_threads(self.threads)
        whole = load_corpus(self.folders, size=PLAIN.size, margin=PLAIN.margin).split("train")
        labelled = np.flatnonzero((whole.targets >= 0).any(1))
        chosen = np.random.default_rng(0).choice(labelled, self.rows, replace=False)
        return whole.select(np.sort(chosen))


# ---- Transom


def transom_epoch(setting: Setting, values: dict[str, object]) -> Callable[[], int]:
    """An epoch of Transom's own training."""
    corpus = setting.corpus()
    # More epochs than are run, so that the schedule never ends.
    recipe = PLAIN.with_values({"epochs": 1000, **values})
    tasks, rows = learnable(corpus)
    training = Training(recipe, corpus, tasks, rows, Engine.start(recipe.precision))
    epochs = iter(range(recipe.epochs))

    def turn() -> int:
        return round(pictures(training.run_epoch(next(epochs), Silent())))

    return turn


def transom_frozen_stage(
    setting: Setting, turns: int, epochs: int, views: int
) -> Callable[[], int]:
    """All of a frozen stage, its features computed anew each time."""
    corpus = setting.corpus()
    recipe = PLAIN.with_values(
        {"epochs": epochs, "frozen_epochs": epochs, "frozen_views": views, "norm": "frozen"}
    )
    tasks, rows = learnable(corpus)
    engine = Engine.start(recipe.precision)
    # Networks are there beforehand, as the plain loop's is. Each knows other data, for all that
    # the cache knows.
    trainings = [
        Training(recipe, replace(corpus, digest=f"{number:064d}"), tasks, rows, engine)
        for number in range(turns)
    ]

    def turn() -> int:
        training = trainings.pop()
        return round(sum(pictures(training.run_epoch(e, Silent())) for e in range(epochs)))

    return turn


def pictures(record: Any) -> float:
    return float(record.seconds * record.images_per_s)


# ---- the plain loop


class Decoded(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Crops in memory."""

    def __init__(self, corpus: Corpus) -> None:
        self.crops = torch.from_numpy(np.array(corpus.crops))
        self.targets = torch.from_numpy(corpus.targets)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.crops[row], self.targets[row]


class Decoding(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images that are read, decoded and cropped whenever they are wanted."""

    def __init__(self, corpus: Corpus, folders: list[Path]) -> None:
        by_name = dict(zip(dict.fromkeys(corpus.origins), folders, strict=True))
        self.files = [
            by_name[o] / r.image for o, r in zip(corpus.origins, corpus.rows, strict=True)
        ]
        self.zones = [row.zone for row in corpus.rows]
        self.targets = torch.from_numpy(corpus.targets)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        cv2.setNumThreads(1)
        crop = crop_zone(read_image(self.files[row]), self.zones[row], PLAIN.size, PLAIN.margin)
        return torch.from_numpy(crop), self.targets[row]


def in_pytorchs_own_layers(module: nn.Module) -> nn.Module:
    """Replace Transom's convolution unit by three layers, as one would write it."""
    for name, child in module.named_children():
        if isinstance(child, ConvUnit):
            activates = not isinstance(child.activation, nn.Identity)
            layers = [child.conv, child.norm, *([nn.ReLU6(inplace=True)] if activates else [])]
            setattr(module, name, nn.Sequential(*layers))
        else:
            in_pytorchs_own_layers(child)
    return module


def plain_epoch(setting: Setting, *, decodes: bool, is_frozen: bool = False) -> Callable[[], int]:
    """An epoch of a loop over a `DataLoader`."""
    corpus = setting.corpus()
    tasks, _ = learnable(corpus)
    torch.manual_seed(0)
    network = build_network(PLAIN, tasks)
    trunk = network.fusion.trunk
    in_pytorchs_own_layers(network)
    network.to(memory_format=torch.contiguous_format)
    losses = TaskLosses(PLAIN, tasks, corpus.targets)
    trunk.requires_grad_(not is_frozen)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=PLAIN.weight_decay)
    data = Decoding(corpus, setting.folders) if decodes else Decoded(corpus)
    loader = DataLoader(
        data,
        PLAIN.batch,
        shuffle=True,
        drop_last=True,
        num_workers=2 if decodes else 0,
        persistent_workers=decodes,
    )
    augment = Augment(PLAIN.augment)
    random = torch.Generator().manual_seed(0)

    def turn() -> int:
        network.train()
        trunk.train(not is_frozen)
        seen = 0
        for crops, targets in loader:
            image = augment(crops, random).contiguous()
            logits, _ = network(image)
            sums, counts = losses(logits, targets)
            loss = (sums / counts.clamp(min=1)).sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, PLAIN.clip)
            optimizer.step()
            seen += len(crops)
        return seen

    return turn


# ---- the parts


def measure_tuning(options: argparse.Namespace, setting: Setting) -> None:
    """Fine-tune the whole network."""
    sides = {
        "plain loop, decoded beforehand": partial(plain_epoch, setting, decodes=False),
        "plain loop, decoding": partial(plain_epoch, setting, decodes=True),
        "Transom, norm = batch": partial(transom_epoch, setting, {"norm": "batch"}),
        "Transom, norm = frozen": partial(transom_epoch, setting, {"norm": "frozen"}),
    }
    turns = take_turns(sides, options.turns, warm=1)
    table("fine-tuning of all layers", turns)


def measure_frozen(options: argparse.Namespace, setting: Setting) -> None:
    """Train what is new on a frozen trunk, the same epochs on both sides."""
    each = max(options.epochs // options.turns, 1)
    plain = partial(plain_epoch, setting, decodes=False, is_frozen=True)
    sides: dict[str, Make] = {
        "plain loop, decoded beforehand": partial(repeated, plain, each),
    }
    for views in (1, PLAIN.frozen_views, 4):
        made = partial(transom_frozen_stage, setting, options.turns, options.epochs, views)
        sides[f"Transom, views of each picture: {views}"] = made
    turns = take_turns(sides, options.turns, warm=0)
    table(f"frozen stage of {options.epochs} epochs, features and all", turns)


def repeated(make: Callable[[], Callable[[], int]], times: int) -> Callable[[], int]:
    """A side whose turn is several of another's."""
    turn = make()
    return lambda: sum(turn() for _ in range(times))


def measure_ways(options: argparse.Namespace, setting: Setting) -> None:
    """Take steps of one network in several ways, without loading or varying pictures."""
    ways: dict[str, dict[str, Any]] = {
        "float32, contiguous": {"is_last": False},
        "bfloat16, contiguous": {"is_last": False, "is_low": True},
        "float32, channels last": {},
        "and memory kept": {"keeps": True},
        "and norm = frozen": {"keeps": True, "norm": "frozen"},
        "and bfloat16": {"keeps": True, "norm": "frozen", "is_low": True},
    }
    if options.compile:
        ways["memory kept, torch.compile"] = {"keeps": True, "compiles": True}
        ways["and norm = frozen, torch.compile"] = {
            "keeps": True,
            "norm": "frozen",
            "compiles": True,
        }
    sides = {name: partial(bare_steps, setting, **way) for name, way in ways.items()}
    turns = take_turns(sides, options.turns, warm=1)
    table("bare steps of fine-tuning", turns)


def bare_steps(
    setting: Setting,
    *,
    is_last: bool = True,
    keeps: bool = False,
    norm: str = "batch",
    is_low: bool = False,
    compiles: bool = False,
) -> Callable[[], int]:
    """Four steps on one batch."""
    if keeps:
        keep_memory()
    corpus = setting.corpus()
    tasks, _ = learnable(corpus)
    torch.manual_seed(0)
    network: Network = build_network(PLAIN.with_values({"norm": norm}), tasks).train()
    order = torch.channels_last if is_last else torch.contiguous_format
    network.to(memory_format=order)
    image = to_image(torch.from_numpy(np.array(corpus.crops[: PLAIN.batch])))
    image = image.contiguous(memory_format=order)
    targets = torch.from_numpy(corpus.targets[: PLAIN.batch])
    losses = TaskLosses(PLAIN, tasks, corpus.targets)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    called = torch.compile(network) if compiles else network

    def turn() -> int:
        for _ in range(4):
            with torch.autocast("cpu", torch.bfloat16, enabled=is_low):
                logits, _ = called(image)
                sums, counts = losses(logits, targets)
            loss = (sums / counts.clamp(min=1)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return 4 * len(image)

    return turn


def measure_memory(options: argparse.Namespace, setting: Setting) -> None:
    """Read every row of large data sets and take some steps on them."""
    counts = (options.many // 100, options.many)
    sides = {f"{count} rows": partial(read_all, setting, count) for count in counts}
    sides["no data, torch imported"] = nothing
    for name, [turn] in take_turns(sides, 1, warm=0).items():
        print(
            f"{name}: largest resident {turn.peak_mib:.0f} MiB; at the end {turn.anonymous_mib:.0f}"
            f" MiB of its own and {turn.mapped_mib:.0f} MiB of mapped files; PSS {turn.pss_mib:.0f}"
        )


def nothing() -> Callable[[], int]:
    return lambda: 0


def read_all(setting: Setting, count: int) -> Callable[[], int]:
    """Vary every row once, as an epoch does, and take 40 steps."""
    corpus = many_rows(setting, count)
    recipe = PLAIN.with_values({"norm": "frozen"})
    tasks, rows = learnable(corpus)
    training = Training(recipe, corpus, tasks, rows, Engine.start(recipe.precision))

    def turn() -> int:
        random = torch.Generator().manual_seed(0)
        for start in range(0, count, 256):
            training._look(rows[start : start + 256], random, None)
        with suppress(StoppedError):
            training.run_epoch(0, StopAfter(40))
        return count

    return turn


class StoppedError(Exception):
    """Raised where enough steps are done."""


class StopAfter(Silent):
    """Ends an epoch after some steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def step(self, done: int, total: int) -> None:
        """End it."""
        if done == self.steps:
            raise StoppedError


def many_rows(setting: Setting, count: int) -> Corpus:
    """A corpus of `count` rows, its crops in a file that is mapped, as in the cache."""
    some = setting.corpus()
    path = Path(os.environ["TRANSOM_CACHE"]) / f"{count}.u8"
    with path.open("wb") as file:
        for start in range(0, count, len(some)):
            file.write(np.array(some.crops[: count - start]).tobytes())
    size = PLAIN.size
    which = np.arange(count) % len(some)
    labels = [dict(row.labels) for row in some.rows]
    rows = [
        Row(image=f"{n}.jpg", zone=Zone.rectangle(0.1, 0.1, 0.9, 0.9), labels=labels[w])
        for n, w in enumerate(which)
    ]
    return Corpus(
        tasks=some.tasks,
        crops=np.memmap(path, np.uint8, "r", shape=(count, size, size, 3)),
        targets=some.targets[which],
        groups=tuple(f"many/{n}" for n in range(count)),
        splits=np.full(count, "train"),
        rows=tuple(rows),
        origins=("many",) * count,
        digest=f"{count:064d}",
    )


MEASURES: dict[str, Callable[[argparse.Namespace, Setting], None]] = {
    "tuning": measure_tuning,
    "frozen": measure_frozen,
    "memory": measure_memory,
    "ways": measure_ways,
}


def table(title: str, turns: dict[str, list[Turn]]) -> None:
    """Print how fast each side is, beside the first one."""
    print(f"\n{title}")
    print("| side | images/s | times the first | of processor time | peak MiB |")
    print("|---|---|---|---|---|")
    first = next(iter(turns.values()))
    for name, mine in turns.items():
        speed = statistics.median(turn.images_per_s for turn in mine)
        by_clock = _ratio([t.images_per_s for t in mine], [t.images_per_s for t in first])
        by_cpu = _ratio([t.images / t.cpu_s for t in mine], [t.images / t.cpu_s for t in first])
        print(f"| {name} | {speed:.1f} | {by_clock} | {by_cpu} | {mine[-1].peak_mib:.0f} |")


def _ratio(mine: list[float], first: list[float]) -> str:
    """Say how many times as fast: the medians, and the least and largest of a turn."""
    each = [one / other for one, other in zip(mine, first, strict=True)]
    whole = statistics.median(mine) / statistics.median(first)
    return f"{whole:.2f} ({min(each):.2f} to {max(each):.2f})"


if __name__ == "__main__":
    main()
