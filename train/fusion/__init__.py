"""How tasks share the network: from a picture to the vector that each task's head reads.

One file a family, picked by the recipe's keys `fusion` (what is shared between tasks) and `maps`
(hand-made features beside the learnt ones). `hard` is the default, because everything else is paid
for on the device, at every look. In multiply-accumulates against `hard`, for two tasks on
EfficientNet-Lite0 at 128 pixels (`benchmarks/fusion_cost.py` counts any other):

- `hard`: one trunk, one embedding. 1.00.
- `attention`: one trunk; each task masks its maps. 1.11, growing with the tasks.
- `mmoe`, `cgc`: one trunk, then experts that each task weighs. 1.00.
- `cross_stitch`: a trunk for each task, mixed after every stage. 2.00, once a task.
- maps: 1.02 for edges alone to 1.20 for all of them, early.

All of them are wholly integer in INT8: convolutions, ReLU6, sums and products of two maps, and one
softmax over four numbers. Where a fusion gives each task an embedding of its own, the device gets
them one after the other.

Missing labels need nothing here: a row without a label has no loss, so nothing flows back from it.
"""

from train.backbones import Backbone
from train.fusion.attention import TaskAttention
from train.fusion.cross_stitch import CrossStitch
from train.fusion.early import WithEarlyMaps
from train.fusion.experts import GatedExperts, SharedAndOwnExperts
from train.fusion.hard import HardSharing
from train.fusion.late import LateMaps
from train.fusion.maps import MAPS
from train.fusion.sharing import Embed, Fused, Fusion, MakeFusion, Pretrained, Seen
from train.recipe import Recipe
from train.registry import Registry
from transom.tasks import TaskSet

__all__ = ["FUSIONS", "MAPS", "Embed", "Fused", "Fusion", "MakeFusion", "Seen", "build_fusion"]

FUSIONS: Registry[MakeFusion] = Registry("fusion")
FUSIONS.add("hard", HardSharing)
FUSIONS.add("attention", TaskAttention)
FUSIONS.add("cross_stitch", CrossStitch)
FUSIONS.add("mmoe", GatedExperts)
FUSIONS.add("cgc", SharedAndOwnExperts)


def build_fusion(
    recipe: Recipe, backbone: Backbone, tasks: TaskSet, *, pretrained: Pretrained
) -> Fusion:
    """Build what lies between the picture and the heads.

    Args:
        recipe: Names the fusion and the maps.
        backbone: Of the trunk or trunks.
        tasks: What shares.
        pretrained: Where trunks start (see `Backbone.trunk`).

    Raises:
        ConfigurationError: A name is unknown, a package with weights is not installed, or the
            embedding is too short.
    """
    make = FUSIONS[recipe.fusion]
    if recipe.maps and recipe.maps_fusion == "late":
        return LateMaps(
            make, backbone, tasks, recipe.maps, embedding=recipe.embedding, pretrained=pretrained
        )
    if recipe.maps:
        backbone = WithEarlyMaps(**vars(backbone), maps=recipe.maps)
    return make(backbone, tasks, embedding=recipe.embedding, pretrained=pretrained)
