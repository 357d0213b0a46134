"""Two frames in memory that a camera's process writes and the daemon reads.

The memory has no name (memfd), so nothing of it can be left behind, however the two processes
end. It is as large as the largest frame allows, and costs only what the frames touch. Each slot is
guarded by a record lock, which the kernel drops when its holder dies, and which orders memory
between processors: a frame is read whole or not at all. What is read without the lock, a slot's
number and the time of the last picture, is a whole machine word that is stored at once: written
byte by byte (`struct.pack_into`), it is zero for a moment.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_runtime.wake import Wake
from transom.crop import Image

MAX_FRAME_BYTES = 4096 * 4096 * 3
"""Room for one frame: 16 megapixels."""

_SLOTS = 2
_HEADER_BYTES = 4096  # pixels begin on a page
_SLOT_BYTES = _HEADER_BYTES + MAX_FRAME_BYTES
_HEADER_WORDS = 5  # number, taken_ns, key frames, height, width
_ALIVE_WORD = 256  # in the first slot's page


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and when it was taken.

    Attributes:
        image: (H, W, 3) uint8 BGR; belongs to whoever asked for it.
        taken_ns: CLOCK_MONOTONIC when the picture left the camera, nanoseconds.
        number: Grows with every frame of a camera; a gap is a frame nobody asked for in time.
        key_frames: How many key frames the camera's stream has had so far; None = its pictures
            stand each for itself.
    """

    image: Image
    taken_ns: int
    number: int
    key_frames: int | None = None


class FrameRing:
    """The shared memory of one camera's process.

    Attributes:
        descriptor: Pass it to the other process, and there to `FrameRing`.

    Args:
        descriptor: Of the process that reads; None = this one reads.
        wake: Set at every frame that is written; None = nobody waits for it.
    """

    def __init__(self, descriptor: int | None = None, wake: Wake | None = None) -> None:
        self._wake = wake
        if descriptor is None:
            descriptor = os.memfd_create("transom-frames", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, _SLOTS * _SLOT_BYTES)
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _SLOTS * _SLOT_BYTES)
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._words = self._bytes.view(np.uint64)
        self._written = 0

    def close(self) -> None:
        """Give the memory back."""
        del self._bytes, self._words
        self._memory.close()
        os.close(self.descriptor)

    def mark_alive(self, now_ns: int) -> None:
        """Note that the source gave a picture, even one that nobody needs."""
        self._words[_ALIVE_WORD] = now_ns

    def alive_ns(self) -> int:
        """Return when the source last gave a picture, monotonic nanoseconds; 0 = never."""
        return int(self._words[_ALIVE_WORD])

    def write(self, image: Image, taken_ns: int, key_frames: int = 0) -> None:
        """Put a frame into the older slot.

        Args:
            image: (H, W, 3) uint8 BGR.
            taken_ns: Monotonic nanoseconds.
            key_frames: How many key frames the stream has had so far.

        Raises:
            ValueError: The image has another form, or more than `MAX_FRAME_BYTES`.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"frame must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        if image.nbytes > MAX_FRAME_BYTES:
            raise ValueError(
                f"frame of {image.shape[1]}x{image.shape[0]} is larger than 16 megapixels; "
                "set the camera to a smaller picture or use its second stream"
            )
        slot = self._written % _SLOTS
        with self._locked(slot, fcntl.LOCK_EX):
            np.copyto(self._pixels(slot, image.shape[0], image.shape[1]), image)
            header = self._header(slot)
            header[1:] = taken_ns, key_frames, *image.shape[:2]
            header[0] = self._written + 1
        self._written += 1
        if self._wake is not None:
            self._wake.set()

    def newest(self, after: int = 0) -> Frame | None:
        """Return a copy of the newest frame whose number is above `after`, or None.

        Never waits for a writer that was stopped while writing: then the other slot is newest.
        """
        numbers = ((int(self._header(slot)[0]), slot) for slot in range(_SLOTS))
        by_number = sorted(numbers, reverse=True)
        for number, slot in by_number:
            if number <= after:
                return None
            try:
                with self._locked(slot, fcntl.LOCK_SH | fcntl.LOCK_NB):
                    number, taken_ns, key_frames, height, width = map(int, self._header(slot))
                    image = self._pixels(slot, height, width).copy()
            except BlockingIOError:
                continue
            return Frame(image, taken_ns, number, key_frames)
        return None

    def _header(self, slot: int) -> npt.NDArray[np.uint64]:
        start = slot * _SLOT_BYTES // self._words.itemsize
        return self._words[start : start + _HEADER_WORDS]

    def _pixels(self, slot: int, height: int, width: int) -> Image:
        start = slot * _SLOT_BYTES + _HEADER_BYTES
        return self._bytes[start : start + height * width * 3].reshape(height, width, 3)

    @contextmanager
    def _locked(self, slot: int, how: int) -> Iterator[None]:
        fcntl.lockf(self.descriptor, how, 1, slot)
        try:
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, slot)
