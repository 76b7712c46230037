"""`python -m hvae_spec.sample RECORD --out samples.png`: a picture of samples of a trained model."""

import argparse
import io
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hvae_spec.command import CommandParser, path_argument, run_command
from hvae_spec.errors import UserError
from hvae_spec.spec.base import LARGEST_SEED

MOST = 10_000
"""Images of one picture at most."""


@dataclass(frozen=True)
class SampleOptions:
    """What the command was asked for; `parse` says what each option means."""

    record: Path
    out: Path
    count: int
    seed: int
    layer: int | None
    device: str
    extensions: bool


def main(arguments: Sequence[str] | None = None, prog: str = "python -m hvae_spec.sample") -> int:
    """The command. Returns its exit code."""
    return run_command(lambda: _draw(parse(arguments, prog)))


def parse(arguments: Sequence[str] | None, prog: str) -> SampleOptions:
    """The options that a command line gives."""
    parser = CommandParser(
        prog=prog, description="Draw the mean of p(x|z) for samples z of a trained model's prior, as one gray PNG file."
    )
    parser.add_argument("record", type=path_argument, metavar="RECORD", help="the folder of a member, or of Model.save")
    parser.add_argument("--out", type=path_argument, required=True, metavar="FILE", help="the picture, a .png file")
    parser.add_argument(
        "--count", type=_whole(1, MOST), default=64, metavar="N", help="number of images, in a square (default: 64)"
    )
    parser.add_argument(
        "--seed", type=_whole(0, LARGEST_SEED), default=0, metavar="S", help="seed of the noise (default: 0)"
    )
    parser.add_argument(
        "--layer",
        type=_whole(1, LARGEST_SEED),
        metavar="I",
        help="inject z* ~ N(0, I) at this layer and sample the layers below it (Fig. 6b); the top layer is the prior, "
        "also where it is learned (default: the prior)",
    )
    parser.add_argument("--device", default="cpu", metavar="D", help="auto, cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--extensions",
        action="store_true",
        help="run the copies of the extensions that the record uses parts of: Python files, which may do anything",
    )
    return SampleOptions(**vars(parser.parse_args(arguments)))


def _whole(least: int, most: int) -> Callable[[str], int]:
    """What reads an option that takes a whole number."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, not {text!r}")
        return int(text)

    return read


def _draw(options: SampleOptions) -> int:
    """Write the picture. Returns the exit code.

    Raises:
        UserError: the record is not there or not trained, the model has no such layer, or `--out` is no PNG file.
        OSError: the file cannot be written.

    """
    if options.out.suffix.lower() != ".png":
        raise UserError(f"--out {options.out}: expected a file whose name ends in .png")
    if options.out.is_dir():
        raise UserError(f"--out {options.out}: a folder, not a file")
    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from hvae_spec.data.mosaic import mosaic
    from hvae_spec.model import load_record
    from hvae_spec.records.files import write_atomically
    from hvae_spec.spec.equations import image

    model = load_record(options.record, options.device, extensions=options.extensions)
    shape, layer = model.image_shape, options.layer
    images = (
        model.sample(options.count, options.seed) if layer is None else model.inject(layer, options.count, options.seed)
    )
    picture = mosaic(images.numpy(), shape, math.ceil(math.sqrt(options.count)))
    is_prior = layer is None or (layer == model.spec.model.depth and not model.spec.model.has_standard_normal_prior)
    where = "the prior" if is_prior else f"N(0, I) at layer {layer}"
    text = PngInfo()
    text.add_text("Title", f"{image(model.spec.model)} of {model.spec.label}, z from {where}, seed {options.seed}")
    text.add_text("Source", f"training {model.trained_as}")
    content = io.BytesIO()
    Image.fromarray(np.round(255 * picture).astype(np.uint8)).save(content, "PNG", pnginfo=text)
    write_atomically(options.out, content.getvalue())
    plural = "" if options.count == 1 else "s"
    sys.stdout.write(f"{options.out}: {options.count} image{plural} of {shape[0]} x {shape[1]} pixels from {where}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
