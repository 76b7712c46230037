"""What members and the levels of axes are called in titles, tables, displays and file names: `lr 3e-4`, `layers 64-32`.

A level has a short text of its own. A number, a flag and text are their own; a list or a mapping is told from the other
levels of its axis by the fields in which they differ, and the name of a named level is its text. In front of it
stands what the axis is called: the last words of its path, as many as tell it from the other axes of the grid. Names of
levels stand alone where the grid has one axis with named levels.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from hvae_spec.registry import kept_until_a_choice_joins
from hvae_spec.spec.choice import ChoiceSection
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.fields import ShortName, fields
from hvae_spec.spec.model import ModelSpec

LABELS = ("dataset", "depth", "variant", "seed")
"""Labels that every member has; all others are its places on further axes."""
GRID = "grid"
"""The label of a folder with several grids that says of which of them the other labels are."""
NONE = "none"
"""The text of null."""
LEAST, MOST = 1e-2, 1e6
"""Numbers outside of these are written with an exponent."""


def headings(axes: Iterable[str]) -> dict[str, str]:
    """What the axes of a grid are called: the last words of each path that no other one of them ends in.

    Args:
        axes: dotted paths, and names of axes with named levels. Labels of members (`LABELS`) are passed over.

    Examples:
        >>> headings(["training.optimizer.adam.lr", "training.batch_size", "width"])
        {'training.optimizer.adam.lr': 'lr', 'training.batch_size': 'batch', 'width': 'width'}

    """
    candidates = {axis: list(_headings(axis)) for axis in axes if axis not in LABELS}
    found: dict[str, str] = {}
    for axis, own in candidates.items():
        others = {*LABELS, *(text for other, texts in candidates.items() if other != axis for text in texts)}
        found[axis] = next((text for text in own if text not in others), axis)
    return found


def level_text(value: Any) -> str:
    """A level as text, without its axis: `3e-4`, `on`, `ladder`, `narrow`.

    Args:
        value: an entry of `Member.labels`, or a value of an axis. A list or a mapping has all its fields.

    Examples:
        >>> [level_text(value) for value in (0.0003, 64, 2.0, True, None, "ladder", {"adam": {"lr": 0.0003}})]
        ['3e-4', '64', '2', 'on', 'none', 'ladder', 'adam lr 3e-4']

    """
    return _text(_parts(value))


def level_label(axis: str, value: Any, among: Iterable[str] = ()) -> str:
    """A level with its axis: `lr 3e-4`, `layers 64-32`; of the only axis with named levels its name alone: `narrow`.

    Args:
        axis: a dotted path, or the name of an axis with named levels.
        value: an entry of `Member.labels`, or a value of the axis.
        among: all axes of the grid, by which the label is long enough to be told apart.

    Examples:
        >>> level_label("training.optimizer.adam.lr", 0.0003)
        'lr 3e-4'
        >>> level_label("width", "narrow")
        'narrow'
        >>> level_label("width", "narrow", among=["width", "length"])
        'width narrow'

    """
    axes = list(dict.fromkeys([*among, axis]))
    if _is_name(axis) and not any(_is_name(other) for other in axes if other != axis):
        return str(value)
    return f"{headings(axes)[axis]} {level_text(value)}"


def plain_levels(values: Sequence[Any]) -> list[Any]:
    """The values of an axis as entries of `Member.labels`: numbers, flags and texts as they are, all others as the
    text of the fields in which they differ.

    Examples:
        >>> plain_levels([[{"units": 64, "mlp": [512]}], [{"units": 64, "mlp": [256]}]])
        ['mlp 512', 'mlp 256']
        >>> plain_levels([{"adam": {"lr": 0.001, "eps": 1e-8}}, {"adam": {"lr": 0.0003, "eps": 1e-8}}, None, "none"])
        ['adam lr 1e-3', 'adam lr 3e-4', 'null', 'none']

    """
    null = NONE if NONE not in values else "null"
    plain = [null if value is None else value for value in values]
    structured = [_parts(value) for value in values if isinstance(value, list | tuple | dict)]
    taken = {level_text(value) for value in plain if not isinstance(value, list | tuple | dict)}
    order = list(dict.fromkeys(words for parts in structured for words in parts))
    varying = {words for words in order if len({parts.get(words) for parts in structured}) > 1} or set(order[:1])
    texts = [_text({words: text for words, text in parts.items() if words in varying}) for parts in structured]
    if not all(texts) or taken.intersection(texts):
        texts = [_text(parts) for parts in structured]
    found = iter(texts)
    return [next(found) if isinstance(value, list | tuple | dict) else value for value in plain]


def layers_text(values: Sequence[Any], text: Callable[[Any], str] = str) -> str | None:
    """`512,512-256,256`: the values of all layers, z_1 first, an empty list as `linear`; None if all are null. Between
    numbers that need not be whole is a comma, `1,0.25`, as a dash would read as a range.

    Args:
        values: of one field, layer by layer.
        text: how one value is written.

    """
    if all(value is None for value in values):
        return None
    if any(isinstance(value, float) for value in values):
        return ",".join(map(_scalar, values))
    return "-".join(
        ",".join(map(text, value)) or "linear" if isinstance(value, list | tuple) else text(value) for value in values
    )


def beside_inference(model: ModelSpec) -> str:
    """What names of models have of several sweeps, flows in q, an auxiliary variable and p(z_L): `+2 steps`,
    `+planar 10+vamp 500`; nothing of one sweep, of none and of N(0, I).
    """
    steps = f"+{model.sweeps} steps" if model.sweeps > 1 else ""
    chosen = (flow.model_dump(mode="json") if isinstance(flow, ChoiceSection) else flow for flow in model.flows)
    flows = "".join(dict.fromkeys(f"+{level_text(flow)}" for flow in chosen if flow is not None))
    return steps + flows + model.auxiliary_label + model.prior_label


@kept_until_a_choice_joins
def _short_names() -> dict[str, str]:
    """What fields are called by their dotted paths, where that is not their name."""
    stated = ((item.dotted, item.fact(ShortName)) for item in fields(MemberSpec))
    return {path: short.name for path, short in stated if short is not None}


def _is_name(axis: str) -> bool:
    """Whether an axis has named levels: a dotted path has a dot."""
    return "." not in axis and axis != GRID


def _headings(axis: str) -> Iterator[str]:
    """What an axis may be called, from short to long."""
    if "." not in axis:
        yield axis
        return
    parts = axis.split(".")
    path = ".".join(part for part in parts if not part.isdigit())
    words = [part.replace("_", " ") for part in parts]
    words[-1] = _short_names().get(path, words[-1])
    for place, part in enumerate(parts):
        if part.isdigit() and parts[:place] == ["model", "layers"]:
            words[place - 1 : place + 1] = ["", f"z_{int(part) + 1}"]
        elif part.isdigit():
            words[place - 1 : place + 1] = ["", f"{words[place - 1]} {part}"]
    words = [word for word in words if word]
    # Of an entry of a list, the last word alone says too little.
    least = 2 if any(part.isdigit() for part in parts) else 1
    for size in range(least, len(words) + 1):
        yield " ".join(words[-size:])


def _parts(value: Any, words: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """The text of every field of a value, by the names of the sections around it and its own."""
    if isinstance(value, dict) and value:
        found: dict[tuple[str, ...], str] = {}
        for key, inner in value.items():
            found |= _parts(inner, (*words, str(key).replace("_", " ")))
        return found
    if isinstance(value, list | tuple) and any(value) and all(isinstance(entry, dict) for entry in value):
        keys = list(dict.fromkeys(key for entry in value for key in entry))
        columns = {key: layers_text([entry.get(key) for entry in value], _scalar) or NONE for key in keys}
        # The field that comes first says what the entries are of.
        names = {key: () if place == 0 else (key.replace("_", " "),) for place, key in enumerate(keys)}
        return {(*words, *names[key]): text for key, text in columns.items()}
    if isinstance(value, list | tuple):
        return {words: ",".join(map(_scalar, value)) or "linear"}
    return {words: "" if isinstance(value, dict) else _scalar(value)}


def _scalar(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return _number(value)
    return level_text(value) if isinstance(value, list | tuple | dict) else str(value)


def _number(value: float) -> str:
    """A number, shortest first: `0.1`, `3e-4`, `2`."""
    if value and not LEAST <= abs(value) < MOST:
        return f"{Decimal(repr(value)).normalize():e}".replace("+", "")
    return repr(value).removesuffix(".0")


def _text(parts: dict[tuple[str, ...], str]) -> str:
    """`adam lr 3e-4 eps 1e-8`: fields with their texts; what the names of two in a row begin with is there once."""
    written: list[str] = []
    before: tuple[str, ...] = ()
    for words, text in parts.items():
        shared = 0
        while shared < min(len(words), len(before)) and words[shared] == before[shared]:
            shared += 1
        written += [*words[shared:], text]
        before = words[:-1]
    return " ".join(filter(None, written))
