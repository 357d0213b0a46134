"""Light in the scene and the sensor that sees it: day, lamp, infra-red; noise, blur, lens."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.scenes.texture import Colour, Random

Array = npt.NDArray[Any]

LOOKS = ("day", "overcast", "evening", "night")


@dataclass(frozen=True)
class Light:
    """What lights the camera's side of the wall.

    Attributes:
        look: one of `LOOKS`; `night` is a camera's own infra-red lamp.
        ambient: BGR factors of the light that comes from everywhere.
        key: BGR factors of the lamp or sky window at one metre of `reach`.
        position: of the lamp in metres.
        reach: metres at which its light has halved.
        beyond: BGR factors of the light behind the wall.
        sky: BGR of the sky, 0 to 255.
        is_lit_beyond: whether the far side is bright enough to throw light through the opening.
    """

    look: str
    ambient: Colour
    key: Colour
    position: tuple[float, float, float]
    reach: float
    beyond: Colour
    sky: Colour
    is_lit_beyond: bool

    def at(self, point: Array, normal: Array) -> Colour:
        """Return the BGR factors of the light at a (3,) point of a surface with a unit normal."""
        way = np.array(self.position) - point
        distance = float(np.linalg.norm(way))
        facing = max(0.0, float(way @ normal) / max(distance, 1e-6))
        strength = (0.25 + 0.75 * facing) / (1.0 + (distance / self.reach) ** 2)
        sky = 0.92 + 0.08 * float(normal[1])
        return (
            self.ambient[0] * sky + self.key[0] * strength,
            self.ambient[1] * sky + self.key[1] * strength,
            self.ambient[2] * sky + self.key[2] * strength,
        )

    def over(self, points: Array, normal: Array) -> Array:
        """Return (h, w, 3) float32 BGR factors at (h, w, 3) points of a flat surface."""
        way = np.array(self.position) - points
        distance = np.linalg.norm(way, axis=2)
        facing = np.maximum(0.0, way @ normal / np.maximum(distance, 1e-6))
        strength = (0.25 + 0.75 * facing) / (1.0 + (distance / self.reach) ** 2)
        lit = np.array(self.ambient) + strength[:, :, None] * np.array(self.key)
        result: Array = lit.astype(np.float32)
        return result


def lit(colour: Colour, light: Colour) -> Colour:
    """Return a BGR colour under BGR light factors."""
    return colour[0] * light[0], colour[1] * light[1], colour[2] * light[2]


def dimmed(colour: Colour, factor: float) -> Colour:
    """Return a BGR colour times one factor."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def draw_light(
    random: Random,
    *,
    look: str,
    is_outside: bool,
    is_beyond_outdoors: bool,
    camera: tuple[float, float, float],
) -> Light:
    """Draw the light of one picture.

    Args:
        random: the picture's generator.
        look: one of `LOOKS`.
        is_outside: whether the camera is outdoors.
        is_beyond_outdoors: whether the far side of the main opening is outdoors.
        camera: its position in metres; the infra-red lamp is there.
    """
    if look == "night":
        # The lamp reaches a room's far wall, but not the trees behind a window.
        dim = random.uniform(0.01, 0.06) if is_beyond_outdoors else random.uniform(0.05, 0.35)
        return Light(
            look, _grey(random.uniform(0.05, 0.15)), _grey(random.uniform(0.9, 1.5)), camera,
            random.uniform(1.8, 4.0), _grey(dim), _grey(random.uniform(5, 30)), False,
        )  # fmt: skip
    side = random.choice([-1.0, 1.0])
    if look == "evening":
        return _evening(random, side, is_outside, is_beyond_outdoors)
    return _day(random, look, side, is_outside, is_beyond_outdoors)


def _evening(random: Random, side: float, is_outside: bool, is_beyond_outdoors: bool) -> Light:
    warm = random.uniform(0.0, 0.45)
    tone = (1.0 - warm, 1.0 - 0.35 * warm, 1.0)
    height = random.uniform(1.4, 2.4)
    place = (side * random.uniform(0.2, 2.5), height, random.uniform(0.4, 2.5))
    level = random.uniform(0.12, 0.4)
    is_lit = not is_beyond_outdoors and random.random() < 0.6
    far = random.uniform(0.6, 1.2) if is_lit else random.uniform(0.03, 0.15)
    night_sky = random.uniform(4, 50)
    key = random.uniform(0.6, 1.5) * (0.8 if is_outside else 1.0)
    return Light(
        "evening", lit(_grey(level), tone), lit(_grey(key), tone), place,
        random.uniform(1.2, 3.0), (far * 0.75, far * 0.9, far),
        (night_sky, night_sky * 0.7, night_sky * 0.5), is_lit,
    )  # fmt: skip


