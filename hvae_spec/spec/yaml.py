"""YAML text as a tree that remembers where each value stands.

Scalars follow YAML 1.2's core schema: `1e-3` is a number, `no` and `12:30` are text, and a key is always text.
Duplicate keys, tags and merge keys are refused, aliases are allowed but bounded.
"""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hvae_spec.errors import Place, Problem, SpecError, as_machine_error
from hvae_spec.spec.base import Loc
from hvae_spec.spec.characters import explanation, name, plain, plain_form, remedy
from hvae_spec.spec.suggest import closest

MAX_NODES = 20_000
MAX_DEPTH = 50
MAX_BYTES = 500_000
MAX_DIGITS = 400
_STRING = "tag:yaml.org,2002:str"
_DOUBLE_QUOTED = r""""(?:[^"\\]+|\\.)*+"""
_NOT_DOUBLE_QUOTED = r"'[^']*'|(?:^|(?<=[ \t]))#.*"
_NOT_YAML = re.compile(rf"{_DOUBLE_QUOTED}(?:\"|(?P<open>.*))|{_NOT_DOUBLE_QUOTED}")
"""What is quoted or a comment, within a line, or all that follows a double quote that the line does not close: no later
one is closed then either, and to look would take time quadratic in the line's length.
"""
_NOT_YAML_AFTER_OPEN_QUOTE = re.compile(_NOT_DOUBLE_QUOTED)


@dataclass
class Node:
    """A YAML value, its place, and for a mapping the places of its keys."""

    value: Any
    """A dict or list of `Node`, or a plain scalar."""
    place: Place
    keys: dict[str, Place] = field(default_factory=dict)
    written: str = ""
    """The characters of a plain scalar, which its value may not show: `1.10`, `12e4567`."""

    def plain(self) -> Any:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def child(self, key: str | int) -> "Node | None":
        """The value at one key or index, if there is one."""
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list) and isinstance(key, int) and 0 <= key < len(self.value):
            return self.value[key]
        return None

    def nearest(self, path: Loc) -> "Node":
        """The value at a path, or else the deepest one above it that is there."""
        node = self
        for key in path:
            child = node.child(key)
            if child is None:
                break
            node = child
        return node

    def locate(self, path: Loc) -> Place:
        """The place of the value at a path, or of the nearest value above it."""
        return self.nearest(path).place

    def locate_key(self, path: Loc) -> Place:
        """The place of the key that ends a path, or of the nearest value above it."""
        parent = self.nearest(path[:-1])
        return parent.keys.get(str(path[-1]), parent.place) if path else self.place


class _Core(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2's core schema. Notes the tags it meets, and bounds the nesting."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.tags: list[tuple[yaml.Mark, str]] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        tag = getattr(event, "tag", None)
        if tag not in (None, _STRING):
            self.tags.append((event.start_mark, str(tag).replace("tag:yaml.org,2002:", "!!")))
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=event.start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


_Core.yaml_implicit_resolvers = {}


def _resolver(tag: str, pattern: str, first: str) -> None:
    _Core.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first))


_resolver("null", r"~|null|Null|NULL|", "~nN")
_Core.yaml_implicit_resolvers.setdefault("", []).append(("tag:yaml.org,2002:null", re.compile("^$")))
_resolver("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolver("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789")
_resolver("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_resolver("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.")


class _Dumper(yaml.SafeDumper):
    """PyYAML's writer, which quotes text also where this module, but not PyYAML, would read a number (`1e3`)."""


_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *_Core.yaml_implicit_resolvers.get(first, [])]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Core.yaml_implicit_resolvers}
}


