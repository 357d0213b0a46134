"""`transom doctor`: what is wrong with this machine, its camera, its broker, and what to do."""

import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec

from edge_runtime.clock import Clock
from edge_runtime.diagnostics import SINCE_BOOT, UNDERVOLTAGE, Machine
from edge_runtime.link import Acknowledged, Connected, Link, Lost, Received, Subscribed, read_access
from edge_runtime.redaction import redact, shown_source
from transom.config import CameraConfig, Config, ModelsConfig, load_config, read_secret
from transom.errors import EXIT_DONE, EXIT_FAILED, ConfigurationError, TransomError
from transom.messages import Message, Topics
from transom.signing import load_trusted_keys

DEFAULT_CONFIG = Path("/etc/transom/transom.toml")

_LEAST_FREE_BYTES = 128 * 1024 * 1024
_HOT_C = 80.0
_CHILD_TIMEOUT_S = 30.0
_CAMERA_TIMEOUT_S = 15.0
_BROKER_TIMEOUT_S = 15.0
_LEAST_ONNXRUNTIME = (1, 24, 4)
_TRY_CAMERA = "from edge_runtime.doctor import try_camera; try_camera()"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One finding.

    Attributes:
        check: What was looked at.
        ok: Whether it is well.
        what: What was found.
        do: What to do about it; empty where all is well.
    """

    check: str
    ok: bool
    what: str
    do: str = ""


@click.command("doctor")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Configuration to check with.  [default: {DEFAULT_CONFIG}, where it exists]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON list of findings.")
def doctor_command(config_file: Path | None, as_json: bool) -> int:
    """Find what is wrong with this device; end with 1 if anything is.

    Speaks with the broker under a name of its own, so a running daemon is not disturbed. A USB or
    ribbon camera can be opened by one program only: stop the daemon before checking it.

    \b
    Example:
        transom doctor --config /etc/transom/transom.toml
    """
    if config_file is None and DEFAULT_CONFIG.exists():
        config_file = DEFAULT_CONFIG
    found = []
    for check in examine(config_file, Clock()):
        found.append(check)
        if not as_json:
            click.echo(_line(check))
    if as_json:
        click.echo(msgspec.json.encode(found))
    return EXIT_DONE if all(check.ok for check in found) else EXIT_FAILED


def _line(check: Check) -> str:
    mark = click.style("ok  ", fg="green") if check.ok else click.style("FAIL", fg="red")
    do = f"\n      do: {check.do}" if check.do else ""
    return f"{mark}  {check.check}: {check.what}{do}"


def examine(config_file: Path | None, clock: Clock) -> Iterator[Check]:
    """Yield the findings, cheap ones first; those that need a configuration only with one."""
    yield check_word_size()
    yield check_python()
    yield check_onnxruntime()
    yield check_clock(clock)
    yield from check_heat(Machine(clock))
    if config_file is None:
        return
    try:
        config = load_config(config_file)
    except ConfigurationError as error:
        yield Check(check="configuration", ok=False, what=str(error), do="mend the file")
        return
    cameras = ", ".join(camera.name for camera in config.cameras)
    yield Check(check="configuration", ok=True, what=f"device {config.device}, cameras {cameras}")
    yield check_disk(Path(config.state_directory))
    yield check_keys(config.models)
    yield check_bundle(config)
    yield from check_broker(config, config_file, clock)
    for camera in config.cameras:
        yield check_camera(camera, config_file)


def check_word_size() -> Check:
    """Return whether this is a 64-bit system: there is no onnxruntime for others."""
    is_64 = sys.maxsize > 2**32
    return Check(
        check="64-bit",
        ok=is_64,
        what=f"{platform.machine()}, {64 if is_64 else 32}-bit Python",
        do="" if is_64 else "install the 64-bit edition of the operating system",
    )


def check_python() -> Check:
    """Return whether this Python is new enough."""
    is_new = sys.version_info >= (3, 11)
    return Check(
        check="python",
        ok=is_new,
        what=platform.python_version(),
        do="" if is_new else "install Python 3.11 or later, then Transom into it",
    )


def check_onnxruntime() -> Check:
    """Return whether onnxruntime loads; in a child, because a wrong one kills its process."""
    code = "import onnxruntime as o; o.set_default_logger_severity(4); print(o.__version__)"
    child = _run_child(code, b"", _CHILD_TIMEOUT_S)
    if child is None or child.returncode != 0:
        how = "does not end" if child is None else _how_it_ended(child)
        return Check(
            check="onnxruntime",
            ok=False,
            what=f"import onnxruntime {how}",
            do="pip install --upgrade onnxruntime; a 64-bit system is needed",
        )
    version = child.stdout.decode().split()[-1]
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
    is_safe = numbers >= _LEAST_ONNXRUNTIME
    least = ".".join(map(str, _LEAST_ONNXRUNTIME))
    return Check(
        check="onnxruntime",
        ok=is_safe,
        what=version,
        do="" if is_safe else f"pip install 'onnxruntime>={least}': older ones read other files",
    )


def check_clock(clock: Clock) -> Check:
    """Return whether the wall time was set from the network."""
    ok = clock.is_synchronised()
    return Check(
        check="clock",
        ok=ok,
        what="synchronised" if ok else "not synchronised: events carry a time that may be wrong",
        do="" if ok else "check the network, and: timedatectl status",
    )


def check_heat(machine: Machine) -> Iterator[Check]:
    """Yield the processor's temperature and whether the board slows itself down."""
    temperature = machine.temperature_c()
    if temperature is not None:
        ok = temperature < _HOT_C
        do = "" if ok else "give the board a heat sink or a fan"
        yield Check(check="temperature", ok=ok, what=f"{temperature:.0f} °C", do=do)
    bits = machine.throttled()
    if bits is not None:
        volts = bits & (UNDERVOLTAGE | UNDERVOLTAGE << SINCE_BOOT)
        do = "use a stronger power supply" if volts else "cool the board"
        what = f"throttled bits {bits:#x}" if bits else "never"
        yield Check(check="throttling", ok=not bits, what=what, do=do if bits else "")


