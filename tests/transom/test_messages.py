import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transom.config import DeviceName, Name, TopicPrefix
from transom.errors import MessageError
from transom.messages import (
    CameraProblem,
    Diagnostics,
    ModelState,
    TaskAnswer,
    Topics,
    ZoneEvent,
    ZoneState,
    decode,
    decode_any,
    encode,
    read_correction,
)

STATE = ZoneState(
    state="open",
    kind="door",
    confidence=0.97,
    since="2026-11-23T12:00:00Z",
    model="hall-7",
    sequence=7,
    tasks={"state": TaskAnswer(name="open", confidence=0.9)},
)
EVENT = ZoneEvent(
    event_id="0190b0f2",
    event_type="opened",
    state="open",
    previous="closed",
    at="2026-11-23T12:00:00Z",
    time_synced=True,
    boot_id="a-boot",
    monotonic_ns=12_345_678_901,
    confidence=0.97,
    latency_ms=412.5,
)
PROBLEM = CameraProblem(problem=True, reason="frozen")
DIAGNOSTICS = Diagnostics(
    uptime_s=60.0,
    frame_age_s={"hall": 0.2, "yard": None},
    fps={"hall": 5.0, "yard": 0.0},
    inference_ms=23.5,
    cpu_percent=17.0,
    rss_mb=120.25,
    queued_events=1,
    dropped_events=0,
    refused_events=0,
    reconnects=2,
)
MODEL_STATE = ModelState(installed_version="7", latest_version="8", title="hall")
PAYLOADS = {
    "zone_state": STATE,
    "zone_event": EVENT,
    "camera_problem": PROBLEM,
    "diagnostics": DIAGNOSTICS,
    "model_state": MODEL_STATE,
}

# https://www.home-assistant.io/integrations/update.mqtt/, "JSON payload"
HOME_ASSISTANT_UPDATE_KEYS = {
    "installed_version",
    "latest_version",
    "title",
    "release_summary",
    "release_url",
    "entity_picture",
    "in_progress",
    "update_percentage",
}

texts = st.text(max_size=20)
probabilities = st.floats(0.0, 1.0)
numbers = st.floats(allow_nan=False, allow_infinity=False)
payloads = st.one_of(
    st.builds(
        ZoneState,
        state=texts,
        confidence=probabilities,
        since=texts,
        model=texts,
        sequence=st.integers(0, 2**53),
        tasks=st.dictionaries(
            texts, st.builds(TaskAnswer, name=texts, confidence=probabilities), max_size=3
        ),
    ),
    st.builds(
        ZoneEvent,
        confidence=probabilities,
        latency_ms=numbers,
        open_s=st.none() | numbers,
        monotonic_ns=st.integers(0, 2**63),
    ),
    st.builds(CameraProblem),
    st.builds(ModelState, release_summary=texts, update_percentage=st.none() | st.integers(0, 100)),
)


@given(payloads)
def test_a_payload_survives_being_encoded_and_decoded(payload: ZoneState) -> None:
    assert decode(encode(payload), type(payload), "topic") == payload


@pytest.mark.parametrize("name", PAYLOADS)
def test_payloads_are_what_they_were(name: str, golden_file: Callable[[str, bytes], bytes]) -> None:
    payload = PAYLOADS[name]
    kept = golden_file(f"messages/{name}.json", encode(payload))
    assert encode(payload) == kept
    assert decode(kept, type(payload), "topic") == payload


@pytest.mark.parametrize("name", sorted(set(PAYLOADS) - {"model_state"}))
def test_readers_ignore_what_a_later_version_adds(name: str) -> None:
    payload = PAYLOADS[name]
    later = json.loads(encode(payload)) | {"added_later": {"deep": [1, None]}}
    assert decode(json.dumps(later).encode(), type(payload), "topic") == payload


def test_the_model_state_has_only_keys_that_home_assistant_accepts() -> None:
    assert set(json.loads(encode(MODEL_STATE))) <= HOME_ASSISTANT_UPDATE_KEYS
    assert {f.encode_name for f in msgspec.structs.fields(ModelState)} <= HOME_ASSISTANT_UPDATE_KEYS


