"""The page in a real headless Chromium: what is seen is what is true, and taps do what they say."""

import asyncio
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from edge_runtime.web.access import SIGN_IN_ANEW, Access
from edge_runtime.web.address import listen_at
from edge_runtime.web.app import make_app
from edge_runtime.web.dataset import DatasetDesk
from tests.edge_runtime.conftest import PlayListCamera
from tests.edge_runtime.page import ServedDaemon
from tests.edge_runtime.test_daemon import AJAR, CLOSED, OPEN
from tests.edge_runtime.test_page_api import sample
from tests.faults.proof import Proof
from transom.bundle import Bundle, read_bundle
from transom.config import PageConfig, load_config
from transom.crop import Image
from transom.dataset import Row, write_dataset
from transom.tasks import Task, TaskSet

PHONE = {"width": 375, "height": 700}
DESKTOP = {"width": 1200, "height": 800}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        text = "chromium is not installed: apt-get install chromium"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    with sync_playwright() as playwright:
        # Chromium's own sandbox needs a user of its own, which a test's machine need not have.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Any) -> Bundle:
    return read_bundle(tiny_bundle.path, None)


@pytest.fixture(scope="module")
def frames(scene: Callable[..., Image]) -> list[Image]:
    return [
        scene(brightness, seed=seed, height=120)
        for brightness in (CLOSED, OPEN, AJAR, CLOSED)
        for seed in range(20)
    ]


@pytest.fixture
def served(tmp_path: Path, bundle: Bundle, frames: list[Image]) -> Iterator[ServedDaemon]:
    """A daemon that has seen its door shut, open and ajar."""
    one = ServedDaemon(tmp_path, bundle, PlayListCamera, frames)
    one.play.turn(12)
    yield one
    one.close()


@pytest.fixture
def look(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages; no error may be said in their consoles, nor anything asked of elsewhere."""
    said: list[str] = []
    contexts = []

    def note(message: Any) -> None:
        if message.type in ("error", "warning"):
            said.append(message.text)

    def start(address: str, size: dict[str, int] = DESKTOP, **more: Any) -> Page:
        context = browser.new_context(viewport=size, **more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", note)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        return page

    yield start
    for context in contexts:
        context.close()
    assert said == []


def opened(served: ServedDaemon, look: Callable[..., Page], **more: Any) -> Page:
    return look(f"http://127.0.0.1:{served.server.port}/#{served.token}", **more)


def picture_box(page: Page) -> dict[str, float]:
    """Return where the camera's picture is in the window, pixels, once it is there."""
    expect(page.locator(".view img")).to_be_visible()  # until then its frame is lower
    box = page.locator(".view").bounding_box()
    assert box is not None
    return dict(box)


def is_too_wide(page: Page) -> bool:
    width = page.locator("html").evaluate("element => element.scrollWidth")
    return bool(width > page.viewport_size["width"])  # type: ignore[index]


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_link_opens_the_page_with_picture_health_state_and_the_last_hour(
    served: ServedDaemon, look: Any, size: dict[str, int]
) -> None:
    page = opened(served, look, size=size)
    expect(page.get_by_text("in order")).to_be_visible()
    expect(page.locator(".view img")).to_be_visible()
    expect(page.locator(".state")).to_have_text("ajar")
    expect(page.locator(".chart path")).not_to_have_count(0)
    expect(page.locator(".day title").last).to_contain_text("ajar, ")
    expect(page.locator(".day-text")).to_contain_text(re.compile(r"ajar once, \d+ s, last at \d"))
    assert served.token not in page.url
    assert not is_too_wide(page)
    page.get_by_role("link", name="Label").click()
    expect(page.locator(".picture img").first).to_be_visible()
    assert not is_too_wide(page)


def test_dark_and_light_are_both_readable(served: ServedDaemon, look: Any) -> None:
    page = opened(served, look)
    expect(page.locator(".state")).to_be_visible()
    grounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        style = page.locator("body").evaluate(
            "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
        )
        light = [np.mean([int(v) for v in c[4:-1].split(",")]) for c in style]
        assert abs(light[0] - light[1]) > 150
        grounds.append(light[0])
    assert grounds[0] > 200 > 60 > grounds[1]


def test_without_the_token_the_page_asks_for_it_and_shows_nothing(
    served: ServedDaemon, browser: Browser
) -> None:
    page = browser.new_context().new_page()  # its console rightly names the refusals
    page.goto(f"http://127.0.0.1:{served.server.port}/#of-yesterday")
    expect(page.get_by_role("status").first).to_have_text(SIGN_IN_ANEW)
    page.goto("about:blank")
    page.goto(f"http://127.0.0.1:{served.server.port}/")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("status").first).to_have_text(SIGN_IN_ANEW)
    expect(page.locator(".camera")).to_have_count(0)
    page.get_by_label("Token").fill(served.token)
    page.get_by_role("button", name="Open").click()
    expect(page.locator(".camera")).to_have_count(1)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()
    page.context.close()