def check_disk(folder: Path) -> Check:
    """Return whether the state directory can be written and has room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        is_writable = os.access(folder, os.W_OK)
    except OSError as error:
        what = f"{folder}: {error.strerror}"
        return Check(check="disk", ok=False, what=what, do="run as the daemon's user, or as root")
    what = f"{folder}: {free / 1024**2:,.0f} MiB free"
    if not is_writable:
        do = "make it writable for this user"
        return Check(check="disk", ok=False, what=f"{folder}: cannot be written", do=do)
    ok = free >= _LEAST_FREE_BYTES
    do = "" if ok else f"free {_LEAST_FREE_BYTES // 1024**2} MiB there"
    return Check(check="disk", ok=ok, what=what, do=do)


def check_keys(models: ModelsConfig) -> Check:
    """Return whether there is a key to trust bundles by, where one is needed."""
    from edge_runtime.models import needs_keys

    if not needs_keys(models):
        return Check(check="keys", ok=True, what="none needed: no bundle of your own is installed")
    folder = Path(models.trusted_keys)
    try:
        keys = load_trusted_keys(folder)
    except TransomError as error:
        return Check(check="keys", ok=False, what=str(error), do="copy the public key there")
    return Check(check="keys", ok=True, what=f"{len(keys)} trusted in {folder}")


def check_bundle(config: Config) -> Check:
    """Return whether a trusted bundle is there, and has the tasks that the zones ask for."""
    from edge_runtime.models import serving_bundle

    try:
        manifest = serving_bundle(config.models).manifest
    except TransomError as error:
        do = "copy a bundle that transom export wrote into models.store"
        return Check(check="bundle", ok=False, what=str(error), do=do)
    tasks = {spec.name for spec in manifest.tasks}
    wanted = {zone.task for camera in config.cameras for zone in camera.zones}
    if missing := sorted(wanted - tasks):
        what = f"{manifest.name} has tasks {', '.join(sorted(tasks))}, not {', '.join(missing)}"
        return Check(check="bundle", ok=False, what=what, do="mend task in the zones")
    what = f"{manifest.name} sequence {manifest.sequence}, {manifest.precision}"
    return Check(check="bundle", ok=True, what=what)


# -------------------------------------------------------------------- the broker


def check_broker(config: Config, config_file: Path, clock: Clock) -> Iterator[Check]:
    """Yield whether the broker is there, lets this device in, and lets it do its work.

    Publishes one message, not retained, below the device's own topics, and listens for it.
    """
    try:
        access = read_access(config.mqtt, config_file)
    except ConfigurationError as error:
        yield Check(check="broker", ok=False, what=str(error), do="mend [mqtt]")
        return
    link = Link(access, f"transom-doctor-{secrets.token_hex(4)}", clock)
    try:
        yield from _probe(link, config, clock)
    finally:
        link.close()


def _probe(link: Link, config: Config, clock: Clock) -> Iterator[Check]:
    where = f"{config.mqtt.host}:{config.mqtt.tcp_port}"
    conversation = _Conversation(link, clock)
    link.open()
    answer = conversation.wait_for(lambda h: isinstance(h, Connected))
    if answer is None:
        loss = conversation.loss or Lost("unreachable", f"{where} does not answer")
        yield Check(check="broker", ok=False, what=loss.reason, do=loss.do or "check [mqtt]")
        return
    how = "encrypted" if config.mqtt.uses_tls else "not encrypted"
    yield Check(check="broker", ok=True, what=f"{where}, MQTT {config.mqtt.protocol}, {how}")
    topic = f"{Topics(config.mqtt.prefix, config.device).root}/doctor/{secrets.token_hex(4)}"
    yield _check_subscription(link, conversation, topic)
    yield _check_publication(link, conversation, topic)
    if config.homeassistant.discovery:
        birth_topic = f"{config.homeassistant.prefix}/status"
        yield _check_subscription(link, conversation, birth_topic)


def _check_subscription(link: Link, conversation: "_Conversation", topic: str) -> Check:
    mid = link.subscribe(topic)
    answer = conversation.wait_for(lambda h: isinstance(h, Subscribed) and h.mid == mid)
    refusal = answer.refusal if isinstance(answer, Subscribed) else "no answer"
    do = f"let this user read {topic} in the broker's access list" if refusal else ""
    what = f"{topic}: {refusal}" if refusal else f"may subscribe to {topic}"
    return Check(check="broker rights", ok=refusal is None, what=what, do=do)


def _check_publication(link: Link, conversation: "_Conversation", topic: str) -> Check:
    payload = secrets.token_hex(8).encode()
    mid = link.publish(Message(topic, payload, qos=1))
    answer = conversation.wait_for(lambda h: isinstance(h, Acknowledged) and h.mid == mid)
    refusal = answer.refusal if isinstance(answer, Acknowledged) else "no answer"
    if refusal is not None:
        do = f"let this user write {topic.rpartition('/doctor')[0]}/# in the broker's access list"
        return Check(check="broker rights", ok=False, what=f"{topic}: {refusal}", do=do)
    heard = conversation.wait_for(
        lambda h: isinstance(h, Received) and h.payload == payload, timeout_s=5.0
    )
    if heard is None:
        # Protocol 3.1.1 acknowledges what it throws away, so only the echo proves anything.
        do = "let this user write and read its own topics in the broker's access list"
        what = f"{topic}: acknowledged, but nothing came back"
        return Check(check="broker rights", ok=False, what=what, do=do)
    return Check(check="broker rights", ok=True, what=f"published to {topic} and heard it")


class _Conversation:
    """What a link said, so that answers may come in any order."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._heard: list[object] = []
        self.loss: Lost | None = None

    def wait_for(
        self, is_it: Callable[[object], bool], timeout_s: float = _BROKER_TIMEOUT_S
    ) -> object | None:
        """Return the first happening that `is_it`; None where the link ends or stays silent."""
        until_s = self._clock.monotonic_s() + timeout_s
        while True:
            found = next(filter(is_it, self._heard), None)
            left_s = until_s - self._clock.monotonic_s()
            if found is not None or self.loss is not None or left_s <= 0:
                return found
            for happening in self._link.turn(min(left_s, 1.0)):
                self._heard.append(happening)
                if isinstance(happening, Lost):
                    self.loss = happening


