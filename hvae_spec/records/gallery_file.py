"""The gallery of a record: latents and images for its figures. No torch here, so that they are drawn without it.

In the folder of an evaluation, arrays by name (float32, labels int64):

    latents/<i>      [N, U_i]   one sample z_i of z ~ q(z|x) for each of the first N test images, i = 1 ... L
    labels           [N]        the classes of these images, int64
    images           [n, D]     the first n of these images, as drawn for the test set
    reconstructions  [n, D]     E[x|z_1] for their samples
    prior_samples    [S, D]     E[x|z_1] for z drawn from the prior, top down
    injected/<i>     [n, 8, D]  E[x|z_1] for z_i* ~ N(0, I) injected at layer i and p below it, i = 1 ... L; for
                                 i = L, z_L is a sample of the prior, also of a learned one

With skip connections E[x|z_1] is E[x|z_1, ..., z_L].
"""

from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from hvae_spec.errors import RecordError, as_machine_error
from hvae_spec.records.files import sha256_of
from hvae_spec.records.layout import GALLERY, EvaluationRecord, Record

ONCE = ("labels", "images", "reconstructions", "prior_samples")
"""Arrays that are there once."""
EACH_LAYER = ("latents", "injected")
"""Arrays that are there for each layer."""


def load_gallery(folder: str | Path) -> dict[str, NDArray[Any]]:
    """The gallery of an evaluation, arrays by name.

    Args:
        folder: of the evaluation, or of a member's record, which stands for its latest evaluation.

    Raises:
        RecordError: the record has none (its member has not finished, or it is of a version that kept none), or it is
            damaged.
        MachineError: the system does not let it be read.

    """
    path = Path(folder) / GALLERY
    try:
        if not path.exists():
            # A member's folder: that of its latest evaluation.
            evaluations = Record(Path(folder)).evaluations
            path = evaluations[-1].folder / GALLERY if evaluations else path
        evaluation = EvaluationRecord(path.parent)
        result = evaluation.result
        content = path.read_bytes()
        sha256 = None if result is None else result.arrays_sha256.get(GALLERY)
        if sha256 is not None and sha256_of(content) != sha256:
            raise RecordError(f"{path}: damaged (its SHA-256 is not the one in the record); {evaluation.again}")
        arrays: dict[str, NDArray[Any]] = safetensors.numpy.load(content)
    except FileNotFoundError:
        raise RecordError(
            f"{path}: no gallery; the member has not finished, or diverged, or has q(y|x) alone "
            "(objective.classification: only), or its record is of an earlier version (0.2 or before; load it with "
            "that version)"
        ) from None
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        damage = RecordError(f"{path}: not a gallery that can be read ({error}); {EvaluationRecord(path.parent).again}")
        raise as_machine_error(path, error) or damage from None
    depth = sum(name.startswith("latents/") for name in arrays)
    expected = {*ONCE, *(f"{name}/{layer}" for name in EACH_LAYER for layer in range(1, max(1, depth) + 1))}
    if missing := sorted(expected - arrays.keys()):
        remedy = EvaluationRecord(path.parent).again
        raise RecordError(f"{path}: not a gallery (it lacks {', '.join(missing)}); {remedy}")
    return arrays
