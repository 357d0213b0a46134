"""Decoded crops in a cache folder: each image is opened once, and once only.

An entry is named by the digest of what went in: image paths, sizes and times of change, zones,
crop size, margin, preprocessing.
"""

import hashlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from train.cache import INDEX, fill_entry, mark_used, prune_cache, reserve
from train.progress import Progress
from transom.crop import crop_zone
from transom.errors import DatasetError
from transom.geometry import Zone
from transom.image_file import ImageError, read_image
from transom.preprocess import Step, preprocess

MAX_CACHE_BYTES = 20 * 1024**3
"""The entries that were not used for longest are removed beyond this."""

_CROPS = "crops.u8"
_VERSION = 1  # of the entry's layout and of the way crops are made
_CHUNK = 32  # images a worker takes at a time
_INLINE = 64  # up to this many images, starting workers costs more than it saves
_HASH_BYTES = 1 << 24


@dataclass(frozen=True)
class DecodedCrops:
    """What became of a list of images and zones.

    Attributes:
        crops: (M, S, S, 3) uint8 BGR, memory-mapped, of the M entries that could be read.
        kept: (M,) int64, their positions in the list.
        failures: Position and reason of each of the others.
        digest: SHA-256 of the crops' bytes, hexadecimal.
    """

    crops: npt.NDArray[np.uint8]
    kept: npt.NDArray[np.int64]
    failures: tuple[tuple[int, str], ...]
    digest: str


class _Index(msgspec.Struct, frozen=True):
    """What an entry's index says; the crops lie in a file beside it, without a header."""

    kept: list[int]
    failures: list[tuple[int, str]]
    digest: str
    unopened: list[int] = []


class _Job(msgspec.Struct, frozen=True):
    """One image and the places of its zones among the crops."""

    path: Path
    zones: list[tuple[int, Zone]]


@dataclass(frozen=True)
class _Form:
    """What a crop is made to."""

    size: int
    margin: float
    steps: tuple[Step, ...]


def cached_crops(
    entries: Sequence[tuple[Path, Zone]],
    *,
    size: int,
    margin: float,
    steps: Sequence[Step] = (),
    cache: Path,
    progress: Progress | None = None,
) -> DecodedCrops:
    """Return the crop of every image and zone, from the cache or decoded now.

    Args:
        entries: Image file and zone.
        size: Side of the crops in pixels.
        margin: Context around each zone (see `crop_zone`).
        steps: What is done to each crop (see `transom.preprocess`).
        cache: The cache folder; made where missing.
        progress: Told how many images are decoded.

    Raises:
        DatasetError: The cache folder cannot be written.
    """
    form = _Form(size, margin, tuple(steps))
    folder = cache / "crops" / _key(entries, form)
    index = _read_index(folder, size)
    # Permissions may be given, or a share come back, without a change of size or time.
    if index is None or any(_opens(entries[place][0]) for place in index.unopened):
        try:
            index = _fill(folder, entries, form, progress)
        except OSError as error:
            raise DatasetError(
                f"{cache}: the cache of decoded images cannot be written: {error.strerror}; "
                "make room, or set TRANSOM_CACHE to another folder"
            ) from error
        prune_cache(folder.parent, keep=folder, limit=MAX_CACHE_BYTES)
    else:
        mark_used(folder)
    return DecodedCrops(
        crops=_map(folder / _CROPS, len(index.kept), size),
        kept=np.array(index.kept, np.int64),
        failures=tuple(index.failures),
        digest=index.digest,
    )


def _key(entries: Sequence[tuple[Path, Zone]], form: _Form) -> str:
    words = [str(_VERSION), str(form.size), repr(form.margin), *form.steps]
    together = hashlib.sha256(" ".join(words).encode())
    stamps: dict[Path, str] = {}
    for path, zone in entries:
        if path not in stamps:
            stamps[path] = _stamp(path)
        together.update(f"\n{stamps[path]} {zone.points}".encode())
    return together.hexdigest()


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return f"{path.absolute()} missing"
    return f"{path.absolute()} {found.st_size} {found.st_mtime_ns}"


def _read_index(folder: Path, size: int) -> _Index | None:
    try:
        index = msgspec.json.decode((folder / INDEX).read_bytes(), type=_Index)
        found = (folder / _CROPS).stat().st_size
    except (OSError, msgspec.DecodeError):
        return None
    return index if found == len(index.kept) * size * size * 3 else None


def _jobs(entries: Sequence[tuple[Path, Zone]]) -> list[_Job]:
    zones: dict[Path, list[tuple[int, Zone]]] = {}
    for place, (path, zone) in enumerate(entries):
        zones.setdefault(path, []).append((place, zone))
    return [_Job(path, places) for path, places in zones.items()]


