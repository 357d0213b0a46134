"""What happened in each epoch, and who is told of it while it happens."""

from typing import Protocol

import msgspec


class EpochRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One epoch.

    Attributes:
        epoch: From 1.
        seconds: Wall time of its training, without validation.
        images_per_s: Training pictures a second, over all processes.
        learning_rate: At its end, of what was not pretrained.
        loss: Mean training loss by task; a task without a label is not there.
        val_accuracy: Share of right answers of the averaged weights on `val`, 0 to 1, by task.
    """

    epoch: int
    seconds: float
    images_per_s: float
    learning_rate: float
    loss: dict[str, float]
    val_accuracy: dict[str, float]

    def flat(self) -> dict[str, float]:
        """Return the figures by name, `state loss` and the like, for a chart or a table."""
        figures = {"epoch": float(self.epoch), "learning rate": self.learning_rate}
        figures |= {f"{task} loss": value for task, value in self.loss.items()}
        return figures | {f"{task} accuracy": value for task, value in self.val_accuracy.items()}


class FitProgress(Protocol):
    """Who is told how a training goes."""

    def step(self, done: int, total: int) -> None:
        """Take note that `done` of `total` steps are done, over all epochs."""

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """Take note of a finished epoch, one of `epochs`."""


class Silent:
    """Tells nobody."""

    def step(self, done: int, total: int) -> None:
        """Ignore a step."""

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """Ignore an epoch."""
