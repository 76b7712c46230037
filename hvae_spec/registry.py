"""A registry: what can be chosen, by name."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar

from hvae_spec.errors import UserError

Item = TypeVar("Item")
Registered = TypeVar("Registered")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class NameTakenError(ValueError):
    """A name that is to be registered stands for something already.

    Args:
        message: what it stands for.
        owner: the extension that it is a part of; None of a name of this package.

    """

    def __init__(self, message: str, owner: "Extension | None" = None) -> None:
        super().__init__(message)
        self.owner = owner


@dataclass(frozen=True)
class Extension:
    """A Python file of a user's own, of which parts of the language are (see `hvae_spec.extensions`)."""

    path: Path
    """Where it lies."""
    content: bytes
    """What it holds."""
    sha256: str
    """Of the content, in hexadecimal."""

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name


class RecordedName(str):
    """The name of a part of an extension, as a record that was read without its code has it: what is looked up by it is
    of the version of the file that the record names, whatever else has that name.
    """

    sha256: str
    """Of the file, in hexadecimal."""

    @classmethod
    def of(cls, name: str, sha256: str) -> "RecordedName":
        """The name in a version."""
        found = cls(name)
        found.sha256 = sha256
        return found


_RUNNING: ContextVar[Extension | None] = ContextVar("running extension", default=None)
"""Whose file runs now."""
_STANDING_IN: ContextVar[Mapping[tuple[str, str], str]] = ContextVar("stand-ins", default=MappingProxyType({}))
"""The SHA-256 of the parts that are read without their code now, by kind and name."""
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
    benchmark's plain program (`tune.bench.baseline` and the modules `baseline_...` beside it).

        >>> COLORS: Registry[str] = Registry("color")
        >>> COLORS.add("red", "#f00")
        '#f00'
        >>> list(COLORS), COLORS["red"]
        (['red'], '#f00')

    Args:
        kind: what is chosen, as messages call it.

    A part of an extension whose file has not run, as a record names it, may have a stand-in: it can be looked up, and
    not be chosen anew.

    """

    _all: ClassVar[list["Registry[Any]"]] = []

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, Item] = {}
        self._extensions: dict[str, Extension] = {}
        self._stand_ins: dict[str, dict[str, Item]] = {}
        self._all.append(self)

    def add(self, name: str, item: Item, extension: Extension | None = None) -> Item:
        """Enter an item under a new name, as a part of an extension or of this package, and return it.

        Raises:
            NameTakenError: there is one of that name.

        """
        if name in self._items:
            article = "an" if self.kind[0] in "aeiou" else "a"
            raise NameTakenError(f"there is {article} {self.kind} named {name!r} already", self._extensions.get(name))
        self._items[name] = item
        if extension is not None:
            self._extensions[name] = extension
        _forget()
        return item

    def extension(self, name: str) -> Extension | None:
        """The extension that an item is a part of; None if it is none of any."""
        return self._extensions.get(name)

    def stand_in(self, name: RecordedName, item: Item) -> None:
        """Enter what is looked up under a name of a record while its version has not run."""
        self._stand_ins.setdefault(str(name), {})[name.sha256] = item

    def recorded(self, name: object) -> RecordedName | None:
        """What a name means in what is read now, if that is a part without its code (see `standing_in`)."""
        sha256 = _STANDING_IN.get().get((self.kind, name)) if isinstance(name, str) else None
        return None if sha256 is None else RecordedName.of(str(name), sha256)

    def _remove(self, extension: Extension) -> dict[str, Item]:
        names = [name for name, owner in self._extensions.items() if owner == extension]
        for name in names:
            del self._extensions[name]
        return {name: self._items.pop(name) for name in names}

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Decorator of a class or function that is the item of this name. Raises NameTakenError as `add` does."""

        def enter(item: Registered) -> Registered:
            self.add(name, item)  # type: ignore[arg-type]
            return item

        return enter

    def __getitem__(self, name: str) -> Item:
        """The item of a name. A plain name, as a column of a frame has it, means that of one of the records.

        Raises:
            UserError: there is none.

        """
        if name in self:
            return self._items[name]
        recorded = self._stand_ins.get(name, {})
        if isinstance(name, RecordedName):
            recorded = {sha256: item for sha256, item in recorded.items() if sha256 == name.sha256}
        if not recorded:
            raise UserError(f"no {self.kind} is named {name!r}: expected one of {', '.join(self)}")
        return next(iter(recorded.values()))

    def __contains__(self, name: object) -> bool:
        if isinstance(name, RecordedName):
            extension = self._extensions.get(name)
            return extension is not None and extension.sha256 == name.sha256
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


@contextmanager
def running(extension: Extension) -> Iterator[None]:
    """Within this context, a file runs. What it has registered goes again if an exception is raised."""
    token = _RUNNING.set(extension)
    try:
        yield
    except BaseException:
        remove(extension)
        raise
    finally:
        _RUNNING.reset(token)


def running_extension() -> Extension | None:
    """Whose file runs now, if any does."""
    return _RUNNING.get()


def remove(extension: Extension) -> Callable[[], None]:
    """Take the parts of an extension out of all registries. Returns a function that puts them back."""
    removed = [(registry, registry._remove(extension)) for registry in Registry._all]
    _forget()

    def put_back() -> None:
        for registry, items in removed:
            for name, item in items.items():
                registry.add(name, item, extension)

    return put_back


def has_extensions() -> bool:
    """Whether anything is registered that is a part of an extension."""
    return any(registry._extensions for registry in Registry._all)


def parts_of(extension: Extension) -> list[tuple[str, str]]:
    """The kinds and names of what an extension has registered."""
    return [
        (registry.kind, name)
        for registry in Registry._all
        for name in registry
        if registry.extension(name) == extension
    ]


@contextmanager
def standing_in(versions: Mapping[tuple[str, str], str]) -> Iterator[None]:
    """Within this context, parts of these kinds and names are read without their code, as their stand-ins.

    Args:
        versions: the SHA-256 of their files.

    """
    token = _STANDING_IN.set(versions)
    try:
        yield
    finally:
        _STANDING_IN.reset(token)


def _forget() -> None:
    for forget in _FORGET:
        forget()
