"""Rendered rooms as they are drawn: what the renderer is told to build, without the renderer."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tools.render_rooms.furniture import furniture
from tools.render_rooms.opening import (
    AJAR_DEGREES,
    AJAR_SHARE,
    OPEN_DEGREES,
    OPEN_SHARE,
    draw_opening,
)
from tools.render_rooms.photograph import develop, draw_look
from tools.render_rooms.scene import Scene, draw_scene
from tools.render_rooms.surfaces import wall
from tools.render_rooms.view import (
    AJAR_HIDES,
    MIN_CHANGE,
    OPEN_HIDES,
    hidden_share,
    look_beside,
    shown_change,
)
from train.scenes.opening import STATES
from transom.geometry import Zone

ROOT = Path(__file__).resolve().parents[2]

SCENES = [draw_scene(5, n, pixels=184, windows=0.35) for n in range(60)]


def each(mechanisms: tuple[str, ...]) -> list[Scene]:
    found = [scene for scene in SCENES if scene.opening.mechanism in mechanisms]
    assert found
    return found


def test_the_same_numbers_draw_the_same_scene() -> None:
    first, again = (
        draw_scene(9, 4, pixels=184, windows=0.3),
        draw_scene(9, 4, pixels=184, windows=0.3),
    )

    assert first.parts == again.parts
    assert first.opening == again.opening
    assert first.look == again.look
    assert np.array_equal(first.view.axes, again.view.axes)
    assert first.parts != draw_scene(9, 5, pixels=184, windows=0.3).parts


def test_shut_leaves_fill_their_opening_but_for_a_gap() -> None:
    for scene in each(("hinged", "double", "casement", "french", "tilt")):
        opening = scene.opening
        corners = np.concatenate([leaf.corners(0.0) for leaf in opening.leaves])
        low, high = corners.min(axis=0), corners.max(axis=0)

        assert 0.002 <= low[0] + opening.width / 2 <= 0.017
        assert 0.002 <= opening.width / 2 - high[0] <= 0.017
        assert 0.002 <= opening.bottom + opening.height - high[2] <= 0.017
        assert 0.002 <= low[2] - opening.bottom <= 0.021


def test_a_leaf_turns_to_the_side_it_opens_to() -> None:
    for scene in each(("hinged", "casement")):
        leaf = scene.opening.leaves[0]
        moved = (leaf.corners(30.0) - leaf.corners(0.0))[:, 1]
        furthest = moved[np.abs(moved).argmax()]

        assert (furthest < 0) == scene.opening.is_towards
        assert abs(furthest) > 0.4 * abs(leaf.size[0])


def test_a_hinge_stays_where_it_is() -> None:
    for scene in each(("hinged", "double")):
        for leaf in scene.opening.leaves:
            at = np.array([0.0, 0.0, 0.5, 1.0])

            assert np.allclose(leaf.matrix(0.0) @ at, leaf.matrix(77.0) @ at)


def test_positions_keep_clear_of_what_people_disagree_about() -> None:
    for scene in each(("hinged", "double", "casement", "french")):
        for position in scene.positions:
            amount = position.amounts[0]
            low, high = {"closed": (0.0, 0.0), "ajar": AJAR_DEGREES, "open": OPEN_DEGREES}[
                position.state
            ]

            assert low <= amount <= high


def test_what_slides_keeps_clear_of_it_too() -> None:
    for scene in each(("slider", "sash")):
        for position in scene.positions:
            low, high = {"closed": (0.0, 0.0), "ajar": AJAR_SHARE, "open": OPEN_SHARE}[
                position.state
            ]

            assert low <= position.amounts[0] <= high


def test_a_scene_shows_its_shut_leaf_first_and_nothing_that_looks_like_it() -> None:
    for scene in SCENES:
        states = [position.state for position in scene.positions]

        assert states[0] == "closed"
        assert states.count("closed") == 1
        assert set(states) <= set(STATES)
        for position in scene.positions[1:]:
            assert shown_change(scene.view, scene.opening, position) >= MIN_CHANGE


def test_what_is_called_open_hides_little_and_what_is_called_ajar_much() -> None:
    for scene in each(("hinged", "double", "casement", "french")):
        for position in scene.positions[1:]:
            hidden = hidden_share(scene.view, scene.opening.leaves[0], position.amounts[0])

            assert hidden <= OPEN_HIDES if position.state == "open" else hidden >= AJAR_HIDES


def test_most_scenes_show_every_state() -> None:
    whole = [s for s in each(("hinged", "double")) if {p.state for p in s.positions} == set(STATES)]

    assert len(whole) >= 0.9 * len(each(("hinged", "double")))


def test_zones_are_zones_and_hold_the_frame() -> None:
    for scene in SCENES:
        zone = np.array(Zone(tuple((float(x), float(y)) for x, y in scene.view.zone)).points)
        frame = np.clip(scene.view.project(scene.opening.frame), 0, 1)

        assert np.abs(zone.min(axis=0) - frame.min(axis=0)).max() < 0.06
        assert np.abs(zone.max(axis=0) - frame.max(axis=0)).max() < 0.06


def test_pictures_have_the_size_that_was_asked_for() -> None:
    assert {max(scene.view.size) for scene in SCENES} == {184}


def test_a_leaf_opens_as_far_as_the_side_wall_lets_it() -> None:
    for seed in range(40):
        random = np.random.default_rng(seed)
        opening = draw_opening(random, is_window=False, wall=wall(random), sides=(-0.8, 0.8))
        if opening.is_towards and opening.leaves[0].motion == "turn" and opening.width < 1.2:
            across = opening.leaves[0].corners(opening.widest)[:, 0] * opening.hinge

            assert opening.widest > 77
            assert across.max() < 0.8 + 0.06  # its own thickness


def test_furniture_stands_where_it_is_put() -> None:
    random = np.random.default_rng(6)
    for _ in range(60):
        vertices = np.concatenate([part.mesh()[0] for part in furniture(random, 1.0, -3.0)])

        assert np.abs(vertices[:, 1] + 3.0).max() < 0.8
        assert np.abs(vertices[:, 0] - 1.0).max() < 1.1
        assert vertices[:, 2].min() > -0.05


@pytest.mark.parametrize("gain", [0.05, 1.0, 40.0])
def test_the_exposure_follows_the_light(gain: float) -> None:
    random = np.random.default_rng(1)
    look = draw_look(random)
    light = random.uniform(0.2, 0.8, (60, 40, 3)).astype(np.float32)

    picture = develop(light * gain, look, np.random.default_rng(2))

    assert picture.shape == (60, 40, 3)
    assert picture.dtype == np.uint8
    reference = develop(light, look, np.random.default_rng(2))
    assert abs(float(picture.mean()) - float(reference.mean())) < 2.0


def test_infrared_pictures_have_no_colour() -> None:
    random = np.random.default_rng(3)
    look = next(look for look in iter(lambda: draw_look(random), None) if look.is_infrared)

    picture = develop(random.uniform(0, 1, (40, 40, 3)).astype(np.float32), look, random)

    assert (picture == picture[..., :1]).all()


def test_it_rains_outdoors_only() -> None:
    random = np.random.default_rng(7)

    assert any(draw_look(random, is_outdoors=True).has_rain for _ in range(200))
    assert not any(draw_look(random).has_rain for _ in range(200))


def test_black_light_is_a_picture_too() -> None:
    look = draw_look(np.random.default_rng(4))

    assert develop(np.zeros((20, 30, 3)), look, np.random.default_rng(5)).max() < 128


def run_tool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tools.render_rooms", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_needs_no_renderer() -> None:
    done = run_tool("--help")
    assert done.returncode == 0
    assert "--scenes" in done.stdout


@pytest.mark.skipif(find_spec("bpy") is not None, reason="Blender is installed here")
def test_without_the_renderer_it_says_how_to_get_it_and_writes_nothing(tmp_path: Path) -> None:
    done = run_tool(str(tmp_path / "rooms"), "--scenes", "1")
    assert done.returncode == 1
    assert "pip install -r tools/render_rooms/requirements.txt" in done.stderr
    assert not (tmp_path / "rooms").exists()


def test_what_is_beside_shows_neither_door_nor_window() -> None:
    for number in range(40):
        scene = draw_scene(5, number, pixels=184, windows=0.3)
        view = look_beside(np.random.default_rng(number), scene.view)
        frame = view.project(scene.opening.frame)
        (left, top), (right, bottom) = view.zone.min(axis=0), view.zone.max(axis=0)

        assert (frame[:, 0] < left).all() or (frame[:, 0] > right).all()
        assert 0.0 <= left < right <= 1.0
        assert 0.0 <= top < bottom <= 1.0
