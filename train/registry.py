"""Parts of a training that a recipe picks by name."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from transom.errors import ConfigurationError

Item = TypeVar("Item")


class Registry(Generic[Item]):
    """Items by name, in the order they were added.

    Args:
        key: The recipe's key that picks one; errors call it so.

    Examples:
        >>> greetings = Registry[str]("greeting")
        >>> greetings.add("short", "hi")
        'hi'
        >>> greetings["short"]
        'hi'
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._items: dict[str, Item] = {}

    def add(self, name: str, item: Item) -> Item:
        """Add an item under a name that is still free, and return it.

        Raises:
            ValueError: The name is taken.
        """
        if name in self._items:
            raise ValueError(f"{self._key} {name!r} is registered twice")
        self._items[name] = item
        return item

    def named(self, name: str) -> Callable[[Item], Item]:
        """Return a decorator that adds what it decorates."""
        return lambda item: self.add(name, item)

    def __getitem__(self, name: str) -> Item:
        """Return an item.

        Raises:
            ConfigurationError: Nothing has this name.
        """
        try:
            return self._items[name]
        except KeyError:
            raise ConfigurationError(
                f"recipe: {self._key} must be one of {', '.join(self._items)}, got {name!r}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order they were added."""
        return tuple(self._items)
