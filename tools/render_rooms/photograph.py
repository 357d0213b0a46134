"""From rendered light to a picture as cameras deliver it: exposure, colour, blur, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Random = np.random.Generator


@dataclass(frozen=True)
class Look:
    """What a camera does to its pictures; all of one scene share it.

    Attributes:
        is_infrared: a night picture by the camera's own lamp.
        is_grey: a monochrome picture by day.
        mix: weights of red, green and blue in a monochrome picture.
        key: mean brightness that the exposure aims at, linear, 0 to 1.
        balance: how far the cast of the light is corrected, 0 to 1.
        cast: red, green, blue that remain.
        black: what is shown as black, 0 to 1 of the tones.
        contrast: steepness of the tone curve; 1 = none.
        saturation: 1 = as rendered.
        glare: share of the light that the lens spreads.
        blur_px: standard deviation of the lens's and demosaicing's blur.
        motion_px: length of the motion blur.
        motion_degrees: and its direction.
        sharpening: of the camera's own processing, 0 to 1.
        noise: standard deviation at medium grey, 0 to 1.
        grain_px: how far noise of neighbours agrees.
        shade: brightness lost towards one side.
        quality: of the JPEG, 0 to 100.
        has_insect: one sits on the lens or flies by.
        has_rain: drops fall before the lens.
    """

    is_infrared: bool
    is_grey: bool
    mix: tuple[float, float, float]
    key: float
    balance: float
    cast: tuple[float, float, float]
    black: float
    contrast: float
    saturation: float
    glare: float
    blur_px: float
    motion_px: float
    motion_degrees: float
    sharpening: float
    noise: float
    grain_px: float
    shade: float
    quality: int
    has_insect: bool
    has_rain: bool


def draw_look(random: Random, *, is_outdoors: bool = False) -> Look:
    """Draw a camera; only outdoors it may rain."""
    is_infrared = bool(random.random() < 0.09)
    mix = random.dirichlet((3.0, 4.0, 2.0))
    return Look(
        is_infrared=is_infrared,
        is_grey=is_infrared or bool(random.random() < 0.1),
        mix=(float(mix[0]), float(mix[1]), float(mix[2])),
        key=float(np.exp(random.normal(np.log(0.19), 0.4))),
        balance=random.uniform(0.3, 0.95),
        cast=tuple(np.exp(random.normal(0, 0.07, 3)).tolist()),
        black=random.uniform(0.0, 0.09),
        contrast=random.uniform(0.9, 1.3),
        saturation=random.uniform(0.6, 1.8),
        glare=random.uniform(0.0, 0.07),
        blur_px=random.uniform(0.2, 0.8),
        motion_px=random.uniform(2, 6) if random.random() < 0.08 else 0.0,
        motion_degrees=random.uniform(0, 180),
        sharpening=random.uniform(0.3, 1.4) if random.random() < 0.6 else 0.0,
        noise=random.uniform(0.002, 0.02) * (2.5 if is_infrared or random.random() < 0.08 else 1.0),
        grain_px=random.uniform(0.0, 0.9),
        shade=random.uniform(0.0, 0.25),
        quality=int(random.integers(40, 96)),
        has_insect=bool(random.random() < (0.08 if is_infrared else 0.01)),
        has_rain=bool(random.random() < 0.1) and is_outdoors,
    )


def develop(light: Array, look: Look, random: Random) -> npt.NDArray[np.uint8]:
    """Turn light into a picture.

    Args:
        light: (H, W, 3) float32 linear red, green, blue, from 0 upwards.
        look: the camera.
        random: of the noise.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    light = np.maximum(np.nan_to_num(light), 0.0).astype(np.float32)
    if look.is_grey:
        light = np.repeat((light @ np.array(look.mix, np.float32))[..., None], 3, axis=2)
    else:
        light = _balanced(light, look)
    light = light * _exposure(light, look) * _falloff(light.shape, look)
    if look.glare > 0.01:
        wide = cv2.GaussianBlur(np.minimum(light, 8.0), (0, 0), 0.05 * max(light.shape))
        light = (1 - look.glare) * light + look.glare * wide
    light = _blurred(light, look)
    if look.has_insect:
        _draw_insect(light, random)
    if look.has_rain:
        _draw_rain(light, random)
    tones = _toned(light, look)
    return _noisy(tones, look, random)[..., ::-1].copy()