def test_a_class_is_called_class_in_json() -> None:
    assert json.loads(encode(STATE))["tasks"] == {"state": {"class": "open", "confidence": 0.9}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"online",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b'{"problem": "\xff"}',
        b'{"problem": "yes"}',
        b'{"problem": true, "reason": "bored"}',
        b'{"x":' * 100_000,
    ],
)
def test_a_payload_that_cannot_be_read_names_its_topic(data: bytes) -> None:
    with pytest.raises(MessageError, match=r"^transom/hall-pi/camera/yard/problem: "):
        decode(data, CameraProblem, "transom/hall-pi/camera/yard/problem")


@pytest.mark.parametrize("confidence", [-0.01, 1.01, "NaN", None])
def test_a_confidence_is_a_probability(confidence: object) -> None:
    data = json.dumps(json.loads(encode(STATE)) | {"confidence": confidence}).encode()
    with pytest.raises(MessageError, match=r"\$\.confidence"):
        decode(data, ZoneState, "topic")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_payload_or_a_message_error(data: bytes) -> None:
    with pytest.raises(MessageError):
        decode(data, ZoneEvent, "topic")


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b'{"a": [1, null]}', {"a": [1, None]}),
        (b"online", "online"),
        (b"", ""),
        (b"T\xfcr", "T\ufffdr"),
        (b"[" * 100_000, "[" * 100_000),
    ],
)
def test_anything_received_can_be_shown(data: bytes, shown: object) -> None:
    assert decode_any(data) == shown


def every_topic(topics: Topics, zone: str, camera: str) -> list[str]:
    return [
        topics.status,
        topics.diagnostics,
        topics.model_state,
        topics.state(zone),
        topics.event(zone),
        topics.snapshot(zone),
        topics.camera_status(camera),
        topics.camera_problem(camera),
    ]


def test_topics_are_those_of_the_contract() -> None:
    assert every_topic(Topics("transom", "hall-pi"), "front_door", "hall") == [
        "transom/hall-pi/status",
        "transom/hall-pi/diagnostics",
        "transom/hall-pi/model/state",
        "transom/hall-pi/front_door/state",
        "transom/hall-pi/front_door/event",
        "transom/hall-pi/front_door/snapshot",
        "transom/hall-pi/camera/hall/status",
        "transom/hall-pi/camera/hall/problem",
    ]


def allowed(kind: Any) -> st.SearchStrategy[str]:
    """Return whatever the configuration's own pattern lets pass."""
    (meta,) = kind.__metadata__
    return st.from_regex(meta.pattern).filter(lambda text: len(text) <= (meta.max_length or 64))


@given(allowed(TopicPrefix), allowed(DeviceName), allowed(Name), allowed(Name))
@settings(max_examples=40, deadline=None)
def test_no_allowed_name_makes_a_wildcard_or_a_broken_topic(
    prefix: str, device: str, zone: str, camera: str
) -> None:
    for topic in every_topic(Topics(prefix, device), zone, camera):
        assert not set(topic) & set("+#$ \n\0")
        assert all(topic.split("/"))
        assert topic.isascii()


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"closed", "closed"),
        (b" open\n", "open"),
        (b'"open"', "open"),
        (b'{"class": "closed"}', "closed"),
        (b"forget-last", "forget-last"),
        (b"forget-all", "forget-all"),
    ],
)
def test_a_correction_is_a_class_or_takes_back(payload: bytes, said: str) -> None:
    assert read_correction(payload, ("closed", "open"), "t") == said


@pytest.mark.parametrize(
    "payload", [b"", b"ajar", b"1", b"{}", b'{"class": 1}', b"[]", b"\xff\xfe", b"[" * 100_000]
)
def test_anything_else_is_no_correction(payload: bytes) -> None:
    with pytest.raises(MessageError, match="t: must be one of closed, open, forget-last, forget-"):
        read_correction(payload, ("closed", "open"), "t")
