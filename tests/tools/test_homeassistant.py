"""The day that `make homeassistant` tells a real core."""

from tools.homeassistant.story import tell


def test_the_day_asks_after_entities_that_the_device_announces() -> None:
    story = tell(picture=b"")
    announced = {one["default_entity_id"] for one in story.discovery["components"].values()}
    asked = {entity for step in story.steps for entity in step.states}
    assert asked - announced == set()