def _day(
    random: Random, look: str, side: float, is_outside: bool, is_beyond_outdoors: bool
) -> Light:
    cool = random.uniform(-0.08, 0.12)
    tone = (1.0 + cool, 1.0, 1.0 - cool)
    place = (side * random.uniform(1.5, 5.0), random.uniform(1.5, 4.0), random.uniform(1.5, 6.0))
    level = random.uniform(0.35, 0.75)
    key = random.uniform(0.2, 0.8)
    if is_outside:
        level, key = level + 0.15, key * 1.3
        place = (
            side * random.uniform(2.0, 12.0),
            random.uniform(5.0, 12.0),
            random.uniform(4.0, 12.0),
        )
    if look == "overcast":
        key *= 0.3
    if is_beyond_outdoors:
        far, is_lit = random.uniform(0.9, 1.9), look == "day" and random.random() < 0.7
    elif is_outside:
        far, is_lit = random.uniform(0.1, 0.55), False
    else:
        far = random.choice([random.uniform(0.08, 0.3), random.uniform(0.45, 1.1)])
        is_lit = far > 0.6
    sky = (250.0, 232.0, 215.0) if look == "overcast" else (255.0, 205.0, 160.0)
    return Light(
        look, lit(_grey(level), tone), lit(_grey(key), tone), place, random.uniform(2.5, 8.0),
        _grey(far), sky, is_lit,
    )  # fmt: skip


def _grey(value: float) -> Colour:
    return value, value, value


@dataclass(frozen=True)
class Sensor:
    """How the camera turns light into pixels.

    Attributes:
        gain: exposure factors, BGR.
        gamma: exponent of the tone curve.
        vignette: how much darker the corners are, 0 to 1.
        noise: deviation of the noise in grey levels.
        coarse: whether the noise is in blobs, as after an in-camera filter.
        blur: deviation of the lens's blur in pixels.
        shake: length of the motion blur in pixels, 0 or odd.
        distortion: coefficient of the radial distortion, negative for a barrel.
        is_grey: whether the picture has no colour.
        quality: of the JPEG, 0 to 100.
    """

    gain: Colour
    gamma: float
    vignette: float
    noise: float
    coarse: bool
    blur: float
    shake: int
    distortion: float
    is_grey: bool
    quality: int


def draw_sensor(random: Random, look: str, distortion: float) -> Sensor:
    """Draw exposure, noise and blur of one picture."""
    exposure = float(np.exp(random.normal(0.0, 0.15)))
    balance = random.normal(1.0, 0.05, 3)
    is_dark = look in ("night", "evening")
    return Sensor(
        gain=(
            float(exposure * balance[0]),
            float(exposure * balance[1]),
            float(exposure * balance[2]),
        ),
        gamma=float(random.uniform(0.8, 1.15)),
        vignette=float(
            random.choice([0.3, 0.45, 0.6, 0.7] if look == "night" else [0.0, 0.0, 0.1, 0.2, 0.3])
        ),
        noise=float(random.uniform(3, 11) if is_dark else random.uniform(0.8, 5.0)),
        coarse=bool(random.random() < 0.4),
        blur=float(random.choice([0.0, random.uniform(0.4, 0.9), random.uniform(0.7, 1.3)])),
        shake=int(random.choice([0, 0, 0, 0, 0, 0, 3, 5, 7])) if look == "day" else 0,
        distortion=distortion,
        is_grey=look == "night" or bool(random.random() < 0.05),
        quality=int(random.integers(45, 96)),
    )


def metered(sensor: Sensor, image: Array, target: float) -> Sensor:
    """Return the sensor with the exposure that a camera would choose for a clean picture.

    Args:
        sensor: with the exposure that differs from the chosen one.
        image: (H, W, 3) uint8 BGR.
        target: mean grey level that the camera is after, reached three quarters of the way.
    """
    mean = float(np.mean(image[::4, ::4]))
    factor = float(np.clip((target / max(mean, 1.0)) ** 0.75, 0.7, 5.0))
    return replace(sensor, gain=lit(sensor.gain, _grey(factor)))


