"""What resting stages make of pictures, computed once and kept in memory-mapped files.

As long as nothing in the first stages is trained, they give the same for the same picture, in
every epoch. Pictures are varied, though, so a picture has not one look but as many as epochs show
it: the recipe's `frozen_views` says how many different looks are kept, and epochs take turns in
them. An entry of the cache is named by the digest of what went in: data, variation, and the weights
that have looked.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from train.augment import Augment
from train.cache import INDEX, Rows, default_cache, fill_entry, mark_used, prune_cache, take
from train.corpus import Corpus
from train.engine import Engine, derived_seed
from train.fusion import Fusion, Seen
from train.network import to_image
from train.recipe import Recipe
from transom.errors import DatasetError

MAX_FEATURE_BYTES = 10 * 1024**3
"""What one training may keep, and beyond what entries that were not used for longest go."""

_log = logging.getLogger(__name__)

_VERSION = 1
_BLOCK = 64
"""Crops that are varied and looked at together."""


class _Index(msgspec.Struct, frozen=True):
    """What an entry's index says; each map lies in a file beside it, float32, channels last."""

    shapes: list[tuple[int, int, int, int]]
    stages: int


@dataclass(frozen=True)
class Features:
    """What some first stages have made of M rows of a corpus.

    Attributes:
        rows: (M,) int64, ascending: which rows of the corpus.
        stages: How many stages have looked.
        parts: The maps, each (m, h, w, C) float32, memory-mapped; row number `i` of the M is in
            part `i` modulo their number.
        device: Where they are wanted.
    """

    rows: Rows
    stages: int
    parts: Sequence[Sequence[npt.NDArray[np.float32]]]
    device: torch.device

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_flat(self) -> bool:
        """Whether vectors are all that is left of the pictures."""
        return all(kept.shape[1:3] == (1, 1) for kept in self.parts[0])

    def of(self, rows: Rows) -> Seen:
        """Return what was made of some rows of the corpus, (N,) int64, each among those kept."""
        places = np.searchsorted(self.rows, rows)
        part, place = places % len(self.parts), places // len(self.parts)
        maps = []
        for number in range(len(self.parts[0])):
            like = self.parts[0][number]
            found = np.empty((len(rows), *like.shape[1:]), np.float32)
            for which, files in enumerate(self.parts):
                found[part == which] = take(files[number], place[part == which])
            maps.append(torch.from_numpy(found).permute(0, 3, 1, 2).to(self.device))
        return Seen(tuple(maps), self.stages)

    def batches(self, size: int = 256) -> Iterator[Seen]:
        """Yield what was made of all rows, in order."""
        for start in range(0, len(self), size):
            yield self.of(self.rows[start : start + size])


class FeatureStore:
    """Keeps the features of a training's rows.

    Args:
        recipe: Of the training.
        corpus: All data.
        engine: The processes of one machine compute a part each, and read all.
        cache: Folder for entries; None = `$TRANSOM_CACHE` or `~/.cache/transom`.
    """

    def __init__(
        self, recipe: Recipe, corpus: Corpus, engine: Engine, cache: Path | None = None
    ) -> None:
        self._recipe, self._corpus, self._engine = recipe, corpus, engine
        self._folder = (cache or default_cache()) / "features"
        self._augment = None if recipe.augment.is_off else Augment(recipe.augment)
        self._makers: dict[tuple[int, bytes], _Maker] = {}
        self._known: dict[tuple[int, int | None, bytes], Features | None] = {}

    @property
    def views(self) -> int:
        """How many looks of a picture are kept; 0 = none is."""
        views = self._recipe.frozen_views
        return min(views, 1) if self._augment is None else views

    def features(self, fusion: Fusion, rows: Rows, view: int | None = None) -> Features | None:
        """Return what the resting stages of a fusion make of some rows, computed where it is not.

        Every process of the training calls it at the same time.

        Args:
            fusion: Of the network, in the state in which it is trained.
            rows: (M,) int64, ascending.
            view: Which variation of the pictures; None = as they are.

        Returns:
            None where no stage rests, or the features of all views would be too many to keep.

        Raises:
            DatasetError: The cache folder cannot be written.
        """
        stages = len(fusion.resting_stages())
        if stages == 0:
            return None
        known = stages, view, rows.tobytes()
        if known not in self._known:
            maker = self._maker(fusion, stages, rows)
            self._known[known] = self._read_or_make(maker, view) if self._fits(maker) else None
        return self._known[known]

    def _maker(self, fusion: Fusion, stages: int, rows: Rows) -> "_Maker":
        """Return what computes every view of the rows; to make it hashes the stages."""
        key = stages, rows.tobytes()
        if key not in self._makers:
            self._makers[key] = _Maker(fusion, stages, self._corpus.crops, rows, self._engine)
        return self._makers[key]

    def _fits(self, maker: "_Maker") -> bool:
        """Whether the features of all views may be kept."""
        needed = len(maker.rows) * maker.bytes_a_row * max(self.views, 1)
        if needed > MAX_FEATURE_BYTES:
            _log.warning(
                "too many features to keep, frozen stages look anew every epoch MiB=%d limit=%d",
                needed >> 20,
                MAX_FEATURE_BYTES >> 20,
            )
        return needed <= MAX_FEATURE_BYTES

    def _read_or_make(self, maker: "_Maker", view: int | None) -> Features:
        self._fill_part(maker, view)
        self._engine.wait()
        folders = self._folders(maker, view)
        parts = [_map(folder) for folder in folders]
        return Features(maker.rows, maker.stages, parts, self._engine.device)

    def _folders(self, maker: "_Maker", view: int | None) -> list[Path]:
        """Return the entries of all processes of this machine."""
        parts = range(self._engine.local_world)
        return [self._folder / self._key(maker, view, part) for part in parts]

    def _fill_part(self, maker: "_Maker", view: int | None) -> None:
        """Make this process's entry, where it is not."""
        folder = self._folders(maker, view)[self._engine.local_rank]
        if _is_whole(folder):
            mark_used(folder)
            return
        began = time.perf_counter()
        try:
            fill_entry(folder, lambda temporary: self._fill(temporary, maker, view))
        except OSError as error:
            raise DatasetError(
                f"{self._folder}: features cannot be kept: {error.strerror}; make room, set "
                "TRANSOM_CACHE to another folder, or frozen_views = 0 in the recipe"
            ) from error
        prune_cache(self._folder, folder, MAX_FEATURE_BYTES)
        _log.info("features kept rows=%d s=%.1f", len(maker.rows), time.perf_counter() - began)

    def _key(self, maker: "_Maker", view: int | None, part: int) -> str:
        """Return the name of one part's entry."""
        recipe, engine = self._recipe, self._engine
        varied = None if view is None or self._augment is None else recipe.augment
        plain = [
            *(_VERSION, torch.__version__, engine.device.type, engine.precision),
            *(self._corpus.digest, hashlib.sha256(maker.rows.tobytes()).hexdigest()),
            *(part, engine.local_world, maker.digest),
            *(recipe.backbone, recipe.fusion, recipe.maps, recipe.maps_fusion),
            *(() if varied is None else (recipe.seed, view, msgspec.to_builtins(varied))),
        ]
        return hashlib.sha256(json.dumps(plain).encode()).hexdigest()

    def _fill(self, folder: Path, maker: "_Maker", view: int | None) -> _Index:
        """Write one process's part of the features of one view."""
        engine = self._engine
        places = np.arange(engine.local_rank, len(maker.rows), engine.local_world)
        shapes = [(len(places), *shape) for shape in maker.shapes]
        with ExitStack() as opened:
            files = [
                opened.enter_context(_file(folder, number).open("wb"))
                for number in range(len(shapes))
            ]
            for start in range(0, len(places), _BLOCK):
                block = places[start : start + _BLOCK]
                seed = derived_seed(self._recipe.seed, "view", view or 0, int(block[0]))
                random = torch.Generator().manual_seed(seed)
                seen = maker.look(block, None if view is None else self._augment, random)
                for file, made in zip(files, seen, strict=True):
                    file.write(np.ascontiguousarray(made).tobytes())
        return _Index(shapes, maker.stages)


