"""Several runs as one run: the fusion of models whose answers, or weights, become one.

An ensemble is as good as its members are different: what they disagree on is where it can win.
On the device it costs as much as all of them; a soup costs as much as one, and so does a student
that learns from the ensemble (`transom train --teacher`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from train.agreement import agreement
from train.blend import Blend, Held, Voice, blended, fit_blend, left_out
from train.conclude import conclude
from train.corpus import Corpus
from train.engine import Engine
from train.evaluate import task_targets
from train.members import NAME, EnsembleFacts, How, Member, TaskAgreement, build_ensemble
from train.members_page import ensemble_section, soup_section
from train.network import Logits, Network, predict_logits
from train.run import Run, begin_run, require_new
from train.soup import Soup, greedy_soup
from transom.atomic import write_file
from transom.bundle import MAX_BUNDLE_BYTES
from transom.errors import RunError
from transom.tasks import Task, TaskSet


def make_ensemble(
    runs: Sequence[Run],
    corpus: Corpus,
    folder: Path,
    *,
    how: How = "mean",
    datasets: Sequence[Path] = (),
) -> Run:
    """Put runs together, calibrate and judge the whole, and write it as a run.

    Args:
        runs: The members; a single one gives what it gives alone.
        corpus: Crops of their size and margin. `val` decides weights, temperatures and
            thresholds; `test` is judged last.
        folder: Of the new run.
        how: `mean` of the members' calibrated logits; `weighted`, by weights that make `val`
            likeliest; `stacked`, by any linear map of all their logits, as far from the mean as
            groups of `val` that it was not fitted on bear out. What is fitted on `val` is
            calibrated and judged there by fits that each leave out the groups they answer for.
        datasets: Folders that the corpus came from, to be noted in the run.

    Raises:
        RunError: Members differ in what they are fed or in the classes of a task, one is itself an
            ensemble, or the folder is not empty.
        DatasetError: `weighted` or `stacked` without labelled rows of `val`.
    """
    tasks = _joined_tasks(runs)
    _check_inputs(runs)
    require_new(folder)
    kept_aside = corpus.select(np.flatnonzero(corpus.splits != "train"))
    said = [calibrated_logits(run, kept_aside) for run in runs]
    voices = {task.name: _voice(how, task, runs, said, kept_aside) for task in tasks}
    blends = {name: voice.blend for name, voice in voices.items()}
    members = tuple(
        Member(name=name, recipe=run.recipe, tasks=tuple(run.tasks))
        for name, run in zip(member_names(runs), runs, strict=True)
    )
    network = assemble(runs, members, tasks, blends)
    description = EnsembleFacts(
        how=how,
        members=members,
        weights=_named_weights(runs, members, blends),
        agreement=_agreements(runs, members, voices),
    )
    engine = Engine.start("float32")
    facts = begin_run(folder, runs[0].recipe, corpus, tasks, engine, datasets, members=runs)
    data = msgspec.json.format(msgspec.json.encode(description), indent=1)
    write_file(folder / NAME, data + b"\n")
    return conclude(
        folder,
        runs[0].recipe,
        facts,
        network,
        corpus,
        val_logits=None if how == "mean" else _val_logits(runs, voices, kept_aside),
        sections=[ensemble_section(description, voices, kept_aside)],
    )


def make_soup(
    runs: Sequence[Run], corpus: Corpus, folder: Path, *, datasets: Sequence[Path] = ()
) -> tuple[Run, Soup]:
    """Average the weights of runs greedily (see `greedy_soup`) and write the result as a run.

    Raises:
        RunError: The runs are not of one shape, or the folder is not empty.
        DatasetError: `val` has no labelled row.
    """
    _check_inputs(runs)
    require_new(folder)
    soup = greedy_soup(runs, corpus)
    used = [runs[place] for place in soup.ingredients]
    engine = Engine.start("float32")
    facts = begin_run(folder, used[0].recipe, corpus, used[0].tasks, engine, datasets, members=used)
    run = conclude(
        folder,
        used[0].recipe,
        facts,
        soup.network,
        corpus,
        sections=[soup_section(member_names(runs), soup)],
    )
    return run, soup


def member_names(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return a name for each run, its folder's, numbered where several have the same."""
    names: list[str] = []
    for run in runs:
        name, number = run.folder.resolve().name, 2
        while name in names:
            name, number = f"{run.folder.resolve().name}-{number}", number + 1
        names.append(name)
    return tuple(names)


def calibrated_logits(run: Run, corpus: Corpus) -> Logits:
    """Return a run's logits of every row, (N, C) float32 by task, over its temperatures."""
    logits, _ = predict_logits(run.network(), corpus.crops)
    return {
        name: np.asarray(values / run.temperatures.get(name, 1.0), np.float32)
        for name, values in logits.items()
    }


def held_out(task: Task, runs: Sequence[Run], said: Sequence[Logits], corpus: Corpus) -> Held:
    """Return what the members that know a task say of the rows of a corpus.

    Args:
        task: The ensemble's.
        runs: The members.
        said: By member, calibrated logits of every row.
        corpus: The rows.
    """
    targets, _ = task_targets(task, corpus)
    logits = [
        logits[task.name][:, _places(task, run.tasks[task.name])]
        for run, logits in zip(runs, said, strict=True)
        if task.name in run.tasks
    ]
    return Held(np.stack(logits, axis=1).astype(np.float64), targets, np.asarray(corpus.groups))


