"""Surfaces as Blender materials: procedural, so that no picture file is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy

from tools.render_rooms.surfaces import Colour, Surface

Socket = Any


class _Nodes:
    """The node tree of one material, while it is wired."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface
        self.material = bpy.data.materials.new(surface.kind)
        self.material.use_nodes = True
        self._tree = self.material.node_tree
        self._tree.nodes.clear()

    def add(self, kind: str, **inputs: Any) -> Any:
        """Add a node; inputs by name, with `_` for spaces: values are set, sockets are linked."""
        node = self._tree.nodes.new(f"ShaderNode{kind}")
        for name, value in inputs.items():
            self.feed(node, name.replace("_", " "), value)
        return node

    def feed(self, node: Any, name: str | int, value: Any) -> None:
        """Set or link one input of a node."""
        if isinstance(value, bpy.types.NodeSocket):
            self._tree.links.new(value, node.inputs[name])
        else:
            node.inputs[name].default_value = value

    def output(self, shader: Socket) -> None:
        """Take `shader` as the material's surface."""
        self._tree.links.new(shader, self._tree.nodes.new("ShaderNodeOutputMaterial").inputs[0])

    def math(self, operation: str, first: Any, second: Any = 0.0) -> Socket:
        """Return the result of one operation on numbers."""
        node = self._tree.nodes.new("ShaderNodeMath")
        node.operation = operation
        self.feed(node, 0, first)
        self.feed(node, 1, second)
        return node.outputs[0]

    def position(self) -> Socket:
        """Return metres in the object's own coordinates, moved to its place in the texture."""
        place = self.add("TexCoord").outputs["Object"]
        moved = self._tree.nodes.new("ShaderNodeVectorMath")
        self.feed(moved, 0, place)
        self.feed(
            moved, 1, (self.surface.offset, self.surface.offset * 0.7, self.surface.offset * 0.3)
        )
        return moved.outputs[0]

    def flat(self) -> Socket:
        """Return metres in the plane of the face: across and up a wall, or along a floor."""
        place = self.add("SeparateXYZ", Vector=self.position())
        normal = self.add("SeparateXYZ", Vector=self.add("NewGeometry").outputs["Normal"])
        level = self.math("GREATER_THAN", self.math("ABSOLUTE", normal.outputs[2]), 0.7)
        upright = self.add(
            "CombineXYZ", X=self.math("ADD", place.outputs[0], place.outputs[1]), Y=place.outputs[2]
        )
        lying = self.add("CombineXYZ", X=place.outputs[0], Y=place.outputs[1])
        return self.mixed(level, upright.outputs[0], lying.outputs[0], kind="VECTOR")

    def mixed(
        self, share: Any, first: Any, second: Any, *, kind: str = "RGBA", blend: str = "MIX"
    ) -> Socket:
        """Mix two colours or vectors by a share."""
        node = self._tree.nodes.new("ShaderNodeMix")
        node.data_type = kind
        if kind == "RGBA":
            node.blend_type = blend
        number = {"RGBA": (6, 7, 2), "VECTOR": (4, 5, 1)}[kind]
        self.feed(node, 0, share)
        self.feed(node, number[0], first)
        self.feed(node, number[1], second)
        return node.outputs[number[2]]

    def stretched(self, x: float, y: float, z: float) -> Socket:
        """Return the position scaled by axis."""
        node = self._tree.nodes.new("ShaderNodeMapping")
        self.feed(node, "Vector", self.position())
        node.inputs["Scale"].default_value = (x, y, z)
        return node.outputs[0]

    def noise(self, vector: Socket, scale: float, detail: float = 3.0) -> Socket:
        """Return noise of about 0.3 to 0.7."""
        return self.add("TexNoise", Vector=vector, Scale=scale, Detail=detail).outputs[0]

    def steep(self, value: Socket, low: float, high: float) -> Socket:
        """Map `low` to 0 and `high` to 1."""
        node = self.add("MapRange", Value=value)
        node.inputs["From Min"].default_value, node.inputs["From Max"].default_value = low, high
        return node.outputs[0]


def build_material(surface: Surface) -> Any:
    """Return the Blender material of a surface."""
    nodes = _Nodes(surface)
    nodes.output(_BUILDERS[surface.kind](nodes))
    return nodes.material


def _rgba(colour: Colour) -> tuple[float, float, float, float]:
    return (*colour, 1.0)


def _solid(
    nodes: _Nodes,
    colour: Any,
    *,
    metallic: float = 0.0,
    bump: Socket | None = None,
    depth: float = 0.2,
) -> Socket:
    node = nodes.add(
        "BsdfPrincipled", Base_Color=colour, Roughness=nodes.surface.roughness, Metallic=metallic
    )
    if bump is not None:
        bent = nodes.add("Bump", Strength=depth, Distance=0.01, Height=bump)
        nodes.feed(node, "Normal", bent.outputs[0])
    return node.outputs[0]


