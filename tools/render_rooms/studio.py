"""Scenes in Blender: meshes, lights, a camera, and the path tracer. The only module with `bpy`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt
from mathutils import Matrix, Vector

from tools.render_rooms.lights import Light
from tools.render_rooms.materials import build_material
from tools.render_rooms.parts import Part
from tools.render_rooms.scene import Scene
from tools.render_rooms.view import View

Array = npt.NDArray[Any]


class Studio:
    """One scene, built; `shoot` moves the leaves and renders.

    Args:
        scene: what to build, with the camera at its view. Whatever Blender held before is gone.
        samples: light paths a pixel.
        threads: of the renderer.
        scratch: folder for the renderer's own file.
    """

    def __init__(self, scene: Scene, *, samples: int, threads: int, scratch: Path) -> None:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self._file = scratch / "render.exr"
        self._scene = scene
        _set_up(samples, threads)
        _set_ambient(scene)
        _add_camera()
        self.aim(scene.view)
        for light in scene.lights:
            _add_light(light)
        _add_parts([*scene.parts, *scene.opening.fixed])
        self._leaves = [_add_parts(list(leaf.parts)) for leaf in scene.opening.leaves]

    def aim(self, view: View) -> None:
        """Move the camera."""
        camera, render = bpy.context.scene.camera, bpy.context.scene.render
        left, right, bottom, top = view.window
        camera.data.lens = camera.data.sensor_width / (right - left)
        camera.data.shift_x = (left + right) / 2 / (right - left)
        camera.data.shift_y = (bottom + top) / 2 / (right - left)
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = view.axes, view.eye
        camera.matrix_world = Matrix(matrix.tolist())
        render.resolution_x, render.resolution_y = view.size
        render.resolution_percentage = 100

    def shoot(self, amounts: tuple[float, ...]) -> Array:
        """Render with the leaves at `amounts`.

        Returns:
            (H, W, 3) float32 linear red, green, blue.
        """
        for leaf, objects, amount in zip(
            self._scene.opening.leaves, self._leaves, amounts, strict=True
        ):
            for thing in objects:
                thing.matrix_world = Matrix(leaf.matrix(amount).tolist())
        bpy.context.scene.render.filepath = str(self._file)
        with _silence():
            bpy.ops.render.render(write_still=True)
        return self._read()

    def _read(self) -> Array:
        image = bpy.data.images.load(str(self._file))
        width, height = image.size
        pixels = np.empty(width * height * 4, np.float32)
        image.pixels.foreach_get(pixels)
        bpy.data.images.remove(image)
        return pixels.reshape(height, width, 4)[::-1, :, :3].copy()


def _set_up(samples: int, threads: int) -> None:
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.render.use_persistent_data = False
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.view_settings.view_transform = "Raw"
    cycles = scene.cycles
    cycles.device, cycles.samples, cycles.use_adaptive_sampling = "CPU", samples, False
    cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
    cycles.denoising_prefilter, cycles.denoising_quality = "NONE", "FAST"
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 4, 2, 2
    cycles.transmission_bounces, cycles.transparent_max_bounces = 2, 6
    cycles.caustics_reflective = cycles.caustics_refractive = False
    # A lamp that a pane mirrors in one path of many would leave specks.
    cycles.sample_clamp_direct, cycles.sample_clamp_indirect = 10.0, 4.0


def _set_ambient(scene: Scene) -> None:
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    background = world.node_tree.nodes["Background"]
    background.inputs["Color"].default_value = (*scene.ambient.colour, 1.0)
    background.inputs["Strength"].default_value = scene.ambient.strength
    bpy.context.scene.world = world


def _add_camera() -> None:
    data = bpy.data.cameras.new("camera")
    data.sensor_fit, data.sensor_width, data.clip_start = "HORIZONTAL", 36.0, 0.02
    camera = bpy.data.objects.new("camera", data)
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera


def _add_light(light: Light) -> None:
    data = bpy.data.lights.new(light.kind, light.kind.upper())
    data.energy, data.color = light.power, light.colour
    if light.kind == "sun":
        data.angle = np.radians(light.size)
    elif light.kind == "spot":
        data.spot_size, data.shadow_soft_size, data.spot_blend = np.radians(light.size), 0.02, 0.8
    else:
        data.size, data.spread = light.size, np.radians(light.spread)
    thing = bpy.data.objects.new(light.kind, data)
    direction = Vector(light.target) - Vector(light.place)
    turned = direction.to_track_quat("-Z", "Y").to_matrix().to_4x4()
    thing.matrix_world = Matrix.Translation(light.place) @ turned
    thing.visible_camera = False
    bpy.context.scene.collection.objects.link(thing)


def _add_parts(parts: list[Part]) -> list[Any]:
    """Add one object a surface: a few large meshes render faster than many small ones."""
    surfaces = list(dict.fromkeys(part.surface for part in parts))
    objects = []
    for surface in surfaces:
        vertices: list[list[float]] = []
        faces: list[tuple[int, ...]] = []
        for part in parts:
            if part.surface == surface:
                points, sides = part.mesh()
                faces += [tuple(v + len(vertices) for v in side) for side in sides]
                vertices += points.tolist()
        mesh = bpy.data.meshes.new(surface.kind)
        mesh.from_pydata(vertices, [], faces)
        mesh.materials.append(build_material(surface))
        thing = bpy.data.objects.new(surface.kind, mesh)
        thing.visible_shadow = surface.kind not in ("backdrop", "glass")
        bpy.context.scene.collection.objects.link(thing)
        objects.append(thing)
    return objects


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Blender prints each file it saves to the process's standard output."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