def drag(page: Page, corner: int, to: tuple[float, float]) -> None:
    """Drag a corner of the chosen zone to a place in the picture, in fractions of it."""
    box = picture_box(page)
    at = page.locator(f"[data-corner='{corner}']").bounding_box()
    assert at is not None
    page.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + to[0] * box["width"], box["y"] + to[1] * box["height"], steps=2)
    page.mouse.up()


def test_a_corner_that_is_dragged_is_saved_where_it_was_let_go(
    served: ServedDaemon, look: Any
) -> None:
    page = opened(served, look)
    page.get_by_role("button", name="Draw zones").click()
    drag(page, 2, (0.8, 0.7))
    page.locator("[data-corner='0']").focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved in")).to_be_visible()
    polygon = load_config(served.config_file).cameras[0].zones[0].polygon
    assert polygon[2] == pytest.approx((0.8, 0.7), abs=0.01)
    assert polygon[0] == pytest.approx((0.35, 0.17), abs=0.001)
    assert polygon[1] == (0.64, 0.17)
    assert served.reloads == 1


def drag_by_touch(
    page: Page, start: tuple[float, float], to: tuple[float, float], steps: int = 4
) -> None:
    """Put a finger down at a place of the window, in pixels, move it to another, and lift it."""
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: dict[str, float]) -> None:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})

    touch("touchStart", {"x": start[0], "y": start[1]})
    for step in range(1, steps + 1):
        x, y = (a + (b - a) * step / steps for a, b in zip(start, to, strict=True))
        touch("touchMove", {"x": x, "y": y})
    touch("touchEnd")