def assemble(
    runs: Sequence[Run],
    members: Sequence[Member],
    tasks: TaskSet,
    blends: Mapping[str, Blend],
) -> Network:
    """Return one network whose logits are blends of the runs' calibrated ones, up to a scale.

    The blend of linear heads is a linear head over everything that they read.
    """
    networks = [run.network() for run in runs]
    ensemble = build_ensemble(members, tasks)
    ensemble.fusion.load_state_dict(
        {
            f"members.{place}.{name}": value
            for place, network in enumerate(networks)
            for name, value in network.fusion.state_dict().items()
        }
    )
    with torch.no_grad():
        for task in tasks:
            weight, bias = _head(task, runs, networks, blends[task.name])
            head = ensemble.head(task.name)
            head.weight.copy_(weight)
            head.bias.copy_(bias)
    return ensemble.eval()


def why_not_on_a_device(network: Network, kind: Literal["int8", "float32"] = "int8") -> str | None:
    """Return why a network cannot travel in a bundle; None where it can.

    Args:
        network: Whole.
        kind: Of its weights in the bundle.
    """
    needed = sum(p.numel() for p in network.parameters()) * (1 if kind == "int8" else 4)
    if needed <= MAX_BUNDLE_BYTES:
        return None
    return (
        f"its weights take {needed / 2**20:.0f} MiB in {kind}, a bundle has at most "
        f"{MAX_BUNDLE_BYTES / 2**20:.0f} MiB; train one student on it (transom train --teacher), "
        "or make a soup"
    )


def _joined_tasks(runs: Sequence[Run]) -> TaskSet:
    if not runs:
        raise RunError("an ensemble needs at least one run, got none")
    tasks: dict[str, Task] = {}
    for run in runs:
        for task in run.tasks:
            mine = tasks.setdefault(task.name, task)
            if set(mine.classes) != set(task.classes) or mine.ordinal != task.ordinal:
                raise RunError(
                    f"{run.folder}: task {task.name!r} has the classes "
                    f"{', '.join(task.classes)}, in {runs[0].folder} or after it "
                    f"{', '.join(mine.classes)}; members must agree on them"
                )
    return TaskSet(tasks.values())


def _check_inputs(runs: Sequence[Run]) -> None:
    for run in runs:
        if run.input != runs[0].input:
            raise RunError(
                f"{run.folder}: is fed {run.input}, {runs[0].folder} {runs[0].input}; all must be "
                "fed the same crops"
            )
        if (run.folder / NAME).exists():
            raise RunError(f"{run.folder}: is an ensemble itself; name its members instead")


def _places(task: Task, theirs: Task) -> list[int]:
    return [theirs.index(name) for name in task.classes]


def _voice(
    how: How, task: Task, runs: Sequence[Run], said: Sequence[Logits], kept_aside: Corpus
) -> Voice:
    held = held_out(task, runs, said, kept_aside)
    is_val = kept_aside.splits == "val"
    val = held.rows(is_val)
    blend = fit_blend(how, val.labelled(), task)
    logits = blended(held, blend)
    logits[is_val] = left_out(how, val, task, blend)
    return Voice(task.classes, blend, held, logits)


def _val_logits(
    runs: Sequence[Run], voices: Mapping[str, Voice], kept_aside: Corpus
) -> dict[str, npt.NDArray[np.float32]]:
    """What the ensemble would say of the rows of `val` had it not learnt from their groups."""
    is_val = kept_aside.splits == "val"
    return {
        task: np.asarray(voice.logits[is_val] * _scale(task, runs), np.float32)
        for task, voice in voices.items()
    }


def _scale(task: str, runs: Sequence[Run]) -> float:
    """The members' usual scale of logits, which stays in the ensemble's.

    Their temperature is then the ensemble's too, which is calibrated next, and an ensemble of one
    is that one to the last digit but rounding.
    """
    temperatures = [run.temperatures.get(task, 1.0) for run in runs if task in run.tasks]
    return float(np.exp(np.mean(np.log(temperatures))))


def _head(
    task: Task, runs: Sequence[Run], networks: Sequence[Network], blend: Blend
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ensemble's linear head, float64: (C, sum of what the members' heads read), (C,)."""
    classes = len(task.classes)
    knowing = [pair for pair in zip(runs, networks, strict=True) if task.name in pair[0].tasks]
    scale = _scale(task.name, runs)
    parts, bias = [], torch.from_numpy(blend.bias) * scale
    for place, (run, network) in enumerate(knowing):
        matrix = torch.from_numpy(blend.matrix[:, place * classes : (place + 1) * classes])
        matrix = matrix * (scale / run.temperatures.get(task.name, 1.0))
        order = _places(task, run.tasks[task.name])
        head = network.head(task.name)
        parts.append(matrix @ head.weight.detach().double()[order])
        bias = bias + matrix @ head.bias.detach().double()[order]
    return torch.cat(parts, 1), bias


def _named_weights(
    runs: Sequence[Run], members: Sequence[Member], blends: Mapping[str, Blend]
) -> dict[str, dict[str, float]]:
    return {
        task: dict(zip(_knowing(task, runs, members), blend.weights, strict=True))
        for task, blend in blends.items()
        if blend.weights is not None
    }


def _agreements(
    runs: Sequence[Run], members: Sequence[Member], voices: Mapping[str, Voice]
) -> dict[str, TaskAgreement]:
    found = {
        task: agreement(voice.held, voice.logits, _knowing(task, runs, members))
        for task, voice in voices.items()
    }
    return {task: result for task, result in found.items() if result is not None}


def _knowing(task: str, runs: Sequence[Run], members: Sequence[Member]) -> list[str]:
    return [m.name for m, run in zip(members, runs, strict=True) if task in run.tasks]
