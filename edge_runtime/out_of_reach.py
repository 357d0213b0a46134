"""Whether a configuration asks for more certainty than its other numbers allow."""

from collections.abc import Iterator

from edge_runtime.decision import surest
from transom.config import Config


def out_of_reach(config: Config) -> Iterator[str]:
    """Yield a line for each camera of which no change of state would ever be told."""
    wanted = config.decision.known_above
    for camera in config.cameras:
        highest = surest(config.decision, camera.fps)
        if highest <= wanted:
            yield (
                f"camera {camera.name}: no change would ever be told, for a state is "
                f"{highest:.5f} probable at most and known_above is {wanted:g}: lower that, or "
                "make settle_s longer, correlation_s shorter or fps smaller"
            )
