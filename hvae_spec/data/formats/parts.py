"""The parts of a user's own images, by the names of folders and arrays."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

PARTS = ("train", "test")
"""The parts that are read."""
_TRAINING = ("train", "training")
_OTHER = ("test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation")
_SET = ("set", "split", "data", "images")
"""What may follow the name of a part."""
_ANOTHER = re.compile(rf"({'|'.join(_TRAINING + _OTHER)})s?([ _-]?({'|'.join(_SET)}|\d+))?")
_BETWEEN_WORDS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])|(?<=[^\W\d_])(?=\d)")


def plain(name: str) -> str:
    """A name as it is compared with those of parts: without regard to case, to the width of letters, and to blanks
    around it.
    """
    return unicodedata.normalize("NFKC", name).strip().lower()


def is_another_part(name: str) -> bool:
    """Whether a folder or an array of such a name holds a part of the images, but is none of PARTS."""
    return name not in PARTS and _ANOTHER.fullmatch(plain(name)) is not None


def splits(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ only in the part that they name, one of them the training part: `mnist_train` and
    `mnist_test`, `trainA` and `testA`, `train` and `val`. Numbers do not tell names apart here.
    """
    training: dict[tuple[str, ...], list[str]] = defaultdict(list)
    others: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in names:
        words = [plain(word) for word in _BETWEEN_WORDS.split(unicodedata.normalize("NFKC", name)) if word]
        for place, word in enumerate(words):
            rest = words[:place] + words[place + 1 :]
            key = tuple(other for other in rest if other not in _SET and not other[0].isdigit())
            if word in _TRAINING:
                training[key].append(name)
            elif word in _OTHER:
                others[key].append(name)
    return [(first, second) for key, found in training.items() for first in found for second in others.get(key, ())]