def _colours(nodes: _Nodes, share: Any) -> Socket:
    return nodes.mixed(share, _rgba(nodes.surface.colour), _rgba(nodes.surface.other))


def _paint(nodes: _Nodes) -> Socket:
    worn = nodes.steep(nodes.noise(nodes.position(), 2.5), 0.45, 1.1)
    return _solid(nodes, _colours(nodes, worn))


def _plaster(nodes: _Nodes) -> Socket:
    place = nodes.position()
    worn = nodes.steep(nodes.noise(place, 1.5, 5.0), 0.35, 0.9)
    return _solid(nodes, _colours(nodes, worn), bump=nodes.noise(place, 60.0), depth=0.5)


def _wood(nodes: _Nodes) -> Socket:
    scale = 1.2 / nodes.surface.scale
    grain = nodes.noise(nodes.stretched(scale, scale, scale * 0.06), 1.0, 6.0)
    return _solid(nodes, _colours(nodes, nodes.steep(grain, 0.35, 0.65)))


def _bricks(nodes: _Nodes, *, width: float, height: float, offset: float, mortar: float) -> Any:
    node = nodes.add("TexBrick", Vector=nodes.flat(), Scale=1.0)
    node.offset = offset
    values = {
        "Brick Width": width,
        "Row Height": height,
        "Mortar Size": mortar,
        "Mortar Smooth": 0.2,
    }
    for name, value in values.items():
        node.inputs[name].default_value = value
    return node


def _brick(nodes: _Nodes) -> Socket:
    s = nodes.surface
    node = _bricks(nodes, width=s.scale, height=s.scale * 0.33, offset=0.5, mortar=s.scale * 0.05)
    dark = (s.colour[0] * 0.6, s.colour[1] * 0.6, s.colour[2] * 0.6)
    for name, colour in (("Color1", s.colour), ("Color2", dark), ("Mortar", s.other)):
        node.inputs[name].default_value = _rgba(colour)
    return _solid(
        nodes, node.outputs[0], bump=nodes.math("SUBTRACT", 1.0, node.outputs[1]), depth=0.7
    )


def _tiles(nodes: _Nodes) -> Socket:
    s = nodes.surface
    node = _bricks(nodes, width=s.scale, height=s.scale, offset=0.0, mortar=s.scale * 0.02)
    joint = (s.other[0] * 0.5, s.other[1] * 0.5, s.other[2] * 0.5)
    for name, colour in (("Color1", s.colour), ("Color2", s.other), ("Mortar", joint)):
        node.inputs[name].default_value = _rgba(colour)
    return _solid(nodes, node.outputs[0])


def _planks(nodes: _Nodes) -> Socket:
    s = nodes.surface
    node = _bricks(nodes, width=s.scale * 9, height=s.scale, offset=0.37, mortar=s.scale * 0.02)
    joint = (s.other[0] * 0.3, s.other[1] * 0.3, s.other[2] * 0.3)
    for name, colour in (("Color1", s.colour), ("Color2", s.other), ("Mortar", joint)):
        node.inputs[name].default_value = _rgba(colour)
    grain = nodes.steep(nodes.noise(nodes.stretched(1.5, 14.0, 14.0), 1.5, 5.0), 0.3, 0.7)
    shaded = nodes.mixed(0.45, node.outputs[0], nodes.mixed(grain, node.outputs[0], _rgba(joint)))
    return _solid(nodes, shaded)


def _pattern(nodes: _Nodes) -> Socket:
    s = nodes.surface
    choice = int(s.offset * 10) % 4
    if choice == 0:
        node = nodes.add("TexChecker", Vector=nodes.flat(), Scale=1 / s.scale)
        return _solid(nodes, _colours(nodes, node.outputs[1]))
    if choice == 1:
        node = nodes.add(
            "TexWave", Vector=nodes.flat(), Scale=0.3 / s.scale, Distortion=s.offset % 3
        )
        return _solid(nodes, _colours(nodes, nodes.steep(node.outputs[1], 0.3, 0.7)))
    if choice == 2:
        node = nodes.add("TexVoronoi", Vector=nodes.flat(), Scale=1 / s.scale)
        return _solid(nodes, _colours(nodes, nodes.steep(node.outputs[0], 0.2, 0.5)))
    noise = nodes.steep(nodes.noise(nodes.position(), 0.5 / s.scale, 4.0), 0.42, 0.58)
    return _solid(nodes, _colours(nodes, noise))


