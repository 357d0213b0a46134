"""The page held against its own description by schemathesis, over HTTP: a device's, a data set's.

What is sent is what the description allows, and what it forbids. Every answer must be one that is
described, what is forbidden must be refused, and nothing is done without the token.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import positive_data_acceptance

from edge_runtime.web.access import Access
from edge_runtime.web.api import OPERATIONS, OWN_OPERATIONS, Operation
from edge_runtime.web.app import make_app
from edge_runtime.web.call import Desk, Reply
from edge_runtime.web.dataset import DatasetDesk
from edge_runtime.web.openapi import document, refusals
from tests.conftest import MakeDataset
from tests.edge_runtime.conftest import PlayListCamera
from tests.edge_runtime.page import ServedDaemon, looped, serving
from tests.edge_runtime.test_daemon import CLOSED, OPEN
from tests.edge_runtime.test_page_api import sample
from tests.edge_runtime.updating import TinyBundle
from tests.faults.proof import Proof
from transom.bundle import read_bundle

TOKEN = "t" * 40
SIGNED_IN = {"Authorization": f"Bearer {TOKEN}"}
PLACES = {"camera": "hall", "zone": "door", "id": "1"}
# What is of the right type may still name a class or a zone that there is not.
UNASKED = [positive_data_acceptance]


@pytest.fixture
def device(
    tmp_path: Any, tiny_bundle: TinyBundle, scene: Callable[..., Any]
) -> Iterator[ServedDaemon]:
    frames = [scene(level, seed=s, height=120) for level in (CLOSED, OPEN) for s in range(20)]
    bundle = read_bundle(tiny_bundle.path, None)
    one = ServedDaemon(tmp_path, bundle, PlayListCamera, looped(frames))
    one.play.turn(10)
    assert one.store is not None
    one.store.add(sample(1.0, 0.0, 0.0, 0.0))
    yield one
    one.close()


@pytest.fixture
def dataset(make_dataset: MakeDataset, tiny_bundle: TinyBundle) -> DatasetDesk:
    desk = DatasetDesk(make_dataset(groups=3), read_bundle(tiny_bundle.path, None))
    while desk.look():
        pass
    return desk


def described(port: int) -> dict[str, APIOperation]:
    """Return the operations of the description that a server gives to who has the token."""
    at = f"http://127.0.0.1:{port}"
    config = schemathesis.Config.from_dict({})
    schema = schemathesis.openapi.from_url(
        f"{at}/api/openapi.json", headers=SIGNED_IN, config=config
    )
    schema.config.update(base_url=at)
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


def held_against_its_description(desk: Desk, runs: int) -> None:
    """Ask a desk what is described and what is not, so often at least."""
    access = Access(token=TOKEN, names=(), scheme="http", port=8380)
    asked = 0

    def ask(case: Case) -> None:
        nonlocal asked
        asked += 1
        case.call_and_validate(
            session=session, headers=SIGNED_IN, excluded_checks=UNASKED, timeout=20.0
        )

    load_all_checks()
    with requests.Session() as session, serving(make_app(access, desk.answer)) as port:
        operations = described(port)
        for one in operations.values():
            for case in boundaries(one):
                ask(case)
        ways = [(one, mode) for one in operations.values() for mode in GenerationMode]
        number = 0
        while asked < runs:
            each = max((runs - asked) // len(ways), 5)
            for one, mode in ways:
                fuzz(one, mode, each, number, ask)
            number += 1


def boundaries(one: APIOperation) -> Iterator[Case]:
    """Return the cases at the limits of what is described, and methods that are not."""
    config = one.schema.config.generation_for(operation=one)
    return one.schema.iter_coverage_cases(
        one, generation_modes=list(GenerationMode), generation_config=config
    )


def fuzz(
    one: APIOperation, mode: GenerationMode, runs: int, number: int, ask: Callable[[Case], None]
) -> None:
    """Ask an operation what hypothesis makes of its description; half of it of what there is."""
    named = {p.name: PLACES[p.name] for p in one.path_parameters}
    known = one.as_strategy(generation_mode=mode, path_parameters=named or None)

    @seed(number)
    @settings(
        max_examples=runs, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(known | one.as_strategy(generation_mode=mode))
    def each(case: Case) -> None:
        ask(case)

    each()


def test_the_page_of_a_device_does_what_its_description_says(
    device: ServedDaemon, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    claim = proof(22, "schemathesis over HTTP, by the page's own description, of a device",
                  fast=400, full=20_000, unit="requests")  # fmt: skip
    monkeypatch.setattr("edge_runtime.web.app._DENIAL_S", 0.0)
    held_against_its_description(device.desk_of(device.config_file), claim.runs)
    claim.found("every answer is as described, what is forbidden is refused")


def test_the_page_of_a_data_set_does_what_its_description_says(
    dataset: DatasetDesk, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    claim = proof(22, "schemathesis over HTTP, by the page's own description, of a data set",
                  fast=400, full=20_000, unit="requests")  # fmt: skip
    monkeypatch.setattr("edge_runtime.web.app._DENIAL_S", 0.0)
    held_against_its_description(dataset, claim.runs)
    claim.found("every answer is as described, what is forbidden is refused")


def test_every_route_method_and_refusal_is_described() -> None:
    app: Any = make_app(
        Access(token=TOKEN, names=(), scheme="http", port=8380), lambda _call: Reply()
    )
    served = {
        (route.path, method)
        for route in app._app.routes
        if route.path.startswith("/api")
        for method in route.methods - {"HEAD"}
    }
    paths = document()["paths"]
    assert served == {(path, method.upper()) for path in paths for method in paths[path]}
    for one in (*OPERATIONS, *OWN_OPERATIONS):
        assert statuses(one, paths) == {
            *map(str, refusals(one)),
            "204" if one.answer is None else "200",
        }


def statuses(one: Operation, paths: dict[str, Any]) -> set[str]:
    return set(paths[one.path][one.method.lower()]["responses"])
