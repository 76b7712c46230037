"""YAML text as a tree that remembers where each value stands.

Scalars follow YAML 1.2's core schema: `1e-3` is a number, `no` and `12:30` are text, and a key is always text.
Duplicate keys, tags and merge keys are refused, aliases are allowed but bounded.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from hvae_spec.errors import Place, Problem, SpecError

MAX_NODES = 100_000
MAX_BYTES = 4_000_000
_TAGS = ("null", "bool", "int", "float", "str", "seq", "map")


@dataclass
class Located:
    """A YAML value, its place, and for a mapping the places of its keys."""

    value: Any
    """A dict or list of `Located`, or a plain scalar."""
    place: Place
    keys: dict[str, Place] = field(default_factory=dict)

    def plain(self) -> Any:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def child(self, key: str | int) -> "Located | None":
        """The value at one key or index, if there is one."""
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list) and isinstance(key, int) and key < len(self.value):
            return self.value[key]  # type: ignore[no-any-return]
        return None


class _Core(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}


def _resolver(tag: str, pattern: str, first: str) -> None:
    _Core.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first))


_resolver("null", r"~|null|Null|NULL|", "~nN")
_Core.yaml_implicit_resolvers.setdefault("", []).append(("tag:yaml.org,2002:null", re.compile("^$")))
_resolver("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolver("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789")
_resolver("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_resolver("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.")


def _scalar(node: yaml.ScalarNode) -> Any:
    kind, text = node.tag.rsplit(":", 1)[-1], node.value
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if kind == "float":
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


class _Reader:
    """One source text on its way from YAML nodes to `Located` values; collects problems as it goes."""

    def __init__(self, shown: str, source: str) -> None:
        self.lines, self.source = shown.splitlines(), source
        self.problems: list[Problem] = []
        self.count = 0
        self.open: set[int] = set()

    def place(self, mark: Any) -> Place:
        line = self.lines[mark.line] if mark.line < len(self.lines) else ""
        return Place(self.source, mark.line + 1, mark.column + 1, line)

    def refuse(self, mark: Any, message: str, expected: str = "") -> None:
        self.problems.append(Problem("unreadable", self.place(mark), message, expected))

    def read(self, node: yaml.Node) -> Located:
        """The node as a located value."""
        place = self.place(node.start_mark)
        self.count += 1
        if self.count > MAX_NODES:
            raise SpecError([Problem("unreadable", place, f"more than {MAX_NODES:,} values (aliases within aliases?)")])
        if id(node) in self.open:
            raise SpecError([Problem("unreadable", place, "an alias that contains itself")])
        if node.tag.removeprefix("tag:yaml.org,2002:") not in _TAGS:
            self.refuse(node.start_mark, f"tag {node.tag} is not allowed", "a plain value")
            return Located(None, place)
        self.open.add(id(node))
        located = self.read_open(node, place)
        self.open.discard(id(node))
        return located

    def read_open(self, node: yaml.Node, place: Place) -> Located:
        if isinstance(node, yaml.ScalarNode):
            return Located(_scalar(node), place)
        if isinstance(node, yaml.SequenceNode):
            return Located([self.read(child) for child in node.value], place)
        values: dict[str, Located] = {}
        keys: dict[str, Place] = {}
        for key_node, value_node in node.value:
            if (
                not isinstance(key_node, yaml.ScalarNode)
                or key_node.tag.removeprefix("tag:yaml.org,2002:") not in _TAGS
            ):
                self.refuse(key_node.start_mark, "a key must be text", "a plain key")
                continue
            key = key_node.value
            if key == "<<":
                self.refuse(key_node.start_mark, "YAML merge keys are not supported", "`base: other.yaml`, or the keys")
            elif key in values:
                first = keys[key]
                self.refuse(
                    key_node.start_mark, f"key {key!r} is given twice (first on line {first.line})", "one value"
                )
            else:
                values[key], keys[key] = self.read(value_node), self.place(key_node.start_mark)
        return Located(values, place, keys)


def parse(text: str, source: str, shown: str | None = None) -> Located:
    """YAML text as located values. `shown` is the text that places quote, where it differs from `text`.

    Raises:
        SpecError: it is not YAML, or uses what is refused here; every problem with its place.

    """
    reader = _Reader(text if shown is None else shown, source)
    try:
        node = yaml.compose(text, Loader=_Core)
        located = reader.read(node) if node is not None else Located({}, Place(source, 1, 1))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = reader.place(mark) if mark else Place(source, 1, 1)
        message = "not readable as YAML: " + " ".join(filter(None, [error.context, error.problem]))
        if "\t" in place.text[: place.column + 1]:
            message += " (a tab: YAML indents with spaces)"
        raise SpecError([Problem("unreadable", place, message)]) from None
    except yaml.YAMLError as error:
        message = f"not readable as YAML: {' '.join(str(error).split())}"
        raise SpecError([Problem("unreadable", Place(source, 1, 1), message)]) from None
    except RecursionError:
        raise SpecError([Problem("unreadable", Place(source, 1, 1), "nested too deeply")]) from None
    except ValueError as error:
        raise SpecError([Problem("unreadable", Place(source, 1, 1), f"a value cannot be read: {error}")]) from None
    if reader.problems:
        raise SpecError(reader.problems)
    return located


def read_text(path: FilePath) -> str:
    """The text of a spec file.

    Raises:
        SpecError: there is no such file, or it is not text.

    """

    def fail(message: str, expected: str = "") -> SpecError:
        return SpecError([Problem("unreadable", Place(str(path), 1, 1), message, expected)])

    try:
        if path.stat().st_size > MAX_BYTES:
            raise fail(f"larger than {MAX_BYTES:,} bytes", "a YAML spec")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near = sorted(path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        names = ", ".join(str(other) for other in near[:10])
        raise fail("no such file", f"a YAML spec; here are {names}" if names else "a YAML spec") from None
    except IsADirectoryError:
        raise fail("a folder, not a file", "a YAML spec") from None
    except UnicodeDecodeError:
        raise fail("not text in UTF-8", "a YAML spec") from None
    except OSError as error:
        raise fail(f"cannot be opened: {error.strerror}", "a YAML spec") from None