def dump(tree: Any) -> str:
    """A tree as YAML, which `parse` reads as the same tree.

    >>> print(dump({"name": "1e3", "lr": 1e-3}), end="")
    name: '1e3'
    lr: 0.001
    """
    return str(yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def inline(value: Any) -> str:
    """A value as YAML that can stand on a line, also within brackets.

    >>> print(inline(["1.0", True, "a, b", None]))
    ['1.0', true, 'a, b', null]
    """
    text = yaml.dump([value], Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return str(text).strip()[1:-1]


def _scalar(tag: str, text: str) -> Any:
    kind = tag.rsplit(":", 1)[-1]
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if kind == "float":
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _lines(text: str) -> list[str]:
    """The lines of a text as YAML counts them, without their ends. There is at least one."""
    return re.split("\r\n|[\n\r\x85\u2028\u2029]", text)


def _ends(node: Node) -> list[Place]:
    """The places of a value and of the last one within it, and so on: what a further line may have been meant for."""
    places = [node.place]
    while isinstance(node.value, dict | list) and node.value:
        node = next(reversed(node.value.values() if isinstance(node.value, dict) else node.value))
        places.append(node.place)
    return places


def _without_quotes(line: str) -> str:
    """A line with blanks in place of what is quoted or a comment."""

    def blanks(found: re.Match[str]) -> str:
        if found.groupdict().get("open") is not None:
            return _NOT_YAML_AFTER_OPEN_QUOTE.sub(blanks, found[0])
        return " " * len(found[0])

    return _NOT_YAML.sub(blanks, line)


class _Reader:
    """One source text on its way from YAML nodes to `Node` values; collects problems as it goes."""

    def __init__(self, shown: str, source: str) -> None:
        self.lines, self.source = _lines(shown), source
        self.last = max((number for number, text in enumerate(self.lines) if text), default=-1)
        self.problems: list[Problem] = []
        self.count = 0
        self.open: set[int] = set()
        self.tagged: set[int] = set()

    def place(self, line: int, column: int) -> Place:
        """A place from a line and a column that count from 0. The end of the text is shown at its last written line."""
        if line > self.last:
            line = max((number for number, text in enumerate(self.lines) if text.strip()), default=0)
            column = len(self.lines[line])
        return Place(self.source, line + 1, min(column, len(self.lines[line])) + 1, self.lines[line])

    def at(self, mark: Any) -> Place:
        return self.place(mark.line, mark.column)

    def refuse(self, mark: Any, message: str, expected: str = "", spoils: tuple[Place, ...] = ()) -> None:
        self.problems.append(Problem("unreadable", self.at(mark), message, expected, spoils=spoils))

    def find(self, character: str, node: yaml.ScalarNode) -> Place:
        """The place of a character in a scalar; that of the scalar, where the character is written as an escape."""
        start, end = node.start_mark, node.end_mark
        for line in range(start.line, min(end.line + 1, len(self.lines))):
            text = self.lines[line]
            first = start.column if line == start.line else 0
            column = text.find(character, first, end.column if line == end.line else len(text))
            if column >= 0:
                return self.place(line, column)
        return self.at(start)

    def read(self, node: yaml.Node) -> Node:
        """The node as a located value."""
        place = self.at(node.start_mark)
        self.count += 1
        if self.count > MAX_NODES:
            raise SpecError([Problem("unreadable", place, f"more than {MAX_NODES:,} values (aliases within aliases?)")])
        if id(node) in self.open:
            raise SpecError([Problem("unreadable", place, "an alias that contains itself", "a value without a loop")])
        if node.start_mark.index in self.tagged:
            return Node(None, place)
        self.open.add(id(node))
        located = self.read_open(node, place)
        self.open.discard(id(node))
        return located

    def read_open(self, node: yaml.Node, place: Place) -> Node:
        if isinstance(node, yaml.ScalarNode):
            return Node(self.read_scalar(node), place, written="" if node.style else node.value)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.read(child) for child in node.value], place)
        values: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.refuse(key_node.start_mark, "a key must be text", "a plain key", spoils=(place,))
                continue
            meant = plain(key_node.value)
            spoiled = [place] if ":" in meant else []
            if values and not key_node.style and meant.startswith(" "):
                # What looks like an indent is none, so that the key was meant to be within what stands before it.
                spoiled += _ends(next(reversed(values.values())))
            key = self.read_text(key_node, spoiled)
            if key != key_node.value and ":" in key:
                continue  # what looks like a space ends no key, so that the value is part of it
            if key == "<<":
                expected = "`base: other.yaml`, or the keys"
                self.refuse(key_node.start_mark, "YAML merge keys are not supported", expected, spoils=(place,))
            elif key in values:
                message = f"key {key!r} is given twice (first on line {keys[key].line})"
                self.refuse(key_node.start_mark, message, "each key once")
            else:
                values[key], keys[key] = self.read(value_node), self.at(key_node.start_mark)
        return Node(values, place, keys)

    def read_text(self, node: yaml.ScalarNode, spoiled: Sequence[Place] = ()) -> str:
        """The text of a scalar. If something in it is refused, it is what was meant, and nothing more is said of the
        scalar or of the places that are `spoiled` with it.
        """
        text = str(node.value)
        if text.isprintable():
            return text
        character = next(c for c in text if not c.isprintable())
        message = f"text with an unprintable character, {name(character)}"
        expected = "printable text, one line" if plain_form(character) is None else remedy(character)
        spoils = (self.at(node.start_mark), *spoiled)
        self.problems.append(Problem("unreadable", self.find(character, node), message, expected, spoils=spoils))
        return "".join(filter(str.isprintable, plain(text))).strip()

    def read_scalar(self, node: yaml.ScalarNode) -> Any:
        text, tag = self.read_text(node), node.tag
        if text != node.value and not node.style:
            tag = _Core("").resolve(yaml.ScalarNode, text, (True, False))
        if tag.endswith((":int", ":float")) and len(text) > MAX_DIGITS:
            self.refuse(node.start_mark, f"a number of {len(text):,} digits", f"at most {MAX_DIGITS} digits")
            return None
        return _scalar(tag, text)