# -------------------------------------------------------------------- cameras


def check_camera(camera: CameraConfig, config_file: Path) -> Check:
    """Return whether a camera gives a picture; in a child, because drivers block and crash."""
    name = f"camera {camera.name}"
    secret: str | None = None
    try:
        secret = read_secret(camera.password_file, config_file) if camera.password_file else None
    except ConfigurationError as error:
        return Check(check=name, ok=False, what=str(error), do="mend password_file")
    # On standard input: arguments and environment can be read by others.
    request = msgspec.json.encode((camera, secret))
    child = _run_child(_TRY_CAMERA, request, _CAMERA_TIMEOUT_S)
    shown = shown_source(camera.source)
    if child is not None and child.returncode == 0:
        size = child.stdout.decode("utf-8", "replace").split("\n")[-2]
        return Check(check=name, ok=True, what=f"{shown}: {size}")
    how = "gives no picture in time" if child is None else _how_it_ended(child)
    what = redact(f"{shown}: {how}", (secret,) if secret else ())
    do = "check that it is on and that another program does not hold it"
    return Check(check=name, ok=False, what=what, do=do)


def try_camera() -> None:
    """Read one picture of the camera that standard input describes, and print its size."""
    from edge_runtime.sources import open_source

    camera, secret = msgspec.json.decode(
        sys.stdin.buffer.read(), type=tuple[CameraConfig, str | None]
    )
    try:
        source = open_source(camera, secret)
        image = source.retrieve() if source.grab() else None
        source.release()
    except TransomError as error:
        sys.exit(str(error))
    if image is None:
        sys.exit("gives no picture")
    print(f"{image.shape[1]} x {image.shape[0]}")  # noqa: T201


def _run_child(
    code: str, request: bytes, timeout_s: float
) -> "subprocess.CompletedProcess[bytes] | None":
    try:
        return subprocess.run(  # noqa: S603
            [sys.executable, "-c", code], input=request, capture_output=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return None


def _how_it_ended(child: "subprocess.CompletedProcess[bytes]") -> str:
    if child.returncode < 0:
        return f"ends its process with signal {-child.returncode}"
    lines = child.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"ends with {child.returncode}"
