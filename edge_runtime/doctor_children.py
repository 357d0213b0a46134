"""`transom doctor`: what is tried in a process of its own, because it may block or crash."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.finding import Check
from edge_runtime.one_picture import how_it_ended, secret_of, take_picture
from edge_runtime.redaction import shown_source
from transom.config import CameraConfig, Config
from transom.errors import CameraError, ConfigurationError, TransomError

if TYPE_CHECKING:
    from edge_runtime.trial import Tried
    from transom.bundle import Bundle

_CHILD_TIMEOUT_S = 30.0
_LEAST_ONNXRUNTIME = (1, 24, 4)
_REFUSES_USER = re.compile(r"answers 40[13]\b")
_MOST_LOAD = 0.5
"""Share of one core that looking at every frame of every zone may take."""


def check_onnxruntime() -> Check:
    """Return whether onnxruntime loads; in a child, because a wrong one kills its process."""
    code = "import onnxruntime as o; o.set_default_logger_severity(4); print(o.__version__)"
    child = _run_child(code, b"", _CHILD_TIMEOUT_S)
    if child is None or child.returncode != 0:
        how = "does not end" if child is None else how_it_ended(child)
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


def check_network(config: Config) -> Iterator[Check]:
    """Yield whether the network keeps up with every zone at its camera's pace, and its precision.

    It is tried in a process of its own, as before an update.
    """
    from edge_runtime.models import serving_bundle, serving_path
    from edge_runtime.trial import Trial

    try:
        bundle = serving_bundle(config.models)
        with Trial(serving_path(config.models), bundle.digest, config.models) as trial:
            tried = trial.run()
    except TransomError as error:
        do = "see the bundle's finding; else run: transom bench"
        yield Check(check="speed", ok=False, what=f"the network: {error}", do=do)
        return
    looks = sum(camera.fps * len(camera.zones) for camera in config.cameras)
    load = looks * tried.inference_ms / 1000.0
    ok = load <= _MOST_LOAD
    what = f"{tried.inference_ms:.1f} ms a look; {looks:g} looks a second at most are "
    do = "" if ok else "lower fps in cameras, watch fewer zones, or export a smaller network"
    yield Check(check="speed", ok=ok, what=f"{what}{load:.0%} of a core", do=do)
    yield _check_precision(config, bundle, tried)


def _check_precision(config: Config, bundle: "Bundle", tried: "Tried") -> Check:
    """Return in which precision the daemon runs the network, and why."""
    from edge_runtime.precision import PrecisionFile, choose

    folder, wanted = Path(config.state_directory), config.models.precision
    known = PrecisionFile(folder, threads=config.models.threads).read(bundle.digest)
    chosen = tried.chosen if known is None else choose(bundle, wanted, known)
    what = f"{chosen.precision}: {chosen.why}"
    if known is None and tried.measured is not None:
        what += "; measured just now, as the daemon does once"
    ok = wanted in ("auto", chosen.precision)
    do = "" if ok else "set models.precision to auto, or export the bundle again"
    return Check(check="precision", ok=ok, what=what, do=do)


def check_camera(camera: CameraConfig, config_file: Path) -> Check:
    """Return whether a camera gives a picture."""
    name = f"camera {camera.name}"
    try:
        secret = secret_of(camera, config_file)
    except ConfigurationError as error:
        return Check(check=name, ok=False, what=str(error), do="mend password_file")
    try:
        image = take_picture(camera, secret)
    except CameraError as error:
        return Check(check=name, ok=False, what=str(error), do=_what_to_do(camera, str(error)))
    what = f"{shown_source(camera.source)}: {image.shape[1]} x {image.shape[0]}"
    if camera.source.startswith("rtsps:"):
        what += "; encrypted, but whose certificate it is was not looked at"
    return Check(check=name, ok=True, what=what)


def _what_to_do(camera: CameraConfig, fault: str) -> str:
    if camera.source.startswith("file:"):
        return "mend source, or put the clip there"
    if "://" not in camera.source:
        return "check that it is on and that another program does not hold it"
    if _REFUSES_USER.search(fault):
        do = "mend username and password_file of this camera"
        is_rtsp = camera.source.startswith("rtsp")
        return f"{do}; where they are right, let it ask for a digest by MD5" if is_rtsp else do
    if "certificate is not yet valid" in fault or "certificate has expired" in fault:
        return (
            "renew the camera's certificate, if this machine's clock is right: timedatectl status"
        )
    if "certificate is not trusted" in fault:
        return (
            "let this machine trust the camera's certificate (update-ca-certificates), or use "
            "http: where the network is trusted"
        )
    if "key frame" in fault or "interlaced" in fault or "over TCP" in fault:
        return "mend that in the camera's own settings, or its path in source"
    return "check that it is on and in this network, and its address and path in source"


def _run_child(
    code: str, request: bytes, timeout_s: float
) -> "subprocess.CompletedProcess[bytes] | None":
    try:
        return subprocess.run(  # noqa: S603
            [sys.executable, "-c", code], input=request, capture_output=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return None
