"""Walking an INT8 graph: what each node is fed from, and a graph put together anew."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper


@dataclass(frozen=True)
class Layers:
    """A graph, and what its nodes are fed.

    Attributes:
        proto: The whole.
        constants: Initializers by name.
        makers: Which node gives a tensor, by its name; none gives the graph's inputs.
    """

    proto: onnx.ModelProto
    constants: dict[str, npt.NDArray[np.generic]]
    makers: dict[str, onnx.NodeProto]

    @classmethod
    def of(cls, model: bytes) -> "Layers":
        """Read a graph."""
        proto = onnx.load_from_string(model)
        constants = {v.name: numpy_helper.to_array(v) for v in proto.graph.initializer}
        makers = {name: node for node in proto.graph.node for name in node.output}
        return cls(proto, constants, makers)

    @property
    def graph(self) -> onnx.GraphProto:
        """The graph of the whole."""
        return self.proto.graph

    def with_nodes(self, nodes: Sequence[onnx.NodeProto]) -> bytes:
        """Return the whole with other nodes; the same nodes always give the same bytes."""
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        return bytes(self.proto.SerializeToString(deterministic=True))
