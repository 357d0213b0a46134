import os
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from train.cache import INDEX, fill_entry, prune_cache, take


class Index(msgspec.Struct):
    """What the entries of these tests say of themselves."""

    count: int


def resident_file_kib() -> int:
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("RssFile")]
    return int(line.split()[1])


def test_an_entry_is_whole_or_not_there(tmp_path: Path) -> None:
    def fail(folder: Path) -> Index:
        (folder / "values").write_bytes(b"half")
        raise ValueError("interrupted")

    def fill(folder: Path) -> Index:
        (folder / "values").write_bytes(b"all of it")
        return Index(9)

    entry = tmp_path / "some" / "entry"
    with pytest.raises(ValueError, match="interrupted"):
        fill_entry(entry, fail)
    assert list(entry.parent.iterdir()) == []
    assert fill_entry(entry, fill) == Index(9)
    assert {file.name for file in entry.iterdir()} == {"values", INDEX}
    assert list(entry.parent.iterdir()) == [entry]


def test_an_entry_that_lacks_its_index_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "entry").mkdir()
    (tmp_path / "entry" / "left").write_bytes(b"by somebody")
    fill_entry(tmp_path / "entry", lambda folder: Index(1))
    assert [file.name for file in (tmp_path / "entry").iterdir()] == [INDEX]


def test_what_was_left_half_filled_goes_after_a_day(tmp_path: Path) -> None:
    (tmp_path / "entry").mkdir()
    for name, age_h in ((".filling-new", 1), (".filling-old", 25)):
        (tmp_path / name).mkdir()
        then = time.time() - age_h * 3600
        os.utime(tmp_path / name, (then, then))
    prune_cache(tmp_path, keep=tmp_path / "entry", limit=0)
    assert {entry.name for entry in tmp_path.iterdir()} == {"entry", ".filling-new"}


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no /proc here")
def test_rows_taken_from_a_mapped_file_do_not_stay_in_memory(tmp_path: Path) -> None:
    path, shape = tmp_path / "values", (512, 1 << 17)
    path.write_bytes(np.arange(512, dtype=np.uint8).repeat(1 << 17).tobytes())
    mapped = np.memmap(path, np.uint8, "r", shape=shape)
    before = resident_file_kib()
    for start in range(0, 512, 8):
        rows = np.arange(start, start + 8)
        taken = take(mapped[:], rows)
        assert taken.flags.writeable
        assert (taken == (rows % 256).astype(np.uint8)[:, None]).all()
    assert resident_file_kib() - before < 4096
    assert np.array_equal(take(mapped, slice(3, 5)), mapped[3:5])


def test_rows_taken_from_memory_are_a_copy() -> None:
    values = np.zeros((4, 2), np.float32)
    take(values, np.array([1]))[:] = 1.0
    assert not values.any()
