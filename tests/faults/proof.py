"""How a test says which promise it tries, how often, and what it found.

    def test_no_event_is_lost(proof: Proof) -> None:
        claim = proof(1, "kill under load", fast=10, full=1000, unit="kills")
        for _ in range(claim.runs):
            ...
        claim.found("{lost} lost", lost=0)

`--faults fast` (a plain run of the tests), `--faults full`, or `--faults 20`: that many percent of
the full numbers. Other than in a fast run, only tests that try a promise run, without time limit.
`--faults-record` keeps what was found in docs/reliability.json and writes docs/reliability.md
after each test: a run that is interrupted, or in which a test fails, keeps what it has found. The
full lane begins with the files that took least the last time.
"""

import datetime
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tools.reliability.promises import BY_NUMBER
from tools.reliability.records import PAGE, STORE, Record, merge, read_records, write_records

_PROPERTY = "claim"
_FULL_ONLY = "full_only"


@dataclass(slots=True)
class Claim:
    """That a test tries a promise.

    Attributes:
        runs: How often the test has to do what it does, in this run of the tests.
    """

    promise: int
    method: str
    fast: int
    full: int
    unit: str
    runs: int
    result: str = ""
    values: dict[str, float | int | str] = field(default_factory=dict)

    def found(self, result: str, *, runs: int | None = None, **values: float | int | str) -> None:
        """Say what came of it.

        Args:
            result: In words, `{name}` where a value goes.
            runs: How many there were, where that is known only afterwards.
            values: Measured values.
        """
        result.format_map(values)
        self.result, self.values = result, values
        self.runs = self.runs if runs is None else runs


class Proof:
    """Makes claims; what the fixture `proof` is."""

    def __init__(self, lane: str) -> None:
        self.claims: list[Claim] = []
        self.lane = lane

    def __call__(
        self, promise: int, method: str, *, fast: int = 1, full: int = 1, unit: str = "runs"
    ) -> Claim:
        """Say which promise is tried.

        Args:
            promise: Its number.
            method: What is done, in a few words; a later run of the same method replaces this.
            fast: How often in a plain run of the tests.
            full: How often in `make faults`.
            unit: What a run is, in the plural.
        """
        assert promise in BY_NUMBER, f"there is no promise {promise}"
        claim = Claim(promise, method, fast, full, unit, _runs(self.lane, fast, full))
        self.claims.append(claim)
        return claim


def _runs(lane: str, fast: int, full: int) -> int:
    if lane in ("fast", "full"):
        return {"fast": fast, "full": full}[lane]
    return max(fast, min(full, round(full * float(lane) / 100.0)))


@pytest.fixture
def proof(request: pytest.FixtureRequest) -> Iterator[Proof]:
    """Say which promise a test tries, and what it found: see tests/faults/proof.py."""
    made = Proof(request.config.getoption("--faults"))
    yield made
    request.node.user_properties.append((_PROPERTY, [asdict(claim) for claim in made.claims]))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption(
        "--faults", default="fast", metavar="LANE", help="fast, full, or percent of full"
    )
    group.addoption(
        "--faults-record", action="store_true", help="keep what was found in docs/reliability.json"
    )
    group.addoption(
        "--faults-folder", type=Path, default=STORE.parent, help="where it is kept instead"
    )


def pytest_configure(config: pytest.Config) -> None:
    lane = config.getoption("--faults")
    if lane not in ("fast", "full") and not lane.replace(".", "", 1).isdigit():
        raise pytest.UsageError(f"--faults must be fast, full or a percentage, got {lane!r}")
    config.addinivalue_line(
        "markers", f"{_FULL_ONLY}: has no few runs for a plain run of the tests"
    )
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(config), "faults-recorder")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep, in the full lane, what tries a promise; it may take its time.

    A plain run leaves out what a promise is tried with in the full lane only (`full_only`).
    """
    if config.getoption("--faults") == "fast":
        left_out = [item for item in items if item.get_closest_marker(_FULL_ONLY)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
        return
    trying = [item for item in items if "proof" in getattr(item, "fixturenames", ())]
    for item in trying:
        item.add_marker(pytest.mark.timeout(0))
    config.hook.pytest_deselected(items=[item for item in items if item not in set(trying)])
    took = _seconds_by_file(read_records(_store(config)))
    items[:] = sorted(trying, key=lambda item: took.get(_file_of(item.nodeid), math.inf))


def _store(config: pytest.Config) -> Path:
    folder: Path = config.getoption("--faults-folder")
    return folder / STORE.name


def _seconds_by_file(records: list[Record]) -> dict[str, float]:
    """Return what files of tests took; one of which not all is known is as good as unknown."""
    took: dict[str, float] = {}
    for test, seconds in {record.test: record.seconds for record in records}.items():
        file = _file_of(test)
        took[file] = took.get(file, 0.0) + (math.inf if seconds is None else seconds)
    return took


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _test_of(nodeid: str) -> str:
    return nodeid.partition("[")[0]


class _Recorder:
    """Gathers what the tests of all workers found."""

    def __init__(self, config: pytest.Config) -> None:
        self._is_wanted = bool(config.getoption("--faults-record"))
        self._store = _store(config)
        if self._is_wanted:  # now, and not after the first hour
            self._store.parent.mkdir(parents=True, exist_ok=True)
        self._outcomes: dict[str, bool] = {}
        self._claims: dict[str, list[dict[str, Any]]] = {}
        self._seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._outcomes[report.nodeid] = self._outcomes.get(report.nodeid, True) and report.passed
        if report.when == "call":
            test = _test_of(report.nodeid)  # with whatever it was given
            self._seconds[test] = self._seconds.get(test, 0.0) + report.duration
        for name, claims in report.user_properties:
            if name == _PROPERTY:
                self._claims[report.nodeid] = claims  # type: ignore[assignment]
        if self._is_wanted and report.when == "teardown" and report.nodeid in self._claims:
            kept = merge(read_records(self._store), self.records())
            write_records(kept, self._store, self._store.with_name(PAGE.name))

    def records(self) -> list[Record]:
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        return [
            msgspec.convert(
                claim
                | {
                    "has_passed": self._outcomes[nodeid] and bool(claim["result"]),
                    "date": today,
                    "test": _test_of(nodeid),
                    "seconds": round(self._seconds.get(_test_of(nodeid), 0.0), 1),
                },
                Record,
            )
            for nodeid, claims in self._claims.items()
            for claim in claims
        ]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        found = self.records() if self._is_wanted else []
        for record in sorted(found, key=lambda record: record.key):
            runs = f"{record.runs:,} {record.unit}"
            line = f"{record.promise:2}  {record.method}: {runs}: {record.finding}"
            terminalreporter.write_line(line)
