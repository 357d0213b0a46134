"""`install.sh` below a root of its own: what it lays, keeps and takes away.

Transom's place is taken by a package of a few lines, for what is tried is the script. With all of
Transom, under a systemd that runs, it is tried by `make install-test`.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.edge_runtime.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(300)  # two environments are made: seconds, if nothing else runs
STATE = "var/lib/transom/outbox.sqlite3"
_PROGRAM = """
import sys
from pathlib import Path

def entry():
    words = sys.argv[1:]
    if words[0] == "setup" and "--help" not in words:
        input("which camera? ")
    if words[0] == "check" and "later = true" in Path(words[1]).read_text() and "{version}" < "0.2":
        sys.exit("transom.toml: no such key: later")
    print("{version}")
"""


def small_wheel(folder: Path, version: str) -> Path:
    """Write a wheel called Transom: its version, and a configuration with `later` from 0.2 on."""
    path = folder / f"transom-{version}-py3-none-any.whl"
    info = f"transom-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("transom/__init__.py", _PROGRAM.format(version=version))
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: transom\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\ntransom = transom:entry\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a checkout whose Transom needs nothing else, and two wheels of it."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "install.sh", folder)
    shutil.copytree(ROOT / "systemd", folder / "systemd")
    (folder / "requirements").mkdir()
    (folder / "requirements" / "device.txt").write_text("# nothing\n")
    for version in ("0.1.0", "0.2.0"):
        small_wheel(folder, version)
    return folder


def install(checkout: Path, root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(checkout / "install.sh"), "--root", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=checkout, timeout=100)


@pytest.fixture(scope="module")
def upgraded(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the first version, edit and use it, and install the second one."""
    root = tmp_path_factory.mktemp("root")
    for version in ("0.1.0", "0.2.0"):
        done = install(checkout, root, "--wheel", f"transom-{version}-py3-none-any.whl")
        assert (done.returncode, done.stderr) == (0, "")
        if version == "0.1.0":
            (root / "etc/transom/transom.toml").write_text("device = 'mine'\n")
            (root / STATE).parent.mkdir(parents=True)
            (root / STATE).write_text("events")
    return root


@pytest.fixture
def device(upgraded: Path, tmp_path: Path) -> Path:
    """Copy the device with both versions; their programs stay those of the original."""
    return shutil.copytree(upgraded, tmp_path / "root", symlinks=True)


def serving(root: Path) -> str:
    program = root / "opt/transom/current/bin/transom"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, env={})
    return done.stdout.strip()


def listing(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.lstat().st_mtime_ns for path in root.rglob("*")}


def test_an_upgrade_keeps_configuration_and_state(device: Path) -> None:
    assert serving(device) == "0.2.0"
    assert (device / "etc/transom/transom.toml").read_text() == "device = 'mine'\n"
    assert (device / STATE).read_text() == "events"


def test_lays_the_unit_whose_program_it_has_installed(device: Path) -> None:
    unit = (device / "etc/systemd/system/transom.service").read_text()
    assert "ExecStart=/opt/transom/current/bin/transom run" in unit
    assert os.access(device / "opt/transom/current/bin/transom", os.X_OK)
    assert (device / "usr/local/bin/transom").readlink() == Path("/opt/transom/current/bin/transom")


def test_a_second_run_builds_nothing(checkout: Path, device: Path) -> None:
    before = listing(device / "opt/transom")
    done = install(checkout, device, "--wheel", "transom-0.2.0-py3-none-any.whl")
    assert "is there already" in done.stdout
    after = listing(device / "opt/transom")
    assert {name for name in after if after[name] != before.get(name)} <= {"current"}


def test_goes_back_and_forth(checkout: Path, device: Path) -> None:
    for version in ("0.1.0", "0.2.0"):
        done = install(checkout, device, "--back")
        assert (done.returncode, done.stderr) == (0, "")
        assert serving(device) == version


def test_a_version_that_does_not_accept_the_configuration_does_not_get_the_device(
    checkout: Path, device: Path
) -> None:
    config = device / "etc/transom/transom.toml"
    config.write_text("later = true\n")
    done = install(checkout, device, "--wheel", "transom-0.1.0-py3-none-any.whl")
    assert done.returncode == 1
    assert "no such key: later" in done.stderr
    assert f"does not accept {config} or the state; nothing was changed" in done.stderr
    assert serving(device) == "0.2.0"


def test_ctrl_c_at_its_questions_leaves_the_example(checkout: Path, device: Path) -> None:
    config = device / "etc/transom/transom.toml"
    config.unlink()
    words = ("--root", str(device), "--wheel", "transom-0.2.0-py3-none-any.whl")
    with Terminal(*words, program=("sh", "install.sh"), cwd=checkout) as terminal:
        terminal.wait_for("which camera? ")
        terminal.press_ctrl_c()
        terminal.wait_for(f"Now edit {config}")
        assert terminal.ended() == 0
    assert config.read_text() == (ROOT / "systemd/transom.toml").read_text()


