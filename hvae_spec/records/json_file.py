"""JSON files of a results folder: each is one pydantic model, and none is read that is damaged or of another format.

All carry `format`. A file of another format is refused in one line, never guessed at. Numbers that JSON has no word for
(not a number, infinity) are null in a file. Results, which cannot be made again without training or evaluating, and the
index, from which numbers of the report are taken, have a `checksum` beside the fields of their models: the SHA-256 of
all others, so that damage which leaves a file readable is found as well.
"""

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from hvae_spec.errors import RecordError, as_machine_error
from hvae_spec.records.files import finite, sha256_of, write_json

Format = Literal[1]
FORMAT: Format = 1
CHECKSUM = "checksum"
Number = Annotated[float, Strict()] | None
Tolerance = Annotated[float, Strict(), Field(gt=0)] | None
Whole = Annotated[int, Strict()]
Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]


class FileModel(BaseModel):
    """A file, or a part of one. Fields that a later version adds are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)
    has_checksum: ClassVar[bool] = False


AnyFile = TypeVar("AnyFile", bound=FileModel)


def read_file(path: Path, kind: type[AnyFile], remedy: str) -> AnyFile | None:
    """The content of a JSON file; None if there is no such file.

    Args:
        path: the file.
        kind: what it must be.
        remedy: what would fix it if it is damaged, for the message.

    Raises:
        RecordError: the file is damaged, or of another format.
        MachineError: the system does not let it be read.

    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        fault = RecordError(f"{path}: cannot be read ({error.strerror}); {remedy}")
        raise as_machine_error(path, error) or fault from None
    try:
        found = kind.model_validate_json(content)
    except ValidationError as error:
        raise RecordError(f"{path}: {fault_of(error)}; {remedy}") from None
    if "format" not in found.model_fields_set:
        raise RecordError(f"{path}: written by an earlier version (it has no format); {remedy}")
    if kind.has_checksum and not _is_as_written(content):
        raise RecordError(f"{path}: damaged (its content is not that of its checksum); {remedy}")
    return found


def write_file(path: Path, content: FileModel) -> None:
    """Write a JSON file atomically."""
    tree = finite(content.model_dump())
    write_json(path, {**tree, CHECKSUM: _checksum(tree)} if content.has_checksum else tree)


def _checksum(tree: dict[str, Any]) -> str:
    return sha256_of(json.dumps(tree, sort_keys=True).encode())


def _is_as_written(content: bytes) -> bool:
    """Whether the content of a JSON file agrees with its checksum. Files of before there was one have none."""
    try:
        tree = json.loads(content)
        return CHECKSUM not in tree or tree.pop(CHECKSUM) == _checksum(tree)
    except (ValueError, RecursionError):  # in fields that the model passes over
        return False


KINDS = {
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "typed_dict_type"), "a mapping"),
    "string_type": "text",
    "bool_type": "true or false",
}
"""What pydantic's kinds of errors miss, in words."""


def fault_of(error: ValidationError) -> str:
    """The first thing that is wrong with a file, in words: `damaged (steps: 'a' is not a whole number)`."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "json_invalid" or (first["type"] == "model_type" and not place):
        return "damaged (not a JSON object)"
    if first["type"] == "value_error":
        return f"damaged ({first['ctx']['error']})"
    if place == "format":
        return f"written by another version (format {first['input']!r}, not {FORMAT})"
    return f"damaged ({in_words(first, place)})"


def in_words(details: Any, place: str) -> str:
    """One of pydantic's errors as `place: 'x' is not a number`, or `place is missing`."""
    if details["type"] == "missing":
        return f"{place} is missing"
    value = str(details["input"])[:60]
    shown = repr(value) if isinstance(details["input"], str) else value
    if details["type"] == "literal_error":
        return f"{place}: {shown} is not {details['ctx']['expected']}"
    kind = KINDS.get(details["type"])
    message = str(details["msg"])
    return f"{place}: {shown}: {message[0].lower()}{message[1:]}" if kind is None else f"{place}: {shown} is not {kind}"