def _stone(nodes: _Nodes) -> Socket:
    s = nodes.surface
    cell = nodes.add("TexVoronoi", Vector=nodes.flat(), Scale=1 / s.scale)
    rough = nodes.noise(nodes.position(), 6.0, 6.0)
    share = nodes.math(
        "ADD", nodes.math("MULTIPLY", cell.outputs[0], 0.7), nodes.steep(rough, 0.3, 0.9)
    )
    return _solid(nodes, _colours(nodes, share), bump=rough, depth=1.0)


def _fabric(nodes: _Nodes) -> Socket:
    share = nodes.steep(nodes.noise(nodes.position(), 1 / nodes.surface.scale, 4.0), 0.45, 0.75)
    return _solid(
        nodes,
        nodes.mixed(
            nodes.math("MULTIPLY", share, 0.35),
            _rgba(nodes.surface.colour),
            _rgba(nodes.surface.other),
        ),
    )


def _foliage(nodes: _Nodes) -> Socket:
    share = nodes.steep(nodes.noise(nodes.position(), 1 / nodes.surface.scale, 6.0), 0.35, 0.65)
    dark = tuple(c * 0.25 for c in nodes.surface.other)
    return _solid(nodes, nodes.mixed(share, _rgba(nodes.surface.colour), (*dark, 1.0)))


def _metal(nodes: _Nodes) -> Socket:
    return _solid(nodes, _rgba(nodes.surface.colour), metallic=1.0)


def _blend(nodes: _Nodes, share: Any, first: Socket, second: Socket) -> Socket:
    node = nodes.add("MixShader")
    nodes.feed(node, 0, share)
    nodes.feed(node, 1, first)
    nodes.feed(node, 2, second)
    return node.outputs[0]


def _glass(nodes: _Nodes) -> Socket:
    clear = nodes.add("BsdfTransparent", Color=_rgba(nodes.surface.colour)).outputs[0]
    mirror = nodes.add("BsdfAnisotropic", Roughness=0.0).outputs[0]
    # A pane does not bend light here: leaving it must not mirror as if it came from inside.
    leaving = nodes.add("NewGeometry").outputs["Backfacing"]
    index = nodes.math("SUBTRACT", 1.5, nodes.math("MULTIPLY", leaving, 1.5 - 1 / 1.5))
    return _blend(nodes, nodes.add("Fresnel", IOR=index).outputs[0], clear, mirror)


def _frosted(nodes: _Nodes) -> Socket:
    colour = _rgba(nodes.surface.colour)
    through = nodes.add("BsdfTranslucent", Color=colour).outputs[0]
    clear = nodes.add("BsdfTransparent", Color=colour).outputs[0]
    milky = _blend(nodes, 0.22, through, clear)
    bump = nodes.noise(nodes.position(), 1 / nodes.surface.scale)
    return _blend(nodes, 0.3, milky, _solid(nodes, colour, bump=bump, depth=1.0))


def _net(nodes: _Nodes) -> Socket:
    clear = nodes.add("BsdfTransparent").outputs[0]
    return _blend(nodes, 0.6, clear, _solid(nodes, _rgba(nodes.surface.colour)))


def _glow(nodes: _Nodes) -> Socket:
    return nodes.add(
        "Emission", Color=_rgba(nodes.surface.colour), Strength=nodes.surface.strength
    ).outputs[0]


def _backdrop(nodes: _Nodes) -> Socket:
    """Trees and houses, blurred by distance, under a sky."""
    s = nodes.surface
    place = nodes.position()
    up = nodes.add("SeparateXYZ", Vector=nodes.add("TexCoord").outputs["Object"]).outputs[2]
    skyline = nodes.math("ADD", up, nodes.math("MULTIPLY", nodes.noise(place, 0.6, 6.0), -8.0))
    is_sky = nodes.steep(skyline, -2.2, -1.6)
    leaves = nodes.steep(nodes.noise(place, 2.0 / s.scale, 6.0), 0.35, 0.65)
    dark = (s.other[0] * 0.2, s.other[1] * 0.25, s.other[2] * 0.2, 1.0)
    low = nodes.mixed(leaves, _rgba((s.other[0] * 0.6, s.other[1] * 0.6, s.other[2] * 0.6)), dark)
    colour = nodes.mixed(is_sky, low, _rgba(s.colour))
    return nodes.add("Emission", Color=colour, Strength=s.strength).outputs[0]


_BUILDERS: dict[str, Callable[[_Nodes], Socket]] = {
    "paint": _paint, "plaster": _plaster, "wood": _wood, "brick": _brick, "tiles": _tiles,
    "planks": _planks, "pattern": _pattern, "stone": _stone, "fabric": _fabric, "foliage": _foliage,
    "metal": _metal, "glass": _glass, "frosted": _frosted, "net": _net, "glow": _glow,
    "backdrop": _backdrop,
}  # fmt: skip