def parse(text: str, source: str, shown: str | None = None) -> tuple[Node, list[Problem]]:
    """YAML text as located values, and the problems that leave the rest of it readable (a key given twice, a tag).

    Args:
        text: the YAML.
        source: what places call it.
        shown: the text that places quote, where it differs from `text`.

    Raises:
        SpecError: it is not YAML.

    """
    text = text.removeprefix("\ufeff")
    reader = _Reader(text if shown is None else shown, source)
    try:
        loader = _Core(text)
        node = loader.get_single_node()
        for mark, tag in loader.tags:
            reader.refuse(mark, f"tag {tag} is not allowed", "a plain value")
        reader.tagged = {mark.index for mark, _ in loader.tags}
        return (reader.read(node) if node is not None else Node(None, reader.place(0, 0))), reader.problems
    except yaml.MarkedYAMLError as error:
        problem = Problem("unreadable", *_syntax(error, text, reader))
    except yaml.reader.ReaderError as error:
        before = _lines(text[: error.position])
        place = reader.place(len(before) - 1, len(before[-1]))
        character = chr(error.character)
        expected = "plain text" if plain_form(character) is None else remedy(character)
        message = f"a character that YAML forbids, {character!r}, {name(character)}"
        problem = Problem("unreadable", place, message, expected)
    except yaml.YAMLError as error:
        problem = Problem("unreadable", reader.place(0, 0), f"not readable as YAML: {' '.join(str(error).split())}")
    except RecursionError:
        problem = Problem("unreadable", reader.place(0, 0), "nested too deeply")
    raise SpecError([problem])


def _syntax(error: yaml.MarkedYAMLError, text: str, reader: _Reader) -> tuple[Place, str, str]:
    """Where a syntax error is, what it is, and a remedy if one is known. What is never closed is shown where it was
    opened, and what a look-alike is to blame for, where that is.
    """
    mark = error.problem_mark or error.context_mark
    if error.context_mark and mark and mark.index >= len(text.rstrip()):
        mark = error.context_mark
    place = reader.at(mark) if mark else reader.place(0, 0)
    message = "not readable as YAML: " + ", ".join(filter(None, [error.context, error.problem]))
    message, expected = " ".join(message.split()), ""
    if "\t" in place.text[: place.column]:
        message, expected = f"{message} (a tab, U+0009)", "spaces: YAML indents with them"
    first = place.line - 1 if error.context_mark is None else min(place.line - 1, error.context_mark.line + 1)
    blamed = _look_alike(reader, max(first, 1), place)
    if blamed is None:
        return place, message, expected
    character = blamed.text[blamed.column - 1]
    return blamed, f"{message}: {explanation(character)}", remedy(character)


def _look_alike(reader: _Reader, first: int, last: Place) -> Place | None:
    """The last place, from a line on up to another place, of a character that is taken for one of YAML's; those in
    straight quotes and comments are no trouble.
    """
    for line in range(last.line, first - 1, -1):
        shown = _without_quotes(reader.lines[line - 1])
        columns = range(last.column if line == last.line else len(shown))
        found = [column for column in columns if column < len(shown) and plain_form(shown[column]) is not None]
        if found:
            return reader.place(line - 1, found[-1])
    return None


def read_text(path: Path) -> str:
    """The text of a spec file, or of a pipe that a command writes into.

    Raises:
        SpecError: there is no such file, it is not text, or it is a pipe that nothing is written into.
        MachineError: the system does not let it be read.

    """

    def fail(message: str, expected: str = "a YAML spec", suggestion: str = "") -> SpecError:
        return SpecError([Problem("unreadable", Place(str(path), 1, 1), message, expected, suggestion)])

    try:
        # A pipe is opened without waiting for a command that writes into it, and then read until that ends.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            is_pipe = stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
            os.set_blocking(stream.fileno(), True)
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = sorted(path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        names = ", ".join(str(other) for other in near[:10])
        meant = closest(path.name, [other.name for other in near])
        expected = f"a YAML spec; here are {names}" if names else "a YAML spec"
        raise fail("no such file", expected, str(path.with_name(meant)) if meant else "") from None
    except IsADirectoryError:
        raise fail("a folder, not a file") from None
    except OSError as error:
        raise as_machine_error(path, error) or fail(f"cannot be opened: {error.strerror}") from None
    except ValueError as error:
        raise fail(f"cannot be opened: {error}") from None
    if is_pipe and not content:
        raise fail("a pipe that nothing is written into")
    if len(content) > MAX_BYTES:
        raise fail(f"larger than {MAX_BYTES:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = _lines(content[: error.start].decode("utf-8-sig", errors="replace"))
        place = Place(str(path), len(before), len(before[-1]) + 1)
        raise SpecError([Problem("unreadable", place, "not text in UTF-8", "a YAML spec")]) from None
