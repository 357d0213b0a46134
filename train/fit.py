"""The training loop, from a recipe and a corpus to a run."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from train.augment import Augment
from train.averaging import Average
from train.cache import take
from train.checkpoint import NAME as CHECKPOINT
from train.checkpoint import Standing, load_checkpoint, save_checkpoint
from train.conclude import conclude
from train.corpus import MISSING, Corpus, learnable
from train.distill import Answers, Guidance, Teachers, heard_rows
from train.engine import Engine, derived_seed, one_thread
from train.evaluate import Evaluation
from train.features import Features, FeatureStore
from train.fusion import Seen
from train.history import EpochRecord, FitProgress, Silent
from train.losses import TaskLosses
from train.mixing import Mix, Mixed
from train.mutual import Learner, disagreement
from train.network import Network, predict_batches, predict_logits
from train.recipe import Recipe
from train.run import (
    METRICS,
    Events,
    Run,
    begin_run,
    check_resumable,
    read_facts,
    read_run,
    read_teachers,
)
from train.sampling import draw, row_shares
from train.schedule import Schedule
from transom.errors import ConfigurationError, DatasetError, RunError
from transom.tasks import TaskSet


def fit(
    recipe: Recipe,
    corpus: Corpus,
    folder: Path,
    *,
    resume: bool = False,
    progress: FitProgress | None = None,
    datasets: Sequence[Path] = (),
    teachers: Sequence[Run] = (),
    compare: Callable[[Mapping[str, Evaluation]], str] | None = None,
) -> Run:
    """Train a network, calibrate and judge it, and write the run.

    The weights that are kept are the averaged ones of the last epoch: `val` chooses nothing but
    temperatures and thresholds, so what it says of accuracy is not flattered by a choice.

    Args:
        recipe: How to train.
        corpus: Rows of `train` are learnt, `val` calibrates, `test` is judged last.
        folder: The run's; new or empty, unless `resume`.
        resume: Go on after the last whole epoch of an interrupted training, and end where it
            would have ended. A finished run is returned as it is.
        progress: Told of steps and epochs.
        datasets: Folders that the corpus came from, to be noted in the run.
        teachers: Runs whose answers are learnt beside the labels; with `resume` they are those
            that the training began with, from where they were then.
        compare: Returns a section of the report that follows from the evaluations, by split.

    Raises:
        RunError: The folder is not empty, holds another training than the one to resume, or a
            teacher is not what it was.
        DatasetError: There is nothing to learn from.
        ConfigurationError: The recipe names something that does not exist, or the training came to
            numbers that are none, as with a learning rate that is far too high.
    """
    progress = progress or Silent()
    tasks, rows = learnable(corpus)
    engine = Engine.start(recipe.precision)
    with torch.random.fork_rng([engine.device] if engine.device.type == "cuda" else []):
        if resume:
            check_resumable(folder, recipe, corpus)
            teachers = read_teachers(folder)
        training = Training(recipe, corpus, tasks, rows, engine, teachers)
        if resume:
            training.restore(folder)
        elif engine.is_main:
            begin_run(folder, recipe, corpus, tasks, engine, datasets, teachers)
        engine.wait()
        facts = read_facts(folder)
        if resume and (folder / METRICS).exists():
            return read_run(folder)

        events = Events(folder, len(training.history)) if engine.is_main else None
        try:
            for epoch in range(len(training.history), recipe.epochs):
                record = training.run_epoch(epoch, progress)
                training.check_numbers(record)  # before they are kept
                if events is not None:
                    events.add(record)
                    training.save(folder)
                    progress.epoch(record, recipe.epochs)
                engine.wait()
        finally:
            if events is not None:
                events.close()
        if engine.is_main:
            network, history = training.average.network, training.history
            conclude(folder, recipe, facts, network, corpus, history, compare=compare)
            (folder / CHECKPOINT).unlink(missing_ok=True)
        engine.wait()
    return read_run(folder)


class Training:
    """A training under way: the network and everything that moves with it.

    Attributes:
        history: Epochs done.
        average: The averaged network, which is the result.

    Args:
        recipe: How to train.
        corpus: All data.
        tasks: What to learn, of the corpus's tasks.
        rows: Which rows to learn from.
        engine: The machine.
        teachers: Runs to learn from, beside the labels.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        tasks: TaskSet,
        rows: npt.NDArray[np.int64],
        engine: Engine,
        teachers: Sequence[Run] = (),
    ) -> None:
        self.recipe, self.tasks, self.engine = recipe, tasks, engine
        self._corpus, self._rows = corpus, rows
        self._columns = [corpus.tasks.names.index(name) for name in tasks.names]
        targets = corpus.targets[rows][:, self._columns]
        groups = [corpus.groups[row] for row in rows]
        origins = [corpus.origins[row] for row in rows]
        self._shares = row_shares(recipe.sampling, targets, groups, origins, recipe.dataset_weights)
        self._heard = heard_rows(recipe, corpus.origins)
        self._val = corpus.split("val")

        # The first learner is the one that is kept; its peers learn beside it.
        self._learners = [
            Learner.begin(recipe, tasks, engine, number)
            for number in range(recipe.mutual.peers + 1)
        ]
        self.network: Network = self._learners[0].network
        self._losses = TaskLosses(recipe, tasks, targets).to(engine.device)
        self._augment = Augment(recipe.augment)
        self._mix = Mix(recipe.mix)
        self._guidance = Guidance(recipe, tasks)
        self._store = FeatureStore(recipe, corpus, engine)
        self._teachers = (
            Teachers(teachers, recipe, tasks, corpus.crops, engine.device) if teachers else None
        )

        self._batch = _batch_size(recipe.batch, len(rows), engine.world)
        self._steps = len(rows) // self._batch
        stages = len(self.network.fusion.pretrained_stages())
        self._schedule = Schedule(recipe, self._steps, stages)
        self.average = Average(self.network, recipe.average * self._steps * recipe.epochs)
        self._optimizer = torch.optim.AdamW(
            [group for learner in self._learners for group in learner.parameter_groups(recipe)],
            fused=True,
        )
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._step = 0
        self.history: tuple[EpochRecord, ...] = ()

    def run_epoch(self, epoch: int, progress: FitProgress) -> EpochRecord:
        """Train one epoch and return what happened; `epoch` counts from 0."""
        recipe, engine = self.recipe, self.engine
        began = time.perf_counter()
        networks = [self._ready(learner, epoch) for learner in self._learners]
        self.average.follow(self.network)
        features = self._features(epoch)
        random, order = self._seed(epoch)
        is_small = features is not None and features.is_flat
        with one_thread() if is_small else nullcontext():
            sums = self._run_steps(networks, order, random, features, progress)
        seconds = time.perf_counter() - began
        record = EpochRecord(
            epoch=epoch + 1,
            seconds=seconds,
            images_per_s=len(order) / seconds,
            learning_rate=recipe.learning_rate * self._schedule.rate_at(self._step - 1),
            loss=self._mean_losses(engine.total(sums)),
            val_accuracy=self._val_accuracy(is_kept=features is not None),
        )
        for learner in self._learners:
            learner.weighting.end_epoch(record.loss)
        self.history = (*self.history, record)
        return record

    def _run_steps(
        self,
        networks: Sequence[torch.nn.Module],
        order: npt.NDArray[np.int64],
        random: torch.Generator,
        features: Features | None,
        progress: FitProgress,
    ) -> torch.Tensor:
        """Take the steps of an epoch; return sums (2, T) of losses and of labelled rows."""
        recipe, engine = self.recipe, self.engine
        sums = torch.zeros(2, len(self.tasks), device=engine.device)
        trained = [
            [p for p in learner.parameters() if p.requires_grad] for learner in self._learners
        ]
        for batch in order.reshape(self._steps, self._batch):
            rows = engine.part(batch)
            mixed, answers = self._look(rows, random, features)
            with engine.autocast():
                said = [
                    learner.look(network, mixed.image)
                    for learner, network in zip(self._learners, networks, strict=True)
                ]
            loss, losses, counts = self._loss(said, mixed, rows, answers)

            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            for learner, parameters in zip(self._learners, trained, strict=True):
                learner.share_gradients(engine)
                if recipe.clip:
                    torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
            self._set_rates(self._schedule.rate_at(self._step))
            self._optimizer.step()
            self._step += 1
            self.average.update(self._step)

            sums += torch.stack([losses.detach(), counts])
            progress.step(self._step, self._steps * recipe.epochs)
        return sums

    def check_numbers(self, record: EpochRecord) -> None:
        """Refuse to go on with a network that is lost: whatever it learns next is no number either.

        Raises:
            ConfigurationError: It is.
        """
        values = self.network.state_dict().values()
        if all(map(math.isfinite, record.loss.values())) and all(
            bool(value.isfinite().all()) for value in values
        ):
            return
        raise ConfigurationError(
            f"recipe: in epoch {record.epoch} the training came to numbers that are none; "
            f"learning_rate must be lower, is {self.recipe.learning_rate:g}, or clip above 0 and "
            f"lower, is {self.recipe.clip:g}"
        )

    def save(self, folder: Path) -> None:
        """Write the checkpoint."""
        standing = Standing(
            recipe=self.recipe.digest,
            corpus=self._corpus.digest,
            step=self._step,
            history=self.history,
        )
        save_checkpoint(folder, standing, self._modules(), self._optimizer)

    def restore(self, folder: Path) -> None:
        """Take up the checkpoint, where there is one.

        Raises:
            RunError: It is damaged or belongs to another training.
        """
        standing = load_checkpoint(folder, self._modules(), self._optimizer)
        if standing is None:
            return
        if (standing.recipe, standing.corpus) != (self.recipe.digest, self._corpus.digest):
            raise RunError(
                f"{folder / CHECKPOINT}: belongs to another recipe or other data; train again"
            )
        self._step, self.history = standing.step, standing.history

    def _modules(self) -> dict[str, torch.nn.Module]:
        learners = {f"learner{i}": learner for i, learner in enumerate(self._learners)}
        return {**learners, "average": self.average.network}

    def _ready(self, learner: Learner, epoch: int) -> torch.nn.Module:
        """Freeze and seed a learner for an epoch; return what to call in place of its network."""
        learner.network.freeze_pretrained(self._schedule.frozen_stages(epoch))
        learner.network.train()
        learner.weighting.begin_epoch(derived_seed(self.recipe.seed, "weighting", epoch))
        return self.engine.wrap(learner.network)

    def _loss(
        self,
        said: Sequence[tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]],
        mixed: Mixed[torch.Tensor] | Mixed[Seen],
        rows: npt.NDArray[np.int64],
        answers: Answers,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the step's loss, and the kept network's summed losses and label counts (T,)."""
        mutual, parts, sums = self.recipe.mutual, [], []
        targets = self._targets_of(rows)
        for place, (learner, (logits, embedding, painting)) in enumerate(
            zip(self._learners, said, strict=True)
        ):
            losses, counts = mixed.losses(self._losses, logits, targets)
            # Means over all processes: their average gradient is then that of one large batch.
            total = self.engine.total(counts)
            share = self.engine.world / total.clamp(min=1)
            means, learns = losses * share, total > 0
            if answers:
                heard = torch.from_numpy(self._heard[rows]).to(targets.device)
                unheard = targets.masked_fill(heard[:, None], MISSING)
                alone = mixed.losses(self._losses, logits, unheard)[0] * share
                taught = mixed.part_of(heard.float())
                means, learns = self._guidance(means, learns, logits, answers, taught, alone)
            if len(said) > 1:
                others = disagreement([seen for seen, *_ in said], place, mutual.temperature)
                means = means + mutual.weight * others
            balanced = learner.weighting(means, learns, embedding)
            parts.append(balanced + self.recipe.reconstruction * painting)
            sums.append((losses, counts))
        return torch.stack(parts).sum(), *sums[0]

    def _seed(self, epoch: int) -> tuple[torch.Generator, npt.NDArray[np.int64]]:
        """Seed dropout; return the generator of the augmentation, and the epoch's rows."""
        seed, rank = self.recipe.seed, self.engine.rank
        torch.manual_seed(derived_seed(seed, "dropout", epoch, rank))
        random = torch.Generator().manual_seed(derived_seed(seed, "augment", epoch, rank))
        # Every process draws the same rows, and takes its part of each batch.
        chooser = np.random.default_rng(derived_seed(seed, "rows", epoch))
        return random, self._rows[draw(self._shares, self._steps * self._batch, chooser)]

    def _features(self, epoch: int) -> Features | None:
        """Return what resting stages make of the epoch's variation of the rows, where it is kept.

        It is, where that variation comes again: where they rest in more epochs than there are.
        """
        recipe = self.recipe
        if self._teachers or recipe.reconstruction or not recipe.mix.is_off:
            return None
        views, alike = self._store.views, self._schedule.alike(epoch)
        if not 0 < views < len(alike):
            return None
        view = alike.index(epoch) % views
        return self._store.features(self.network.fusion, self._rows, view)

    def _look(
        self, rows: npt.NDArray[np.int64], random: torch.Generator, features: Features | None
    ) -> tuple[Mixed[torch.Tensor] | Mixed[Seen], Answers]:
        """Return a batch as the networks take it, and what the teachers say of it."""
        if features is not None:
            return Mixed(features.of(rows)), ()
        crops = torch.from_numpy(take(self._corpus.crops, rows)).to(self.engine.device)
        mixed = self._mix(self._augment(crops, random), random)
        return mixed, self._teachers(mixed.image, rows) if self._teachers else ()

    def _targets_of(self, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return targets (n, T) int64 of some rows."""
        targets = torch.from_numpy(self._corpus.targets[rows][:, self._columns])
        return targets.to(self.engine.device)

    def _set_rates(self, share: float) -> None:
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share

    def _mean_losses(self, sums: torch.Tensor) -> dict[str, float]:
        values, counts = sums.cpu().tolist()
        return {
            name: value / count
            for name, value, count in zip(self.tasks.names, values, counts, strict=True)
            if count
        }

    def _val_accuracy(self, is_kept: bool) -> dict[str, float]:
        """Judge the average on `val`, by what resting stages make of it where that is kept."""
        rows = np.flatnonzero(self._corpus.splits == "val")
        features = self._store.features(self.network.fusion, rows) if is_kept else None
        if not (len(rows) and self.engine.is_main):
            return {}
        average = self.average.network
        if features is None:
            logits, _ = predict_logits(average, self._val.crops)
        else:
            logits, _ = predict_batches(average, features.batches())
        accuracy = {}
        for name, column in zip(self.tasks.names, self._columns, strict=True):
            truth = self._val.targets[:, column]
            counted = truth != MISSING
            if counted.any():
                right = logits[name].argmax(axis=1) == truth
                accuracy[name] = float(right[counted].mean())
        return accuracy


def _batch_size(wanted: int, rows: int, world: int) -> int:
    """Rows a step: full batches only, because normalisation needs at least two in each process."""
    batch = min(wanted, rows) // world * world
    if batch < 2 * world:
        raise DatasetError(
            f"{rows} rows in batches of {wanted} are too few for {world} processes; each needs at "
            "least 2 of every batch"
        )
    return batch