def test_a_root_that_is_not_there_yet_is_made(checkout: Path, tmp_path: Path) -> None:
    done = install(checkout, tmp_path / "look", "--dry-run", "--from", ".")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{tmp_path}/look/opt/transom" in done.stdout


def test_uninstalling_keeps_configuration_and_state(checkout: Path, device: Path) -> None:
    done = install(checkout, device, "--uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    left = sorted(name for name in listing(device) if not (device / name).is_dir())
    assert left == ["etc/transom/transom.toml", STATE]


@pytest.mark.parametrize("words", [[], ["--purge"], ["--dry-run"]])
def test_uninstalling_where_nothing_is_says_so(
    checkout: Path, tmp_path: Path, words: list[str]
) -> None:
    done = install(checkout, tmp_path, "--uninstall", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "transom: nothing is here that this script has installed\n"
    assert list(tmp_path.iterdir()) == []


def test_purging_takes_what_an_uninstalling_before_has_left(checkout: Path, device: Path) -> None:
    install(checkout, device, "--uninstall")
    assert "nothing is here" in install(checkout, device, "--uninstall").stdout
    assert (device / STATE).exists()
    done = install(checkout, device, "--uninstall", "--purge")
    assert "all that it kept are gone" in done.stdout
    assert not (device / STATE).exists()


def test_purging_leaves_nothing_and_may_be_said_twice(checkout: Path, device: Path) -> None:
    for _ in range(2):
        done = install(checkout, device, "--uninstall", "--purge")
        assert (done.returncode, done.stderr) == (0, "")
    assert [name for name in listing(device) if not (device / name).is_dir()] == []
    assert not list(device.rglob("*transom*"))


def test_a_dry_run_says_everything_and_does_nothing(checkout: Path, tmp_path: Path) -> None:
    done = install(checkout, tmp_path, "--dry-run", "--wheel", "transom-0.1.0-py3-none-any.whl")
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("-m venv", "--require-hashes", "transom.service", "opt/transom/current"):
        assert word in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_leaves_an_installation_that_is_being_made(
    checkout: Path, tmp_path: Path
) -> None:
    words = ("--dry-run", "--wheel", "transom-0.1.0-py3-none-any.whl")
    said = install(checkout, tmp_path, *words).stdout
    half = Path(next(word for word in said.split() if "/opt/transom/0.1.0-" in word).rstrip(";"))
    half.mkdir(parents=True)
    install(checkout, tmp_path, *words)
    assert half.is_dir()


@pytest.fixture
def failing(checkout: Path) -> Path:
    """Make a script under which no version gets ready, and a Python that has picamera2."""
    script = (checkout / "install.sh").read_text()
    failing = checkout / "failing.sh"
    failing.write_text(script.replace('\nparse "$@"', '\nstarted() { return 1; }\nparse "$@"'))
    python = checkout / "python-with-picamera2"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *picamera2*) exit 0 ;; esac\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    return failing


@pytest.mark.parametrize("had", [None, "of the version before\n"])
def test_a_failed_upgrade_leaves_the_drop_in_of_the_ribbon_camera_as_it_was(
    checkout: Path, device: Path, failing: Path, had: str | None
) -> None:
    devices = device / "etc/systemd/system/transom.service.d/libcamera.conf"
    own = (device / "opt/transom/current").resolve() / "libcamera.conf"
    shipped = own.read_text()
    if had is not None:
        devices.parent.mkdir()
        devices.write_text(had)
        own.write_text(had)
    done = subprocess.run(
        ["sh", str(failing), "--root", str(device), "--ribbon-camera",
         "--wheel", "transom-0.1.0-py3-none-any.whl"],
        capture_output=True, text=True, cwd=checkout, timeout=100,
        env={**os.environ, "PYTHON": str(checkout / "python-with-picamera2")},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "did not get ready, see above" in done.stderr
    assert serving(device) == "0.2.0"
    assert shipped != had
    assert (devices.read_text() if devices.exists() else None) == had
    assert devices.parent.exists() == (had is not None)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--whel", "x"], 2, "no such option: --whel; see --help"),
        (["--wheel"], 2, "--wheel needs a value"),
        (["--wheel", ""], 2, "--wheel needs a value"),
        (["--purge"], 2, "--purge goes with --uninstall"),
        (["--wheel", "away.whl"], 1, "away.whl: there is no such file or folder"),
        (["--wheel", "install.sh"], 1, "no wheel of Transom; it must be called transom-VERSION"),
        (["--from", "systemd"], 1, "holds no wheel of Transom"),
        (["--back"], 1, "there is no version to go back to"),
    ],
)
def test_says_what_is_wrong(
    checkout: Path, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    done = install(checkout, tmp_path, *words)
    assert done.returncode == code
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_help_names_every_option(checkout: Path, tmp_path: Path) -> None:
    said = install(checkout, tmp_path, "--help").stdout
    script = (ROOT / "install.sh").read_text()
    options = {word for line in script.splitlines() if line.strip().startswith("--") and ")" in line
               for word in line.split(")")[0].replace("|", " ").split()}  # fmt: skip
    assert len(options) > 6
    assert [option for option in options if option not in said] == []
