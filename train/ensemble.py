"""Several runs as one run: the fusion of models whose answers, or weights, become one.

An ensemble is as good as its members are different: what they disagree on is where it can win.
On the device it costs as much as all of them; a soup costs as much as one, and so does a student
that learns from the ensemble (`transom train --teacher`).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from train.corpus import MISSING, Corpus
from train.engine import Engine
from train.evaluate import task_targets
from train.fit import conclude
from train.members import NAME, EnsembleFacts, How, Member, TaskAgreement, build_ensemble
from train.network import Logits, Network, predict_logits
from train.run import Run, begin_run, require_new
from train.soup import Soup, greedy_soup
from transom.atomic import write_file
from transom.bundle import MAX_BUNDLE_BYTES
from transom.errors import DatasetError, RunError
from transom.tasks import Task, TaskSet

_log = logging.getLogger(__name__)

_FOLDS = 5
_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""How strongly a stack is held to the plain mean, each tried on groups left out."""

Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Blend:
    """How the members' logits of one task become the ensemble's.

    Attributes:
        matrix: (C, K C) float64, from the K members' calibrated logits, one after the other, each
            in the ensemble's order of classes.
        bias: (C,) float64.
        weights: (K,) of the members, where the matrix is no more than that.
    """

    matrix: Matrix
    bias: Matrix
    weights: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Held:
    """A task on the held-out rows.

    Attributes:
        logits: (N, K, C) float64, calibrated, of the K members that know the task.
        targets: (N,) int64, `MISSING` where a row does not count.
        groups: (N,) names.
    """

    logits: Matrix
    targets: Indices
    groups: npt.NDArray[np.str_]

    def labelled(self) -> "Held":
        """Return the rows that count."""
        return self.rows(self.targets != MISSING)

    def rows(self, chosen: npt.NDArray[np.bool_]) -> "Held":
        """Return some rows."""
        return Held(self.logits[chosen], self.targets[chosen], self.groups[chosen])


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
            groups of `val` that it was not fitted on bear out.
        datasets: Folders that the corpus came from, to be noted in the run.

    Raises:
        RunError: Members differ in what they are fed or in the classes of a task, one is itself an
            ensemble, or the folder is not empty.
        DatasetError: `weighted` or `stacked` without labelled rows of `val`.
    """
    tasks = _joined_tasks(runs)
    _check_inputs(runs)
    require_new(folder)
    said = [calibrated_logits(run, corpus) for run in runs]
    blends = {
        task.name: _blend(how, held_out(task, runs, said, corpus, ("val",)).labelled(), task)
        for task in tasks
    }
    members = tuple(
        Member(name=name, recipe=run.recipe, tasks=tuple(run.tasks))
        for name, run in zip(member_names(runs), runs, strict=True)
    )
    network = assemble(runs, members, tasks, blends)
    description = EnsembleFacts(
        how=how,
        members=members,
        weights=_named_weights(runs, members, blends),
        agreement=_agreements(tasks, runs, members, said, blends, corpus),
    )
    engine = Engine.start("float32")
    facts = begin_run(folder, runs[0].recipe, corpus, tasks, engine, datasets, members=runs)
    data = msgspec.json.format(msgspec.json.encode(description), indent=1)
    write_file(folder / NAME, data + b"\n")
    return conclude(folder, runs[0].recipe, facts, network, corpus)


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
    return conclude(folder, used[0].recipe, facts, soup.network, corpus), soup


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


def held_out(
    task: Task,
    runs: Sequence[Run],
    said: Sequence[Logits],
    corpus: Corpus,
    splits: Sequence[str],
) -> Held:
    """Return what the members that know a task say of the rows of some splits."""
    chosen = np.isin(corpus.splits, list(splits))
    targets, _ = task_targets(task, corpus)
    logits = [
        logits[task.name][:, _places(task, run.tasks[task.name])]
        for run, logits in zip(runs, said, strict=True)
        if task.name in run.tasks
    ]
    stacked = np.stack(logits, axis=1).astype(np.float64)
    return Held(stacked, targets, np.asarray(corpus.groups)).rows(chosen)


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


def fit_weights(held: Held) -> Matrix:
    """Return the members' weights, (K,) float64 of sum 1, that make labelled rows likeliest.

    A temperature is fitted with them, so that they do not speak for it.
    """
    logits, truth = torch.from_numpy(held.logits), torch.from_numpy(held.targets)
    scores = torch.zeros(logits.shape[1] + 1, dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        weights, sharpness = scores[:-1].softmax(0), scores[-1].exp()
        blended = torch.einsum("nkc,k->nc", logits, weights) * sharpness
        # A little towards equal weights, so that members which are the same share theirs.
        return functional.cross_entropy(blended, truth) + 1e-3 * scores.square().sum()

    _minimise(loss, scores)
    return np.asarray(scores.detach()[:-1].softmax(0).numpy())


def fit_stack(held: Held, strength: float) -> tuple[Matrix, Matrix]:
    """Return the matrix (C, K C) and bias (C,) that make labelled rows likeliest.

    Args:
        held: Labelled rows.
        strength: Of the pull towards the plain mean, per row; at infinity it is the mean.
    """
    n, count, classes = held.logits.shape
    flat = torch.from_numpy(held.logits.reshape(n, count * classes))
    truth = torch.from_numpy(held.targets)
    mean = torch.from_numpy(_mean_matrix(np.full(count, 1.0 / count), classes))
    if not np.isfinite(strength):
        return np.asarray(mean.numpy()), np.zeros(classes)
    change = torch.zeros(classes, count * classes + 1, dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        blended = flat @ (mean + change[:, :-1]).T + change[:, -1]
        return functional.cross_entropy(blended, truth) + strength * change.square().sum()

    _minimise(loss, change)
    found = change.detach()
    return np.asarray((mean + found[:, :-1]).numpy()), np.asarray(found[:, -1].numpy())


def choose_strength(held: Held) -> float:
    """Return the strength at which a stack does best on groups that it was not fitted on.

    Args:
        held: Labelled rows.

    Returns:
        One of `_STRENGTHS`; infinity, the plain mean, where none beats it or there are fewer than
        two groups to tell by.
    """
    names = np.unique(held.groups)
    if len(names) < 2:
        return float("inf")
    order = np.random.default_rng(0).permutation(len(names))
    fold_of = {name: int(order[i]) % min(_FOLDS, len(names)) for i, name in enumerate(names)}
    folds = np.array([fold_of[name] for name in held.groups])
    strengths = (float("inf"), *reversed(_STRENGTHS))
    costs = [_left_out_cost(held, folds, strength) for strength in strengths]
    return strengths[int(np.argmin(costs))]


def agreement(held: Held, blend: Blend, names: Sequence[str]) -> TaskAgreement | None:
    """Return how far members say the same; None where no row is labelled.

    Args:
        held: All held-out rows, labelled or not.
        blend: How the ensemble answers.
        names: Of the K members.
    """
    counted = held.targets != MISSING
    if not counted.any():
        return None
    guesses = held.logits.argmax(2)
    ensemble = _blended(held, blend).argmax(1)[counted]
    right = guesses[counted] == held.targets[counted][:, None]
    ensemble_right = ensemble == held.targets[counted]
    same = (guesses[counted] == guesses[counted][:, :1]).all(1)
    return TaskAgreement(
        n=int(counted.sum()),
        accuracy={
            **{name: float(right[:, place].mean()) for place, name in enumerate(names)},
            "ensemble": float(ensemble_right.mean()),
        },
        agreement=tuple(
            tuple(float((guesses[:, i] == guesses[:, j]).mean()) for j in range(len(names)))
            for i in range(len(names))
        ),
        unanimous=float(same.mean()),
        accuracy_unanimous=_share(right[same, 0]),
        accuracy_divided=_share(ensemble_right[~same]),
        one_right=float(right.any(1).mean()),
    )


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


def _blend(how: How, held: Held, task: Task) -> Blend:
    count, classes = held.logits.shape[1:]
    if how != "mean" and not len(held.targets):
        raise DatasetError(
            f"--how {how} is fitted on rows of the split `val`, and none is labelled for "
            f"{task.name!r}; say --how mean"
        )
    if how == "stacked" and count > 1:
        strength = choose_strength(held)
        _log.info("stacked task=%s strength=%g", task.name, strength)
        return Blend(*fit_stack(held, strength))
    is_fitted = how == "weighted" and count > 1
    weights = fit_weights(held) if is_fitted else np.full(count, 1.0 / count)
    return Blend(_mean_matrix(weights, classes), np.zeros(classes), tuple(weights.tolist()))


def _mean_matrix(weights: Matrix, classes: int) -> Matrix:
    return np.asarray(np.kron(weights, np.eye(classes)))


def _blended(held: Held, blend: Blend) -> Matrix:
    flat = held.logits.reshape(len(held.logits), -1)
    return np.asarray(flat @ blend.matrix.T + blend.bias)


def _left_out_cost(held: Held, folds: Indices, strength: float) -> float:
    cost = 0.0
    for fold in np.unique(folds):
        fitted = fit_stack(held.rows(folds != fold), strength)
        left = held.rows(folds == fold)
        scores = torch.from_numpy(_blended(left, Blend(*fitted)))
        truth = torch.from_numpy(left.targets)
        cost += float(functional.cross_entropy(scores, truth, reduction="sum"))
    return cost / len(held.targets)


def _minimise(loss: Callable[[], torch.Tensor], parameter: torch.Tensor) -> None:
    optimizer = torch.optim.LBFGS([parameter], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        torch.autograd.backward(value)
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def _head(
    task: Task, runs: Sequence[Run], networks: Sequence[Network], blend: Blend
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ensemble's linear head, float64: (C, sum of what the members' heads read), (C,)."""
    classes = len(task.classes)
    knowing = [pair for pair in zip(runs, networks, strict=True) if task.name in pair[0].tasks]
    # The members' usual scale stays in the logits: their temperature is then the ensemble's too,
    # which is calibrated next, and an ensemble of one is that one to the last digit but rounding.
    temperatures = [run.temperatures.get(task.name, 1.0) for run, _ in knowing]
    scale = float(np.exp(np.mean(np.log(temperatures))))
    parts, bias = [], torch.from_numpy(blend.bias) * scale
    for place, (run, network) in enumerate(knowing):
        matrix = torch.from_numpy(blend.matrix[:, place * classes : (place + 1) * classes])
        matrix = matrix * (scale / temperatures[place])
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
    tasks: TaskSet,
    runs: Sequence[Run],
    members: Sequence[Member],
    said: Sequence[Logits],
    blends: Mapping[str, Blend],
    corpus: Corpus,
) -> dict[str, TaskAgreement]:
    found = {}
    for task in tasks:
        held = held_out(task, runs, said, corpus, ("val", "test"))
        names = _knowing(task.name, runs, members)
        result = agreement(held, blends[task.name], names)
        if result is not None:
            found[task.name] = result
    return found


def _knowing(task: str, runs: Sequence[Run], members: Sequence[Member]) -> list[str]:
    return [m.name for m, run in zip(members, runs, strict=True) if task in run.tasks]


def _share(right: npt.NDArray[np.bool_]) -> float | None:
    return float(right.mean()) if len(right) else None