def _fill(
    folder: Path, entries: Sequence[tuple[Path, Zone]], form: _Form, progress: Progress | None
) -> _Index:
    size, total, jobs = form.size, len(entries), _jobs(entries)

    def fill(temporary: Path) -> _Index:
        pixels = temporary / _CROPS
        reserve(pixels, total * size * size * 3)
        failures = sorted(_decode_all(jobs, _Target(pixels, total, form), progress))
        failed = {place for place, _ in failures}
        kept = [place for place in range(total) if place not in failed]
        _close_gaps(pixels, kept, total, size)
        unopened = [place for place, _ in failures if not _opens(entries[place][0])]
        return _Index(kept, failures, _sha256(pixels), unopened)

    return fill_entry(folder, fill)


def _opens(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


@dataclass(frozen=True)
class _Target:
    """The file that crops are written to, and what they are."""

    path: Path
    total: int
    form: _Form


def _decode_all(
    jobs: list[_Job], target: _Target, progress: Progress | None
) -> list[tuple[int, str]]:
    """Decode every job; return place and reason of what could not be read."""
    failures: list[tuple[int, str]] = []
    done = 0
    for count, failed in _decoded_chunks(jobs, target):
        failures += failed
        done += count
        if progress:
            progress(done, len(jobs))
    return failures


def _decoded_chunks(
    jobs: list[_Job], target: _Target
) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    chunks = [jobs[i : i + _CHUNK] for i in range(0, len(jobs), _CHUNK)]
    if len(jobs) <= _INLINE:
        yield from ((len(chunk), _decode_chunk(chunk, target)) for chunk in chunks)
        return
    workers = len(os.sched_getaffinity(0))
    waiting = deque(chunks)
    running: dict[Future[list[tuple[int, str]]], list[_Job]] = {}
    with _pool(workers) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < 2 * workers:
                    running[pool.submit(_decode_chunk, waiting[0], target)] = waiting[0]
                    waiting.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield len(running[future]), future.result()
                    del running[future]
        except BrokenProcessPool:
            pass
        except BaseException:  # Ctrl-C: dozens of large pictures would be decoded for nobody
            target.path.unlink(missing_ok=True)
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if running:
        _check_workers_start(target)
    for chunk in (*running.values(), *waiting):
        yield len(chunk), _decode_apart(chunk, target)


def _check_workers_start(target: _Target) -> None:
    """Tell a worker that an image has killed from workers that cannot run at all."""
    with _pool(1) as pool:
        try:
            pool.submit(_decode_chunk, [], target).result()
        except BrokenProcessPool as error:
            raise DatasetError(
                "worker processes cannot start, so no image is decoded; a script that loads a "
                "corpus must do so below: if __name__ == '__main__'"
            ) from error


def _decode_apart(jobs: list[_Job], target: _Target) -> list[tuple[int, str]]:
    """Decode where an image has killed a worker: halve until it is alone, and leave it out."""
    with _pool(1) as pool:
        try:
            return pool.submit(_decode_chunk, jobs, target).result()
        except BrokenProcessPool:
            pass
    if len(jobs) == 1:
        what = f"image {jobs[0].path} ends the process that decodes it"
        return [(place, what) for place, _ in jobs[0].zones]
    middle = len(jobs) // 2
    return _decode_apart(jobs[:middle], target) + _decode_apart(jobs[middle:], target)


def _pool(workers: int) -> ProcessPoolExecutor:
    # spawn: a fork of a process in which torch or OpenCV has started threads can hang.
    return ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker
    )


def _start_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer


def _decode_chunk(jobs: list[_Job], target: _Target) -> list[tuple[int, str]]:
    """Write the crops of some images to their places; runs in a worker.

    It ends early where the file is taken away, because nobody waits for it any more.
    """
    failures: list[tuple[int, str]] = []
    form = target.form
    crops = np.memmap(target.path, np.uint8, "r+", shape=(target.total, form.size, form.size, 3))
    for job in jobs:
        if not target.path.exists():
            break
        try:
            frame = read_image(job.path)
        except ImageError as error:
            failures += [(place, str(error)) for place, _ in job.zones]
            continue
        for place, zone in job.zones:
            crop = crop_zone(frame, zone, form.size, form.margin)
            crops[place] = preprocess(crop, form.steps)
    return failures


def _close_gaps(path: Path, kept: list[int], total: int, size: int) -> None:
    """Move the crops that could be read together, in order, and shorten the file."""
    if len(kept) == total > 0:
        return
    if kept:
        crops = np.memmap(path, np.uint8, "r+", shape=(total, size, size, 3))
        for place, source in enumerate(kept):
            if place != source:
                crops[place] = crops[source]
        crops.flush()
        del crops
    os.truncate(path, len(kept) * size * size * 3)


def _map(path: Path, count: int, size: int) -> npt.NDArray[np.uint8]:
    if count == 0:
        return np.zeros((0, size, size, 3), np.uint8)
    return np.memmap(path, np.uint8, "r", shape=(count, size, size, 3))


def _sha256(path: Path) -> str:
    together = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BYTES):
            together.update(block)
    return together.hexdigest()
