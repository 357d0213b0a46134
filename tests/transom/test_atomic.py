import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from transom.atomic import clear_unfinished, sync_folder, write_file


def test_writes_a_new_file(tmp_path: Path) -> None:
    write_file(tmp_path / "new", b"content")
    assert (tmp_path / "new").read_bytes() == b"content"


def test_replaces_an_old_file(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"a much longer content than the new one")
    write_file(tmp_path / "old", b"new")
    assert (tmp_path / "old").read_bytes() == b"new"


def test_leaves_nothing_else_in_the_folder(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_gives_the_file_the_mode_asked_for_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        write_file(tmp_path / "file", b"", mode=mode)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_a_file_keeps_the_permissions_of_the_one_it_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    write_file(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o640
    write_file(path, b"newer", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_stays_its_owners_whoever_writes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 1234, 5678)
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_of_somebody_without_a_name_in_this_namespace_is_written(tmp_path: Path) -> None:
    inside = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("this kernel makes no user namespaces here")
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 1234, 5678)
    write = "import sys, pathlib as p, transom.atomic as a; a.write_file(p.Path(sys.argv[1]), b'n')"
    subprocess.run([*inside, sys.executable, "-c", write, path], check=True)
    assert path.read_bytes() == b"n"


def test_who_has_the_old_file_open_goes_on_reading_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_file(path, b"new")
        assert reader.read() == b"old"


def test_a_failure_leaves_the_old_content_and_no_leftovers(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").write_bytes(b"old")
    with pytest.raises(OSError, match="taken"):
        write_file(tmp_path / "taken", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert (tmp_path / "taken" / "inside").read_bytes() == b"old"


def test_a_full_disk_is_said_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left") as caught:
        write_file(tmp_path / "run", b"new")
    assert caught.value.filename == str(tmp_path / "run")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        write_file(tmp_path / "absent" / "file", b"")
    with pytest.raises(FileNotFoundError, match="absent"):
        sync_folder(tmp_path / "absent")


def test_what_a_power_cut_left_beside_a_file_is_removed_once_nobody_writes_it(
    tmp_path: Path,
) -> None:
    names = (".state.json.abcd_123", ".ledger.json.k2j3h4g5", ".state.json.young_01")
    kept = ("state.json", ".hidden", ".state.json.backup", ".state.json.ABCD1234", ".a.b.12345678")
    for name in (*names, *kept[:-1]):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (1.0, 1.0))
    (tmp_path / kept[-1]).mkdir()
    os.utime(tmp_path / kept[-1], (1.0, 1.0))
    os.utime(tmp_path / names[2])
    clear_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, names[2]}
    clear_unfinished(tmp_path / "nowhere")