class _Maker:
    """Some first stages of a fusion and the rows they look at.

    Attributes:
        rows: (M,) int64, of the corpus.
        stages: How many stages look.
        shapes: (h, w, C) of each map.
        bytes_a_row: Of all of them.
    """

    def __init__(
        self, fusion: Fusion, stages: int, crops: npt.NDArray[np.uint8], rows: Rows, engine: Engine
    ) -> None:
        self.rows, self.stages = rows, stages
        self._fusion, self._crops, self._engine = fusion, crops, engine
        blank = torch.zeros(1, 3, *crops.shape[1:3], device=engine.device)
        self.shapes = [made.shape[1:] for made in self._run(blank)]
        self.bytes_a_row = sum(4 * int(np.prod(shape)) for shape in self.shapes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything in the stages, hexadecimal."""
        together = hashlib.sha256()
        for stage in self._fusion.resting_stages():
            together.update(repr(stage).encode())
            for tensor in stage.state_dict().values():
                together.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        probe = torch.linspace(0.0, 255.0, 3 * 64).view(1, 3, 8, 8).to(self._engine.device)
        together.update(self._fusion.normalise(probe).cpu().numpy().tobytes())
        together.update(json.dumps([self.stages, *map(list, self.shapes)]).encode())
        return together.hexdigest()

    def look(
        self, places: Rows, augment: Augment | None, random: torch.Generator
    ) -> list[npt.NDArray[np.float32]]:
        """Return the maps (n, h, w, C) of some of the rows, by their places among them."""
        crops = torch.from_numpy(take(self._crops, self.rows[places]))
        crops = crops.to(self._engine.device)
        return self._run(to_image(crops) if augment is None else augment(crops, random))

    def _run(self, image: torch.Tensor) -> list[npt.NDArray[np.float32]]:
        with torch.inference_mode(), self._engine.autocast():
            seen = self._fusion.see(self._fusion.normalise(image), self.stages)
            return [one.permute(0, 2, 3, 1).float().cpu().numpy() for one in seen.maps]


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number}.f32"


def _is_whole(folder: Path) -> bool:
    try:
        index = msgspec.json.decode((folder / INDEX).read_bytes(), type=_Index)
        sizes = [_file(folder, number).stat().st_size for number in range(len(index.shapes))]
    except (OSError, msgspec.DecodeError):
        return False
    return sizes == [4 * int(np.prod(shape)) for shape in index.shapes]


def _map(folder: Path) -> list[npt.NDArray[np.float32]]:
    index = msgspec.json.decode((folder / INDEX).read_bytes(), type=_Index)
    return [
        np.memmap(_file(folder, number), np.float32, "r", shape=shape)
        if shape[0]
        else np.zeros(shape, np.float32)
        for number, shape in enumerate(index.shapes)
    ]