def test_on_a_phone_a_finger_drags_a_corner_and_a_whole_zone_and_the_page_stays_where_it_is(
    served: ServedDaemon, look: Any
) -> None:
    page = opened(served, look, size=PHONE, has_touch=True, is_mobile=True)
    before = load_config(served.config_file).cameras[0].zones[0].polygon
    page.get_by_role("button", name="Draw zones").click()
    box = picture_box(page)
    at = page.locator("[data-corner='2']").bounding_box()
    assert at is not None
    corner = (at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    drag_by_touch(page, corner, (corner[0] + 0.1 * box["width"], corner[1] - 0.2 * box["height"]))
    inside = (box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    drag_by_touch(page, inside, (inside[0] - 0.2 * box["width"], inside[1] + 0.05 * box["height"]))
    assert page.evaluate("scrollY") == 0
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved in")).to_be_visible()
    polygon = load_config(served.config_file).cameras[0].zones[0].polygon
    moved = [(x - 0.2, y + 0.05) for x, y in before]
    moved[2] = (before[2][0] - 0.1, before[2][1] - 0.15)
    for corner, wanted in zip(polygon, moved, strict=True):
        assert corner == pytest.approx(wanted, abs=0.01)


def test_a_zone_is_added_by_hand_and_a_crossed_one_is_not_saved(
    served: ServedDaemon, look: Any
) -> None:
    page = opened(served, look)
    page.get_by_role("button", name="Draw zones").click()
    page.get_by_role("button", name="Add").click()
    page.get_by_label("Name").fill("attic_window")
    page.get_by_label("What it is").select_option("window")
    drag(page, 0, (0.7, 0.3))
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("must be convex")
    drag(page, 0, (0.3, 0.3))
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved in")).to_be_visible()
    zone = load_config(served.config_file).cameras[0].zones[1]
    assert (zone.name, zone.device_class) == ("attic_window", "window")


def test_a_refusal_stays_to_be_read_while_the_page_goes_on_asking(
    served: ServedDaemon, browser: Browser
) -> None:
    page = browser.new_context().new_page()  # its console rightly names the refusal
    page.goto(f"http://127.0.0.1:{served.server.port}/#{served.token}")
    page.get_by_role("button", name="Draw zones").click()
    page.get_by_role("button", name="Add").click()
    page.get_by_label("Name").fill("Attic Window")
    page.get_by_role("button", name="Save").click()
    notice = page.locator("#notice")
    expect(notice).to_contain_text("Attic Window")
    for _ in range(2):
        with page.expect_response("**/api/status"):
            pass
    assert notice.is_visible()
    page.get_by_label("Name").fill("attic")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved in")).to_be_visible()
    expect(notice).to_be_hidden()
    page.context.close()


def test_a_tap_corrects_what_the_zone_is_now(served: ServedDaemon, look: Any) -> None:
    page = opened(served, look, size=PHONE, has_touch=True)
    page.get_by_role("button", name="open", exact=True).tap()
    expect(page.get_by_text("learnt from its next picture")).to_be_visible()
    served.play.turn(0.4)
    assert served.store is not None
    assert "open" in {s.label for s in served.store.samples() if s.labelled_by == "page"}


def labels(served: ServedDaemon) -> dict[str, str | None]:
    assert served.store is not None
    return {str(s.id): s.label for s in served.store.samples()}


def test_clusters_are_labelled_skipped_and_undone_with_the_keyboard(
    served: ServedDaemon, look: Any
) -> None:
    page = opened(served, look)
    page.get_by_role("link", name="Label").click()
    shown = page.locator("#label article")
    expect(page.locator(".picture")).not_to_have_count(0)
    first = served.client.get("/api/samples?labelled=no").json["clusters"]
    expect(shown).to_contain_text(f"{len(first)} groups")
    page.keyboard.press("s")
    page.keyboard.press("u")
    page.keyboard.press("3")
    expect(page.get_by_text("noted. Nothing is learnt from it yet")).to_be_visible()
    ids = [one["id"] for one in first[0]["samples"]]
    assert {labels(served)[id_] for id_ in ids} == {"open"}
    page.keyboard.press("1")
    expect(page.get_by_text("learnt.")).to_be_visible()
    assert set(labels(served).values()) >= {"open", "closed"}
    page.keyboard.press("u")
    expect(page.get_by_text(f"{len(ids)} of {len(labels(served))} pictures have")).to_be_visible()
    page.keyboard.press("u")
    expect(page.get_by_text("0 of")).to_be_visible()
    assert set(labels(served).values()) == {None}


def test_one_key_labels_all_of_a_cluster_and_nothing_else(served: ServedDaemon, look: Any) -> None:
    assert served.store is not None
    for id_ in [one.id for one in served.store.samples()]:
        served.store.forget(id_)
    places = ((0.0, 0.0), (0.3, 0.0), (0.0, 0.3))
    alike = [served.store.add(sample(1.0, x, y, 0.0)) for x, y in places]
    served.store.add(sample(0.0, 0.0, 0.0, 1.0, p=0.9))
    page = opened(served, look)
    page.get_by_role("link", name="Label").click()
    expect(page.locator(".picture")).to_have_count(3)
    page.keyboard.press("3")
    expect(page.get_by_text("3 of 4 pictures have")).to_be_visible()
    assert {id_ for id_, label in labels(served).items() if label == "open"} == set(map(str, alike))
    expect(page.locator(".picture")).to_have_count(1)  # the next one is shown by itself


def test_who_labels_what_is_not_kept_any_more_is_told_and_an_undo_that_fails_can_be_tried_again(
    served: ServedDaemon, browser: Browser
) -> None:
    assert served.store is not None
    for id_ in [one.id for one in served.store.samples()]:
        served.store.forget(id_)
    kept, gone = (served.store.add(sample(1.0, x, 0.0, 0.0)) for x in (0.0, 0.3))
    assert gone is not None
    page = browser.new_context().new_page()  # its console rightly names the refusal
    page.goto(f"http://127.0.0.1:{served.server.port}/#{served.token}")
    page.get_by_role("link", name="Label").click()
    expect(page.locator(".picture")).to_have_count(2)
    served.store.forget(gone)  # by somebody else
    page.keyboard.press("3")
    expect(page.get_by_text("1 of those pictures is not kept any more")).to_be_visible()
    assert labels(served) == {str(kept): "open"}
    page.route("**/api/labels", lambda route: route.fulfill(status=409, json={"error": "full"}))
    page.keyboard.press("u")
    expect(page.get_by_text("full")).to_be_visible()
    page.unroute("**/api/labels")
    page.keyboard.press("u")
    expect(page.get_by_text("0 of 1 pictures have")).to_be_visible()
    assert labels(served) == {str(kept): None}
    page.context.close()


def test_damaged_pictures_are_aside_and_are_deleted_from_there(
    served: ServedDaemon, look: Any
) -> None:
    assert served.store is not None
    bad = served.store.add(sample(0.0, 1.0, 0.0, 0.0, picture=b"no picture"))
    there = len(labels(served))
    page = opened(served, look)
    page.get_by_role("link", name="Label").click()
    page.get_by_text("1 set aside: they cannot be labelled here").click()
    expect(page.get_by_text("door: the picture is damaged")).to_be_visible()
    page.get_by_role("button", name="Delete them").click()
    expect(page.get_by_text("set aside")).to_have_count(0)
    expect(page.locator(".picture")).not_to_have_count(0)
    assert str(bad) not in labels(served)
    assert len(labels(served)) == there - 1


def test_a_picture_that_is_tapped_away_does_not_get_the_clusters_label(
    served: ServedDaemon, look: Any
) -> None:
    assert served.store is not None
    for id_ in [one.id for one in served.store.samples()]:
        served.store.forget(id_)
    one, other = (served.store.add(sample(1.0, x, 0.0, 0.0)) for x in (0.0, 0.3))
    page = opened(served, look)
    page.get_by_role("link", name="Label").click()
    page.locator(".picture").nth(1).click()
    page.keyboard.press("2")
    expect(page.get_by_text("1 of 2 pictures have")).to_be_visible()
    assert sorted(labels(served).values(), key=str) == [None, "ajar"]
    assert set(labels(served)) == {str(one), str(other)}


# ---------------------------------------------------------------- a data set


EVIL = "<img src=x onerror=document.title='owned'>"


@pytest.fixture
def evil_dataset(tmp_path: Path, scene: Callable[..., Image]) -> Path:
    """Two rows whose data set, group and class have names that are markup."""
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), scene(100.0 * number, height=120))
    tasks = TaskSet([Task(name="state", classes=("closed", "open"))])
    rows = [Row(image=f"{number}.jpg", group=EVIL) for number in (1, 2)]
    write_dataset(tmp_path, name=EVIL, tasks=tasks, rows=rows)
    return tmp_path