def steady(sensor: Sensor) -> Sensor:
    """Return the sensor as it is on a good camera that hangs still."""
    noise = min(max(sensor.noise, 2.5), 6.0)
    return replace(sensor, shake=0, blur=min(sensor.blur, 0.6), noise=noise, is_grey=False)


def expose(image: Array, sensor: Sensor) -> Array:
    """Return what lens and exposure make of a clean (H, W, 3) uint8 BGR picture, before noise."""
    if sensor.distortion:
        image = cv2.remap(
            image, *_lens(image.shape[1], image.shape[0], sensor.distortion), cv2.INTER_LINEAR
        )
    if sensor.shake:
        kernel = np.zeros((sensor.shake, sensor.shake), np.float32)
        kernel[sensor.shake // 2] = 1.0 / sensor.shake
        image = cv2.filter2D(image, -1, kernel)
    if sensor.blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), sensor.blur)
    if sensor.is_grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    image = cv2.LUT(image, _curve(sensor))
    if sensor.vignette > 0.02:
        image = cv2.multiply(
            image, _corners(image.shape[1], image.shape[0], sensor.vignette), scale=1 / 255
        )
    return image


def with_noise(image: Array, sensor: Sensor, random: Random) -> Array:
    """Return the picture with a fresh draw of the sensor's noise."""
    height, width = image.shape[:2]
    channels = 1 if sensor.is_grey else 3
    noise = _noise(height, width, channels, random)
    if sensor.coarse:
        noise = cv2.blur(noise, (2, 2)) * 1.7
    if channels == 1:
        noise = cv2.cvtColor(noise, cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(image, 1.0, noise, sensor.noise, 0.0, dtype=cv2.CV_8U)


def seen_at(points: Array, distortion: float, size: tuple[int, int]) -> Array:
    """Return where (N, 2) pixels of an ideal picture are after the lens's `distortion`."""
    width, height = size
    centre = np.array([width / 2, height / 2])
    straight = (points - centre) / (width / 2)
    fit = _fit(width, height, distortion)
    bent = straight.copy()
    for _ in range(6):
        radius = (bent**2).sum(axis=1, keepdims=True)
        bent = straight * fit / (1.0 - distortion * radius)
    result: Array = bent * (width / 2) + centre
    return result


@functools.lru_cache(maxsize=16)
def _lens(width: int, height: int, distortion: float) -> tuple[Array, Array]:
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    dx, dy = (x - width / 2) / (width / 2), (y - height / 2) / (width / 2)
    factor = (1.0 - distortion * (dx * dx + dy * dy)) / _fit(width, height, distortion)
    map_x = (dx * factor * width / 2 + width / 2 - 0.5).astype(np.float32)
    map_y = (dy * factor * width / 2 + height / 2 - 0.5).astype(np.float32)
    return cv2.convertMaps(map_x, map_y, cv2.CV_16SC2)


def _fit(width: int, height: int, distortion: float) -> float:
    """Return the zoom that keeps the corners of a barrel-distorted picture inside the drawn one."""
    return 1.0 - min(distortion, 0.0) * (1.0 + (height / width) ** 2)


@functools.lru_cache(maxsize=16)
def _corners(width: int, height: int, vignette: float) -> Array:
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    shade = 255.0 * (1.0 - vignette * np.clip((x * x + y * y) / 1.6, 0, 1))
    return cv2.cvtColor(shade.astype(np.uint8), cv2.COLOR_GRAY2BGR)


def _curve(sensor: Sensor) -> Array:
    """Return the (1, 256, 3) uint8 table of exposure, white balance and tone curve."""
    level = np.arange(256)[:, None] / 255.0 * np.array(sensor.gain)
    soft = np.where(level > 0.8, 0.8 + 0.2 * np.tanh((level - 0.8) / 0.2), level)
    table = np.clip(255.0 * soft**sensor.gamma, 0, 255).astype(np.uint8)
    result: Array = table[None]
    return result


def _noise(height: int, width: int, channels: int, random: Random) -> Array:
    """Return (height, width, channels) float32 of unit deviation: a window of a fixed bank."""
    bank = _bank()
    count = height * width * channels
    if count > len(bank):
        return random.standard_normal((height, width, channels), dtype=np.float32)
    start = int(random.integers(0, len(bank) - count + 1))
    part: Array = bank[start : start + count].reshape(height, width, channels)
    return part


@functools.lru_cache(maxsize=1)
def _bank() -> Array:
    return np.random.default_rng(20).standard_normal(3_000_000, dtype=np.float32)
