"""A device whose configuration asks for nothing: who it speaks to, what it keeps."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.edge_runtime.updating import TinyBundle
from tests.faults.house import ROOT, House, descendants
from tests.faults.proof import Proof

_CALLS = "trace=socket,connect,bind,listen,accept4,sendto,sendmsg,sendmmsg,openat,creat,mknod"
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"RIFF", b"BM6", b"II*\0")
_TOPICS = {
    f"{ROOT}/status",
    f"{ROOT}/door/state",
    f"{ROOT}/door/event",
    f"{ROOT}/camera/hall/status",
    f"{ROOT}/camera/hall/problem",
    f"{ROOT}/diagnostics",
    f"{ROOT}/model/state",
    f"homeassistant/device/transom_{ROOT.rpartition('/')[2]}/config",
}


def listeners(processes: list[int]) -> list[str]:
    """Return the listening sockets that processes hold, as the kernel tells them."""
    inodes = set()
    for process in processes:
        for entry in Path(f"/proc/{process}/fd").iterdir():
            found = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
            inodes |= {found[1]} if found else set()
    held = []
    for table, listening in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            held += [f"{table} {words[1]}"] if words[3] == listening and words[9] in inodes else []
    return held


def test_a_device_speaks_to_its_broker_and_camera_only_and_keeps_no_picture(
    tmp_path: Path, tiny_bundle: TinyBundle, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    if shutil.which("strace") is None:
        text = "strace is not installed: apt-get install strace"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    claim = proof(
        17, "a default configuration under strace: connect, bind, listen, send; /proc/net; files; "
        "topics", unit="houses",
    )  # fmt: skip
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # an installation has compiled its own
    house = House(tmp_path, tiny_bundle, tables="", zone="")
    trace = tmp_path / "trace"
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with house.lived_in("strace", "-f", "-qq", "-e", _CALLS, "-o", str(trace)) as (heard, tracer):
        heard.wait_for(f"{ROOT}/camera/hall/status", "online")
        held = listeners(descendants(tracer)[1:])
        topics = {copy.topic for copy in heard.copies()}
    calls = trace.read_text("utf-8", "replace").splitlines()
    ports = set(map(int, re.findall(r"connect\(.*?sin6?_port=htons\((\d+)\)", "\n".join(calls))))
    places = set(re.findall(r'sin6?_addr=inet_addr\("([^"]+)"\)', "\n".join(calls)))
    places |= set(re.findall(r'inet_pton\(AF_INET6, "([^"]+)"', "\n".join(calls)))
    paths = set(re.findall(r'sun_path=@?"([^"]+)"', "\n".join(calls)))
    written = set(re.findall(r'openat\([^"]*"([^"]+)", O_(?:WRONLY|RDWR)', "\n".join(calls)))
    places_of_its_own = (str(house.state), str(house.store), "/dev/", "/proc/")
    kept = [
        str(path)
        for path in tmp_path.rglob("*")
        if path.is_file() and path not in before and path != trace
        and any(magic in path.read_bytes() for magic in _PICTURES)
    ]  # fmt: skip
    # getaddrinfo asks which of the addresses it found can be reached, by UDP and port 0.
    assert ports - {0} == {house.broker.port, house.camera.server_address[1]}
    assert places <= {"127.0.0.1", "::1", "0.0.0.0", "::"}
    assert not [call for call in calls if re.search(r" (listen|accept4)\(", call)]
    # A client may choose where it connects from; a port that is given is one to be found at.
    given = re.findall(r" bind\(.*?sin6?_port=htons\((\d+)\)", "\n".join(calls))
    assert set(given) <= {"0"}
    assert paths <= {"/var/run/nscd/socket", "/run/systemd/notify"}
    assert held == []
    assert kept == []
    assert any(path.startswith(str(house.state)) for path in written)
    assert [path for path in written if not path.startswith(places_of_its_own)] == []
    assert not [call for call in calls if re.search(r" (creat|mknod)\(", call)]
    assert topics - _TOPICS == set()
    claim.found(
        "{listeners} listeners, {pictures} pictures; connected to broker and camera, nobody else",
        listeners=len(held),
        pictures=len(kept),
    )