@contextmanager
def dataset_page(folder: Path, bundle: Bundle) -> Iterator[tuple[str, DatasetDesk]]:
    """Serve a data set from a process of its own kind: a thread that ends with the test."""
    desk = DatasetDesk(folder, bundle)
    while desk.look():
        pass
    with listen_at(PageConfig(port=0)) as listener:
        port = int(listener.getsockname()[1])
        access = Access(token="t" * 32, names=(), scheme="http", port=port)
        config = uvicorn.Config(
            make_app(access, desk.answer), log_config=None, lifespan="off", ws="none"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        yield f"http://127.0.0.1:{port}/#{'t' * 32}", desk
        server.should_exit = True
        thread.join()


def test_names_that_hold_markup_are_shown_as_text(
    bundle: Bundle, look: Any, evil_dataset: Path, proof: Proof
) -> None:
    claim = proof(22, "markup as the names of a data set and its groups, in Chromium", unit="pages")
    with dataset_page(evil_dataset, bundle) as (link, _):
        page = look(link)
        expect(page.get_by_role("heading", name=EVIL, level=2)).to_be_visible()
        page.keyboard.press("1")
        expect(page.get_by_text("1 of 2 pictures have")).to_be_visible()
        assert page.title() == f"{EVIL} · Transom"
        assert page.locator("img[onerror], img[src='x']").count() == 0
    claim.found("shown as text, no script ran")
