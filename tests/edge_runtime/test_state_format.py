"""The layout of the state directory, over versions."""

from pathlib import Path

import pytest

from edge_runtime.state_format import FILE_NAME, FORMAT, check_state_format, note_state_format
from transom.cli import main
from transom.errors import EXIT_CONFIGURATION, ConfigurationError

EXAMPLE = Path(__file__).parents[2] / "systemd" / "transom.toml"


def test_a_new_folder_gets_this_versions_format(tmp_path: Path) -> None:
    check_state_format(tmp_path / "not there yet")
    note_state_format(tmp_path)
    assert (tmp_path / FILE_NAME).read_text() == f"{FORMAT}\n"
    check_state_format(tmp_path)


def test_an_earlier_format_is_raised_and_the_same_one_is_not_written_again(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("0\n")
    check_state_format(tmp_path)
    note_state_format(tmp_path)
    written = (tmp_path / FILE_NAME).stat()
    note_state_format(tmp_path)
    assert (tmp_path / FILE_NAME).read_text() == f"{FORMAT}\n"
    assert (tmp_path / FILE_NAME).stat().st_ino == written.st_ino


def test_check_refuses_a_state_that_this_version_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / FILE_NAME).write_text(f"{FORMAT + 1}\n")
    config = tmp_path / "transom.toml"
    config.write_text(f'state_directory = "{tmp_path}"\n' + EXAMPLE.read_text())
    said = "a later Transom has written it"
    with pytest.raises(ConfigurationError, match=said):
        check_state_format(tmp_path)
    assert main(["check", str(config)]) == EXIT_CONFIGURATION
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\xff\xfe one", b"9" * 5000])
def test_a_damaged_file_keeps_no_device_down_and_is_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)
    check_state_format(tmp_path)
    assert "format is damaged" in caplog.text
    note_state_format(tmp_path)
    assert (tmp_path / FILE_NAME).read_text() == f"{FORMAT}\n"
