"""Where a camera looks: light that changes, doors that open, knocks, hands and paint."""

from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime.clips import read_file
from edge_runtime.view import LEAST_PLACES, Look, Reference, shifted_zone
from edge_runtime.view_store import ViewStore
from edge_runtime.view_watch import CHECK_S, COVERED_S, MOVED_S, RENEWED_S, ViewWatch
from train.scenes.clip import ClipTruth, generate_clip
from transom.config import CameraConfig, ZoneConfig
from transom.geometry import Zone
from transom.messages import Reason

Image = npt.NDArray[np.uint8]
Change = Callable[[Image], Image]

SEED = 5
RANDOM = np.random.default_rng(SEED)


@pytest.fixture(autouse=True)
def same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test draw the same noise, whichever ran before it."""
    monkeypatch.setitem(globals(), "RANDOM", np.random.default_rng(SEED))


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Image], ClipTruth]:
    """A drawn room in which a door and a window open and somebody walks past, twice a second."""
    path = tmp_path_factory.mktemp("room") / "room.mp4"
    truth = generate_clip(path, seed=3, seconds=40.0, fps=2, size=(640, 480))
    return [picture.image for picture in read_file(path)], truth


@pytest.fixture(scope="module")
def room(filmed: tuple[list[Image], ClipTruth]) -> Image:
    return filmed[0][0]


@pytest.fixture(scope="module")
def config(filmed: tuple[list[Image], ClipTruth]) -> CameraConfig:
    zones = tuple(
        ZoneConfig(name=name, polygon=zone.points) for name, zone in filmed[1].zones.items()
    )
    return CameraConfig(name="hall", source="usb:0", zones=zones)


def noisy(image: Image, noise: float = 3.0) -> Image:
    return np.clip(image + RANDOM.normal(0.0, noise, image.shape), 0, 255).astype(np.uint8)


def shifted(image: Image, across: float = 0.0, down: float = 0.0, turned: float = 0.0) -> Image:
    """What the camera sees after it was pushed, in parts of the frame's width, and turned."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turned, 1.0)
    matrix[:, 2] += (across * width, down * width)
    moved = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    return noisy(np.asarray(moved, np.uint8))


def dusk(image: Image) -> Image:
    return noisy((0.3 * image).astype(np.uint8))


def lamp(image: Image) -> Image:
    rows, columns = np.mgrid[0:480, 0:640] / 640.0
    light = 0.25 + np.exp(-(((columns - 0.1) / 0.5) ** 2 + ((rows - 0.2) / 0.5) ** 2))
    return noisy(np.clip(image * light[:, :, None], 0, 255).astype(np.uint8), 5.0)


