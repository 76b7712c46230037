"""A registry: what can be chosen, by name."""

import functools
from collections.abc import Callable, Iterator
from typing import Generic, ParamSpec, TypeVar

from hvae_spec.errors import UserError

Item = TypeVar("Item")
Registered = TypeVar("Registered")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_FORGET: list[Callable[[], None]] = []
"""Called when a choice joins: what is kept by `kept_until_a_choice_joins` may be different from then on."""


def kept_until_a_choice_joins(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorator of a function whose results depend on what the registries hold, and are kept until one gets more."""
    kept = functools.cache(function)
    _FORGET.append(kept.cache_clear)
    return kept  # type: ignore[return-value]


class Registry(Generic[Item]):
    """The choices of one kind, by the name that they have in a spec and in the order in which they were added.

    A choice has an entry under the same name in several registries: its description, which needs no torch
    (`hvae_spec.spec.choices`), what it computes (`hvae_spec.nn`, `hvae_spec.training`), and its counterpart in the
    benchmark's plain program (`tune.bench.baseline`).

        >>> COLORS: Registry[str] = Registry("color")
        >>> COLORS.add("red", "#f00")
        '#f00'
        >>> list(COLORS), COLORS["red"]
        (['red'], '#f00')

    Args:
        kind: what is chosen, as messages call it.

    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, Item] = {}

    def add(self, name: str, item: Item) -> Item:
        """Enter an item under a new name, and return it.

        Raises:
            ValueError: the name is taken.

        """
        if name in self._items:
            raise ValueError(f"there is a {self.kind} named {name!r} already")
        self._items[name] = item
        for forget in _FORGET:
            forget()
        return item

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Decorator of a class or function that is the item of this name. Raises ValueError as `add` does."""

        def enter(item: Registered) -> Registered:
            self.add(name, item)  # type: ignore[arg-type]
            return item

        return enter

    def __getitem__(self, name: str) -> Item:
        """The item of a name.

        Raises:
            UserError: there is none.

        """
        try:
            return self._items[name]
        except KeyError:
            raise UserError(f"no {self.kind} is named {name!r}: expected one of {', '.join(self)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
