import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from transom import __version__
from transom import cli as cli_module
from transom.cli import main

COMMANDS = """
import click

from transom.errors import ConfigurationError, TransomError


def command(body):
    return click.command()(lambda: body())


def fail():
    raise TransomError("hall-7.bundle: is damaged; fetch it again")


def misconfigured():
    raise ConfigurationError(["a.toml: first", "a.toml: second"])


def unwritable():
    open("/absent/folder/file", "w")


def full():
    raise OSError(28, "No space left on device", "runs/hall/weights.safetensors")


def taken():
    raise FileExistsError("house: exists already; a key is never overwritten")


def stop():
    raise KeyboardInterrupt


fail, misconfigured, unwritable, full, taken, stop, fine, three = map(
    command, (fail, misconfigured, unwritable, full, taken, stop, lambda: None, lambda: 3)
)
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose modules hold further commands of `transom`."""
    (tmp_path / "cli_commands_for_tests.py").write_text(COMMANDS)
    monkeypatch.syspath_prepend(tmp_path)
    names = ("fail", "misconfigured", "unwritable", "full", "taken", "stop", "fine", "three")
    for name in names:
        entry = ("cli_commands_for_tests", name, "For tests.")
        monkeypatch.setitem(cli_module._COMMANDS, name, entry)
    return tmp_path


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "transom demo" in shown
    for name, (_, _, text) in cli_module._COMMANDS.items():
        assert f"  {name} " in shown
        assert text.split()[0] in shown


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"transom, version {__version__}\n"


@pytest.mark.parametrize("arguments", [["opne"], ["--opne"]])
def test_what_is_not_a_command_exits_2_and_says_so(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert "No such" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("fine", 0, ""),
        ("three", 3, ""),
        ("fail", 1, "hall-7.bundle: is damaged; fetch it again\n"),
        ("misconfigured", 78, "a.toml: first\na.toml: second\n"),
        ("unwritable", 1, "/absent/folder/file: No such file or directory\n"),
        (
            "full",
            1,
            "runs/hall/weights.safetensors: No space left on device; make room and try again\n",
        ),
        ("taken", 1, "house: exists already; a key is never overwritten\n"),
        ("stop", 130, "stopped\n"),
    ],
)
@pytest.mark.usefixtures("commands")
def test_the_exit_code_and_the_message_say_what_happened(
    name: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name]) == code
    assert capsys.readouterr().err.lstrip("\n") == message


@pytest.mark.parametrize(
    ("extra", "advice"),
    [
        ("train", "pip install 'transom[train]'"),
        ("demo", "pip install 'transom[demo]'"),
        (None, "install Transom again from its source: pip install --force-reinstall ."),
    ],
)
def test_what_is_not_installed_is_named_with_the_way_to_install_it(
    commands: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    extra: str | None,
    advice: str,
) -> None:
    (commands / "cli_needs_more.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.setitem(cli_module._COMMANDS, "more", ("cli_needs_more", "more", ""))
    if extra is not None:
        monkeypatch.setitem(cli_module._EXTRAS, "cli_needs_more", extra)
    assert main(["more"]) == 1
    message = capsys.readouterr().err
    assert "a_package_that_nobody_has is not installed; " in message
    assert advice in message


def test_what_a_command_misses_when_it_has_begun_is_named_too(
    commands: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (commands / "cli_begins.py").write_text(
        "import click\n@click.command()\ndef begins():\n    import a_package_that_nobody_has\n"
    )
    monkeypatch.setitem(cli_module._COMMANDS, "begins", ("cli_begins", "begins", ""))
    monkeypatch.setitem(cli_module._EXTRAS, "cli_begins", "train")
    assert main(["begins"]) == 1
    message = capsys.readouterr().err
    assert "a_package_that_nobody_has is not installed; " in message
    assert "pip install 'transom[train]'" in message


def test_a_library_that_does_not_load_is_no_traceback(
    commands: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (commands / "cli_broken.py").write_text("raise ImportError('libGL.so.1: cannot open')\n")
    monkeypatch.setitem(cli_module._COMMANDS, "broken", ("cli_broken", "broken", ""))
    assert main(["broken"]) == 1
    assert "cannot be loaded: libGL.so.1: cannot open; install Transom" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["train", "export", "demo"])
def test_every_command_of_the_workstation_knows_its_extra(package: str) -> None:
    assert package in cli_module._EXTRAS


def in_a_fresh_interpreter(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_module_runs_as_a_program() -> None:
    outcome = in_a_fresh_interpreter("-m", "transom", "opne")
    assert outcome.returncode == 2
    assert "No such command 'opne'" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize(
    "modules",
    [
        "transom.config, transom.messages",
        "transom.bundle, transom.crop, transom.dataset, transom.prediction",
        "transom.cli",
    ],
)
def test_the_contract_loads_neither_training_nor_runtime(modules: str) -> None:
    heavy = "torch onnx onnxscript onnxruntime paho train export edge_runtime demo"
    outcome = in_a_fresh_interpreter(
        "-c",
        f"import sys, {modules}\nprint(sorted(set('{heavy}'.split()).intersection(sys.modules)))",
    )
    assert (outcome.stdout, outcome.stderr) == ("[]\n", "")


def test_help_imports_no_command() -> None:
    outcome = in_a_fresh_interpreter(
        "-c",
        "import sys\nfrom transom.cli import main\nmain(['--help'])\n"
        "print(set('train export edge_runtime demo'.split()).intersection(sys.modules))",
    )
    assert outcome.stdout.splitlines()[-1] == "set()"


def test_configuration_and_messages_load_no_pictures() -> None:
    outcome = in_a_fresh_interpreter(
        "-c", "import sys, transom.messages, transom.cli; print('cv2' in sys.modules)"
    )
    assert outcome.stdout == "False\n"


def every_command(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command that does something by itself."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield (*path, name)
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))


def test_every_command_whose_output_is_data_gives_it_as_json() -> None:
    without = []
    for words in every_command(cli_module.cli):
        command: click.Command = cli_module.cli
        for word in words:
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), word)
            assert found is not None
            command = found
        if not any("--json" in option.opts for option in command.params):
            without.append(" ".join(words))
    assert without == ["run"]  # says nothing but its log: what it sees goes over MQTT