def _balanced(light: Array, look: Look) -> Array:
    means = np.minimum(light, np.quantile(light, 0.97) + 1e-6).mean(axis=(0, 1)) + 1e-6
    gains = (means.mean() / means) ** look.balance * np.array(look.cast, np.float32)
    grey = light.mean(axis=2, keepdims=True)
    return np.asarray(np.maximum(grey + (light * gains - grey) * look.saturation, 0.0))


def _exposure(light: Array, look: Look) -> float:
    luminance = light.mean(axis=2)
    # Neither a lamp nor a black corner may decide alone.
    metered = np.minimum(luminance, 5.0 * np.median(luminance) + 1e-6)
    return look.key / max(float(metered.mean()), 1e-6)


def _falloff(shape: tuple[int, ...], look: Look) -> Array:
    """Light falls off towards the border of the frame, which may be on any side of this part."""
    height, width = shape[:2]
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    angle = np.radians(look.motion_degrees * 2)
    away = np.abs((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + 0.2)
    return np.asarray(
        np.clip(1.0 - look.shade * (1.6 if look.is_infrared else 1.0) * away * 1.5, 0.2, 1.0)[
            ..., None
        ],
        np.float32,
    )


def _blurred(light: Array, look: Look) -> Array:
    light = cv2.GaussianBlur(light, (0, 0), look.blur_px)
    if look.motion_px >= 1:
        side = int(look.motion_px) | 1
        kernel = np.zeros((side, side), np.float32)
        way = (
            side
            / 2
            * np.array(
                [np.cos(np.radians(look.motion_degrees)), np.sin(np.radians(look.motion_degrees))]
            )
        )
        ends = [(side // 2 + s * way).round().astype(int).tolist() for s in (-1, 1)]
        cv2.line(kernel, tuple(ends[0]), tuple(ends[1]), 1.0)
        light = cv2.filter2D(light, -1, kernel / max(kernel.sum(), 1e-6))
    return np.asarray(light)


def _draw_insect(light: Array, random: Random) -> None:
    height, width = light.shape[:2]
    at = (int(random.uniform(0, width)), int(random.uniform(0, height)))
    spot = np.zeros((height, width), np.float32)
    axes = (max(int(0.05 * width), 1), max(int(0.015 * width), 1))
    cv2.ellipse(spot, at, axes, random.uniform(0, 180), 0, 360, 1.0, -1)
    shade = cv2.GaussianBlur(spot, (0, 0), 0.012 * width)[..., None]
    light[:] = light * (1 - shade) + shade * float(random.choice([0.01, 1.5]))


def _draw_rain(light: Array, random: Random) -> None:
    height, width = light.shape[:2]
    streaks = np.zeros((height, width), np.float32)
    slant = random.uniform(-0.25, 0.25)
    for _ in range(int(random.integers(15, 90))):
        x, y, length = random.uniform(0, width), random.uniform(0, height), random.uniform(6, 26)
        ends = [(int(x), int(y)), (int(x + slant * length), int(y + length))]
        cv2.line(streaks, ends[0], ends[1], random.uniform(0.1, 0.5), 1)
    shade = cv2.GaussianBlur(streaks, (0, 0), 0.7)[..., None]
    light[:] = light * (1 - shade) + shade * 0.6


def _toned(light: Array, look: Look) -> Array:
    """A curve with a shoulder, then the display's."""
    soft = np.where(light < 0.5, light, 0.5 + 0.5 * (1 - np.exp(-(light - 0.5) / 0.5)))
    tones = (np.clip(soft, 0, 1) ** (1 / 2.2) - look.black) / (1 - look.black)
    return np.asarray(np.clip(0.5 + (tones - 0.5) * look.contrast, 0, 1))


def _noisy(tones: Array, look: Look, random: Random) -> npt.NDArray[np.uint8]:
    if look.sharpening:
        tones = tones + look.sharpening * (tones - cv2.GaussianBlur(tones, (0, 0), 1.2))
    grain: Array = random.normal(0, 1, tones.shape).astype(np.float32)
    if look.is_grey:
        grain[:] = grain[..., :1]
    if look.grain_px > 0.3:
        grain = cv2.GaussianBlur(grain, (0, 0), look.grain_px)
        grain = grain / (grain.std() + 1e-6)
    tones = tones + grain * look.noise * (1.4 - tones)  # shadows are lifted, and their noise
    return np.round(np.clip(tones, 0, 1) * 255).astype(np.uint8)