def infrared(image: Image) -> Image:
    """No colour, a spot of light in the middle, other contrasts, a sensor at its limit."""
    rows, columns = np.mgrid[0:480, 0:640] / 640.0
    spot = np.exp(-(((columns - 0.5) / 0.55) ** 2) - ((rows - 0.375) / 0.45) ** 2)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) / 255.0
    lit = 210.0 * grey**0.7 * spot + 12.0 + RANDOM.normal(0.0, 6.0, grey.shape)
    return np.repeat(np.clip(lit, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def sprayed(image: Image) -> Image:
    blurred = cv2.GaussianBlur(image, (0, 0), 25)
    return noisy((0.3 * blurred + 0.7 * np.array([60, 90, 120])).astype(np.uint8))


def blurred(image: Image) -> Image:
    """Usable, but without a corner."""
    return noisy(np.asarray(cv2.GaussianBlur(image, (0, 0), 40), np.uint8), 1.0)


class Day:
    """A watch and its time; what it sees is shown for some seconds.

    A picture that is made anew for every look has other noise each time, as those of cameras have.
    """

    def __init__(self, config: CameraConfig, store: ViewStore | None = None) -> None:
        self.watch = ViewWatch(config, store)
        self.now_s = 0.0

    def see(self, shown: Image | Callable[[], Image], seconds: float) -> list[Reason | None]:
        reasons = []
        for _ in range(round(seconds / CHECK_S)):
            image = shown() if callable(shown) else shown
            reasons.append(self.watch.judge(image, self.now_s))
            self.now_s += CHECK_S
        return reasons


@pytest.fixture
def day(config: CameraConfig, room: Image) -> Day:
    """A camera that has been set up a minute ago."""
    day = Day(config)
    assert set(day.see(noisy(room), 60.0)) == {None}
    return day


@pytest.mark.parametrize("light", [noisy, dusk, lamp, infrared])
def test_another_light_is_no_other_view(day: Day, room: Image, light: Change) -> None:
    assert set(day.see(light(room), 120.0)) == {None}
    assert not day.watch.is_lost
    np.testing.assert_allclose(day.watch.shift, [[1, 0, 0], [0, 1, 0]], atol=0.3)


def test_doors_that_open_and_people_who_walk_past_are_no_other_view(
    filmed: tuple[list[Image], ClipTruth], config: CameraConfig
) -> None:
    watch = ViewWatch(config)

    reasons = {watch.judge(image, index / 2) for index, image in enumerate(filmed[0])}

    assert reasons == {None}
    assert not watch.is_lost


@pytest.mark.parametrize(
    ("across", "down", "turned"),
    [(0.01, 0.0, 0.0), (-0.02, 0.015, 0.0), (0.0, 0.0, 1.5), (0.012, -0.01, -1.0)],
)
def test_a_small_drift_takes_the_zones_with_it(
    day: Day, room: Image, config: CameraConfig, across: float, down: float, turned: float
) -> None:
    zone = config.zones[0].zone
    assert set(day.see(shifted(room, across, down, turned), 20.0)) == {None}

    matrix = cv2.getRotationMatrix2D((320.0, 240.0), turned, 1.0)
    matrix[:, 2] += (across * 640, down * 640)
    true = (zone.pixels(480, 640) @ matrix[:, :2].T + matrix[:, 2]) / (640, 480)
    now = day.watch.zone_now(zone)
    assert now is not None
    error = np.abs(np.array(now.points) - np.clip(true, 0.0, 1.0))
    assert error.max() < 0.004


def test_a_drift_goes_back_when_the_camera_does(day: Day, room: Image) -> None:
    day.see(shifted(room, 0.02), 20.0)
    day.see(noisy(room), 20.0)

    np.testing.assert_allclose(day.watch.shift, [[1, 0, 0], [0, 1, 0]], atol=0.3)


@pytest.mark.parametrize(
    ("across", "down", "turned"),
    [(0.07, 0.0, 0.0), (0.1, -0.05, 0.0), (0.3, 0.0, 0.0), (0.0, 0.0, 8.0), (0.5, 0.3, 30.0)],
)
def test_a_camera_that_was_moved_is_told_and_heals_when_it_is_put_back(
    day: Day, room: Image, across: float, down: float, turned: float
) -> None:
    reasons = day.see(shifted(room, across, down, turned), 60.0)
    told = round(MOVED_S / CHECK_S)

    assert reasons[:told] == [None] * told
    assert day.watch.is_lost
    assert set(reasons[told:]) == {"moved"}
    assert set(day.see(noisy(room), 10.0)) == {None}


def test_a_move_is_told_however_rare_pictures_are(config: CameraConfig, room: Image) -> None:
    watch, every_s = ViewWatch(msgspec.structs.replace(config, fps=0.1)), 10.0
    assert {watch.judge(noisy(room), look * every_s) for look in range(6)} == {None}
    moved = [watch.judge(shifted(room, 0.2), look * every_s) for look in range(6, 12)]
    assert moved[-1] == "moved"


def test_the_view_counts_as_lost_with_the_first_picture_that_shows_another(
    day: Day, room: Image
) -> None:
    day.see(shifted(room, 0.2), CHECK_S)

    assert day.watch.is_lost


def test_somebody_before_the_camera_for_some_seconds_is_no_problem(day: Day, room: Image) -> None:
    near = room.copy()
    near[:, 100:560] = noisy(np.full((480, 460, 3), (70, 90, 120), np.uint8), 12.0)

    assert set(day.see(near, 7.0) + day.see(noisy(room), 10.0)) == {None}


def test_a_sprayed_lens_is_covered_and_heals_when_it_is_wiped(day: Day, room: Image) -> None:
    reasons = day.see(sprayed(room), 20.0)

    told = round(COVERED_S / CHECK_S)
    assert reasons[:told] == [None] * told
    assert set(reasons[told:]) == {"covered"}
    assert set(day.see(noisy(room), 10.0)) == {None}


def test_a_move_by_night_is_told_against_the_view_of_that_night(day: Day, room: Image) -> None:
    day.see(infrared(room), 60.0)

    assert day.see(infrared(shifted(room, 0.2)), 30.0)[-1] == "moved"
    assert day.see(infrared(room), 10.0)[-1] is None


def test_a_camera_that_was_moved_does_not_learn_its_wrong_view_at_nightfall(
    day: Day, room: Image
) -> None:
    day.see(shifted(room, 0.2), 60.0)

    assert set(day.see(infrared(shifted(room, 0.2)), 60.0)) == {"moved"}


def test_a_dusk_too_dim_to_find_the_view_in_ends_with_the_infra_red_light(
    day: Day, room: Image
) -> None:
    dim = cv2.GaussianBlur((0.25 * room).astype(np.uint8), (0, 0), 12)
    assert day.see(noisy(np.asarray(dim, np.uint8)), 40.0)[-1] in ("covered", "moved")

    assert day.see(infrared(room), 20.0)[-1] is None
    assert not day.watch.is_lost
    assert day.see(infrared(shifted(room, 0.2)), 30.0)[-1] == "moved"


def test_infra_red_light_that_has_flickered_before_settles_all_the_same(
    day: Day, room: Image
) -> None:
    day.see(infrared(room), CHECK_S)  # as a camera's filter clicks at its start
    day.see(noisy(room), 600.0)
    glaring = np.clip(infrared(np.zeros_like(room)).astype(np.int16) + 215, 0, 255)
    day.see(glaring.astype(np.uint8), 2.0)

    assert day.see(infrared(room), 30.0)[-1] is None
    assert day.see(infrared(shifted(room, 0.2)), 30.0)[-1] == "moved"


def test_a_view_lost_in_the_last_of_the_daylight_is_not_lost_for_the_night(
    day: Day, room: Image
) -> None:
    day.see(noisy(np.asarray(cv2.GaussianBlur(room, (0, 0), 30), np.uint8)), 3.0)
    assert day.watch.is_lost

    wall = np.repeat(np.full((480, 640, 1), 120, np.uint8), 3, axis=2)
    assert set(day.see(wall, 30.0)) == {None}
    assert not day.watch.is_lost


def test_a_room_that_is_furnished_anew_bit_by_bit_is_the_same_view(
    day: Day, room: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_runtime.view_watch.RENEWED_S", 30.0)
    image = room.copy()
    for step in range(8):
        part = np.s_[:, step * 80 : step * 80 + 80]
        image[part] = RANDOM.integers(40, 200, (12, 2, 3), np.uint8).repeat(40, 0).repeat(40, 1)
        day.see(noisy(image), 40.0)
    assert day.see(noisy(image), 30.0)[-1] is None
    assert not day.watch.is_lost


def test_what_nobody_looked_for_all_night_is_not_taken_anew_in_the_morning(
    config: CameraConfig, room: Image, tmp_path: Path
) -> None:
    store = ViewStore(tmp_path / "views")
    day = Day(config, store)
    day.see(noisy(room), 20.0)
    before = store.read(config).references[True]
    day.now_s += 10 * RENEWED_S
    curtain = room.copy()
    curtain[:, :160] = noisy(np.full((480, 160, 3), (70, 90, 120), np.uint8), 12.0)
    day.see(curtain, 5.0)

    assert not day.watch.is_lost
    assert np.array_equal(store.read(config).references[True].patches, before.patches)


@pytest.fixture
def poor_day(config: CameraConfig, room: Image, monkeypatch: pytest.MonkeyPatch) -> Day:
    """A camera that was set up when there was hardly anything to see."""
    monkeypatch.setattr("edge_runtime.view_watch.RETAKEN_S", 20.0)
    day = Day(config)
    assert set(day.see(lambda: blurred(room), 10.0)) == {None}
    return day


def test_a_view_set_up_when_there_was_little_to_see_is_taken_anew(
    poor_day: Day, room: Image
) -> None:
    poor_day.see(noisy(room), 50.0)

    assert poor_day.see(shifted(room, 0.2), 20.0)[-1] == "moved"


def test_what_stands_before_a_view_of_few_corners_for_a_while_is_not_taken_for_it(
    poor_day: Day, room: Image
) -> None:
    poor_day.see(noisy(room), 25.0)

    assert set(poor_day.see(lambda: blurred(room), 60.0)) == {None}


def test_there_are_places_to_judge_by_in_a_dim_room(room: Image) -> None:
    assert len(Reference.of(Look.at(dusk(room)), ()).points) >= 2 * LEAST_PLACES


@pytest.mark.parametrize("seed", range(8))
def test_a_picture_without_a_sharp_edge_is_nothing_to_judge_by(
    config: CameraConfig, room: Image, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "RANDOM", np.random.default_rng(seed))
    day = Day(config)
    day.see(lambda: blurred(room), 10.0)

    assert not Reference.of(Look.at(blurred(room)), ()).can_judge
    assert set(day.see(noisy(room), 60.0)) == {None}


# What outlives the daemon


def test_a_camera_that_is_moved_while_the_daemon_is_off_is_told(
    config: CameraConfig, room: Image, tmp_path: Path
) -> None:
    store = ViewStore(tmp_path / "views")
    Day(config, store).see(noisy(room), 20.0)

    assert Day(config, store).see(noisy(room), 30.0)[-1] is None
    assert Day(config, store).see(shifted(room, 0.2), 30.0)[-1] == "moved"


def test_other_zones_or_another_source_are_a_new_set_up(
    config: CameraConfig, room: Image, tmp_path: Path
) -> None:
    store = ViewStore(tmp_path / "views")
    Day(config, store).see(noisy(room), 20.0)
    other = msgspec.structs.replace(config, zones=config.zones[:1])
    elsewhere = msgspec.structs.replace(config, source="usb:1")

    assert Day(other, store).see(shifted(room, 0.2), 40.0)[-1] is None
    assert Day(elsewhere, store).see(noisy(room), 40.0)[-1] is None


def test_the_file_of_a_view_is_small_and_its_owner_s(
    config: CameraConfig, room: Image, tmp_path: Path
) -> None:
    Day(config, ViewStore(tmp_path / "views")).see(noisy(room), 20.0)
    (file,) = (tmp_path / "views").iterdir()

    assert file.name == "hall.view"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_size < 20_000


def test_a_view_is_written_once_and_not_again_while_nothing_changes(
    config: CameraConfig, room: Image, tmp_path: Path
) -> None:
    day = Day(config, ViewStore(tmp_path / "views"))
    day.see(noisy(room), 20.0)
    written = (tmp_path / "views" / "hall.view").stat().st_mtime_ns
    day.see(noisy(room), 600.0)

    assert (tmp_path / "views" / "hall.view").stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", [b"", b"\x00" * 40, None])
def test_a_damaged_file_is_named_and_the_view_is_taken_anew(
    config: CameraConfig,
    room: Image,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: bytes | None,
) -> None:
    store = ViewStore(tmp_path / "views")
    Day(config, store).see(noisy(room), 20.0)
    file = tmp_path / "views" / "hall.view"
    file.write_bytes(file.read_bytes()[:-50] if damage is None else damage)
    day = Day(config, store)

    assert "hall.view" in caplog.text
    assert set(day.see(shifted(room, 0.2), 30.0)) == {None}
    assert store.read(config).references[True].can_judge


def test_a_folder_that_cannot_be_written_costs_a_line_in_the_log(
    config: CameraConfig, room: Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "views").write_text("a file in its place")
    day = Day(config, ViewStore(tmp_path / "views"))

    assert set(day.see(noisy(room), 20.0)) == {None}
    assert day.see(shifted(room, 0.2), 30.0)[-1] == "moved"
    assert "cannot be stored" in caplog.text


# What cannot be judged


def test_a_camera_that_turns_by_itself_is_not_judged(config: CameraConfig, room: Image) -> None:
    day = Day(msgspec.structs.replace(config, fixed=False))
    day.see(noisy(room), 20.0)

    assert set(day.see(shifted(room, 0.3), 60.0)) == {None}


def test_a_view_without_corners_is_not_judged(config: CameraConfig) -> None:
    wall = np.full((480, 640, 3), 140, np.uint8)
    wall[:, 320:] = 90
    day = Day(config)
    day.see(noisy(wall, 1.0), 20.0)

    assert set(day.see(noisy(np.full_like(wall, 120), 1.0), 60.0)) == {None}


def test_a_zone_that_drifts_out_of_the_frame_is_cut_at_its_border(day: Day, room: Image) -> None:
    day.see(shifted(room, 0.03), 20.0)
    right = day.watch.zone_now(Zone.rectangle(0.5, 0.1, 1.0, 0.9))

    assert right is not None
    assert right.points[1][0] == 1.0
    assert right.points[0][0] == pytest.approx(0.53, abs=0.004)


def test_a_zone_of_which_little_is_left_in_the_frame_is_nowhere(day: Day, room: Image) -> None:
    day.see(shifted(room, 0.03), 20.0)
    assert day.watch.zone_now(Zone.rectangle(0.9, 0.1, 1.0, 0.9)) is not None
    assert day.watch.zone_now(Zone.rectangle(0.95, 0.1, 1.0, 0.9)) is None
    assert day.watch.zone_now(Zone.rectangle(0.98, 0.1, 1.0, 0.9)) is None


@pytest.mark.parametrize("zoom", [0.995, 1.0, 1.005])
def test_the_smallest_zone_is_followed(zoom: float) -> None:
    shift = np.array([[zoom, 0.0, 8.0], [0.0, zoom, 0.0]])
    zone = shifted_zone(Zone.rectangle(0.5, 0.5, 0.5101, 0.51), shift, (240, 180))
    assert zone is not None
    assert zone.centre()[0] == pytest.approx(0.505 * zoom + 8 / 240, abs=0.001)


def test_a_gap_between_two_pictures_does_not_count_as_a_lost_view(day: Day, room: Image) -> None:
    day.see(shifted(room, 0.2), 5.0)
    day.now_s += 600.0

    assert day.see(shifted(room, 0.2), 5.0)[-1] is None
