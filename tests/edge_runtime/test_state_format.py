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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{FORMAT + 1}\n", "a later Transom has written it"),
        ("", "must hold the format's number"),
        ("9" * 5000, "must hold the format's number, holds '99999"),
    ],
)
def test_check_refuses_a_state_that_this_version_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    config = tmp_path / "transom.toml"
    config.write_text(f'state_directory = "{tmp_path}"\n' + EXAMPLE.read_text())
    with pytest.raises(ConfigurationError, match=said):
        check_state_format(tmp_path)
    assert main(["check", str(config)]) == EXIT_CONFIGURATION
    assert said in capsys.readouterr().err
