"""Pretrain a trunk on pictures without labels, as the encoder of an autoencoder.

Parts of each picture are hidden and the rest is noisy; the trunk and a decoder learn to paint it as
it was. What comes out is a file that a recipe starts from: `pretrained = "trunk.safetensors"`.

References:
    Vincent et al., Extracting and Composing Robust Features with Denoising Autoencoders, ICML 2008;
    Pathak et al., Context Encoders: Feature Learning by Inpainting, CVPR 2016 (hidden parts).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from msgspec import Meta

from train.backbones import BACKBONES, Trunk
from train.cache import take
from train.corpus import Corpus
from train.engine import derived_seed
from train.network import to_image
from train.progress import Progress
from train.reconstruction import Reconstruction
from transom.atomic import write_file
from transom.errors import DatasetError

_CELLS = 8


class Pretraining(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a trunk is pretrained.

    Attributes:
        epochs: Passes over the pictures.
        batch: Pictures a step.
        learning_rate: Largest rate; it falls along a cosine.
        weight_decay: Of AdamW.
        hidden: Share of the picture that is hidden, in cells of an eighth of its side.
        noise: Standard deviation of noise on the rest, grey levels.
        seed: Of every random number.
    """

    epochs: Annotated[int, Meta(ge=1)] = 20
    batch: Annotated[int, Meta(ge=2)] = 64
    learning_rate: Annotated[float, Meta(gt=0.0)] = 1e-3
    weight_decay: Annotated[float, Meta(ge=0.0)] = 0.01
    hidden: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.3
    noise: Annotated[float, Meta(ge=0.0, le=64.0)] = 8.0
    seed: Annotated[int, Meta(ge=0, lt=2**53)] = 0


@dataclass(frozen=True)
class Pretrained:
    """A trunk that has seen pictures.

    Attributes:
        path: Its weights; what a recipe's `pretrained` names.
        losses: Mean loss of each epoch (see `Reconstruction`).
    """

    path: Path
    losses: tuple[float, ...]


def pretrain_autoencoder(
    backbone: str,
    crops: npt.NDArray[np.uint8],
    out: Path,
    *,
    pretrained: bool | str | Path = False,
    settings: Pretraining | None = None,
    progress: Progress | None = None,
) -> Pretrained:
    """Train a backbone's trunk to paint pictures again, and write its weights.

    Args:
        backbone: Name in `train.backbones`; any will do, `autoencoder` is made for it.
        crops: (N, S, S, 3) uint8 BGR, at least 2, without labels: `Corpus.crops`, for example.
        out: File to write, `.safetensors`; replaced whole or not at all.
        pretrained: What the trunk starts from (see `Backbone.trunk`).
        settings: How.
        progress: Told of steps.

    Raises:
        DatasetError: There are fewer than 2 pictures.
        ConfigurationError: There is no such backbone, it is for larger pictures, or what it starts
            from is not on this machine.
    """
    if len(crops) < 2:
        raise DatasetError(f"pretraining needs at least 2 pictures, got {len(crops)}")
    settings = settings or Pretraining()
    BACKBONES[backbone].require_size(crops.shape[1])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(derived_seed(settings.seed, "weights"))
        trunk = BACKBONES[backbone].trunk(pretrained).to(device)
        task = Reconstruction(BACKBONES[backbone]).to(device)
        losses = _train(trunk, task, crops, settings, progress or (lambda done, total: None))
    state = {name: value.cpu().contiguous() for name, value in trunk.state_dict().items()}
    write_file(out, safetensors.torch.save(state, {"backbone": backbone}))
    return Pretrained(out, tuple(losses))


def unlabelled(corpus: Corpus) -> npt.NDArray[np.uint8]:
    """Return crops to pretrain on: all but those of `test`, which stay unseen, labelled or not."""
    return np.asarray(corpus.select(np.flatnonzero(corpus.splits != "test")).crops)


def spoil(image: torch.Tensor, settings: Pretraining, random: torch.Generator) -> torch.Tensor:
    """Return pictures with noise, and with some cells grey, (N, 3, S, S) float32, 0 to 255.

    Args:
        image: The same, unspoilt.
        settings: How much of both.
        random: On the CPU, whatever device the pictures are on.
    """
    noise = torch.randn(image.shape, generator=random).to(image.device) * settings.noise
    count = len(image)
    cells = torch.rand(count, 1, _CELLS, _CELLS, generator=random) < settings.hidden
    hidden = torch.nn.functional.interpolate(cells.float(), size=image.shape[-2:]) > 0.5
    return torch.where(hidden.to(image.device), 127.0, (image + noise).clamp(0.0, 255.0))


def _train(
    trunk: Trunk,
    task: Reconstruction,
    crops: npt.NDArray[np.uint8],
    settings: Pretraining,
    progress: Progress,
) -> list[float]:
    batch = min(settings.batch, len(crops))
    steps = settings.epochs * (len(crops) // batch)
    parameters = [*trunk.parameters(), *task.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    random = torch.Generator().manual_seed(derived_seed(settings.seed, "spoil"))
    device = parameters[0].device
    losses: list[float] = []
    done = 0
    trunk.train()
    for epoch in range(settings.epochs):
        total = torch.zeros((), device=device)
        rows = list(_batches(len(crops), batch, settings.seed, epoch))
        for chosen in rows:
            truth = to_image(torch.from_numpy(take(crops, chosen)).to(device))
            loss = task(trunk, trunk(spoil(truth, settings, random))[-1], truth).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.detach()
            done += 1
            progress(done, steps)
        losses.append(float(total) / len(rows))
    return losses


def _batches(count: int, batch: int, seed: int, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the pictures of each step in a new order; full batches, the rest waits."""
    order = np.random.default_rng(derived_seed(seed, "order", epoch)).permutation(count)
    for start in range(0, count - batch + 1, batch):
        yield np.sort(order[start : start + batch])
