"""An image file as gray values of 8 bits, or the reason why it cannot be that without loss."""

import math
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from hvae_spec.data.formats.regular import LARGEST_IMAGE
from hvae_spec.errors import DataError, UserError, as_machine_error

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pbm", ".pgm", ".ppm", ".pnm")
)
"""Of the image files that are read."""
OTHER_SUFFIXES = frozenset(
    (".apng", ".avif", ".dcm", ".exr", ".heic", ".heif", ".ico", ".j2k", ".jp2", ".jxl", ".psd", ".svg", ".tga", ".xcf")
)
"""Of image files that are not."""
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""Pillow's names of the formats that are read."""
BITS_PER_SAMPLE, SAMPLES_PER_PIXEL, SAMPLE_FORMAT = 258, 277, 339
"""Tags of a TIFF file."""
UNSIGNED = 1
"""The format of samples that are whole numbers without a sign."""


def gray_values(file: Path) -> NDArray[np.uint8]:
    """Gray values 0 ... 255 of an image, upright, [height, width]; colors become their luma.

    Raises:
        DataError: it is no image, is damaged, or is more than that: it is partly transparent, has several frames, more
            than 8 bits per channel, or too many pixels.
        MachineError: the system does not let it be read.

    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow comments on what is refused here, or is damaged
            # Pillow maps files that it opens itself into memory, and garbles TIFF files on their side there.
            with file.open("rb") as stream, Image.open(stream, formats=FORMATS) as image:
                _check(file, image)
                if image.format == "PNG":
                    _check_png(file)
                elif image.format == "TIFF":
                    _check_tiff(file, image)
                elif image.format == "BMP":
                    _check_bmp(file, image)
                elif image.format == "PPM":
                    _check_pnm(file, image)
                with _silent() if image.format == "TIFF" else nullcontext():
                    image.load()
                _check_opaque(file, image)
                upright = ImageOps.exif_transpose(image)
                # The gray of four inks is that of the colors they make; and what was multiplied by its opacity has to
                # be divided by it before Pillow converts it to anything else.
                through = {"CMYK": "RGB", "La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)
                return np.asarray(upright.convert(through).convert("L"))
    except UserError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{file}: not an image, or damaged; save it again as a PNG of 8 bits, or remove it") from None
    except Image.DecompressionBombError:
        raise _too_large(file) from None
    except Exception as error:  # Pillow raises whatever the damage leads to
        what = " ".join(str(error).split())[:150] or type(error).__name__
        damage = DataError(f"{file}: not an image, or damaged ({what}); save it again as a PNG of 8 bits, or remove it")
        raise as_machine_error(file, error) or damage from None


@contextmanager
def _silent() -> Iterator[None]:
    """Leave out what libtiff writes to the process's stderr of damage, which Pillow raises as well."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _check(file: Path, image: Image.Image) -> None:
    """Refuse what an image's header says that cannot be read without loss, or not at all."""
    if image.width * image.height > LARGEST_IMAGE:
        raise _too_large(file)
    if getattr(image, "is_animated", False):
        raise _several_frames(file)
    if _is_deep(file, image):
        raise DataError(
            f"{file}: more than 8 bits per pixel or color channel; save it with 8 bits, or put such images into a .npy "
            "or .npz file"
        )


def _several_frames(file: Path) -> DataError:
    return DataError(f"{file}: has several frames or pages; save each as a file of its own")


def _too_large(file: Path) -> DataError:
    return DataError(f"{file}: more than {LARGEST_IMAGE:,} pixels; scale it down")


def _is_deep(file: Path, image: Image.Image) -> bool:
    """Whether a channel has more than 8 bits, which Pillow cuts without a word where there are several channels."""
    if image.mode.startswith(("I", "F")):
        return True
    if image.format == "PNG":
        return _png_bits(file) > 8
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        return max(tags.get(BITS_PER_SAMPLE, (1,))) > 8
    if image.format == "PPM" and isinstance(image, ImageFile.ImageFile):
        arguments = image.tile[0].args
        return isinstance(arguments, tuple) and isinstance(arguments[-1], int) and arguments[-1] > 255
    return False


def _check_png(file: Path) -> None:
    """Compare the checksums of a PNG file, since Pillow stops reading at the last pixel, before them."""
    with file.open("rb") as stream, Image.open(stream, formats=("PNG",)) as image:
        image.verify()


def _png_bits(file: Path) -> int:
    """Bits per channel, which follow the width and the height in the first chunk of a PNG file."""
    with file.open("rb") as stream:
        return stream.read(25)[24]


def _check_tiff(file: Path, image: Image.Image) -> None:
    """Refuse samples that Pillow leaves out, or takes for others."""
    tags: Any = getattr(image, "tag_v2", {})
    samples, kept = tags.get(SAMPLES_PER_PIXEL, 1), len(image.getbands())
    if samples > kept:
        raise DataError(
            f"{file}: {samples} channels, of which only {kept} could be read; save it as gray or RGB of 8 bits, "
            "without the others"
        )
    if set(tags.get(SAMPLE_FORMAT, (UNSIGNED,))) != {UNSIGNED}:
        raise DataError(
            f"{file}: its pixels are not whole numbers without a sign; save it with gray values from 0 to 255, or put "
            "such images into a .npy or .npz file"
        )


def _check_bmp(file: Path, image: Image.Image) -> None:
    """Refuse a transparency in the bytes of a pixel that Pillow leaves out: their meaning is not fixed, but programs
    write it there. All 0 they mean nothing, all 255 that the image is opaque.
    """
    mode, offset = _raw(image)
    if len(mode) != 4 or "X" not in mode:
        return
    with file.open("rb") as stream:
        stream.seek(offset)
        left_out = stream.read(4 * image.width * image.height)[mode.index("X") :: 4]
    if set(left_out) not in ({0}, {255}):
        raise _transparent(file)


def _check_pnm(file: Path, image: Image.Image) -> None:
    """Refuse images that follow the first: one after another, in a PBM, PGM or PPM file, they are several."""
    _, offset = _raw(image)
    with file.open("rb") as stream:
        is_plain = stream.read(2) in (b"P1", b"P2", b"P3")
        stream.seek(offset)
        if is_plain:
            # The numbers are text, in which there is a letter only in a comment or where the next image begins.
            follows = b"P" in re.sub(rb"#[^\r\n]*", b"", stream.read())
        else:
            row = math.ceil(image.width / 8) if image.mode == "1" else image.width * len(image.getbands())
            stream.seek(row * image.height, os.SEEK_CUR)
            follows = bool(stream.read().strip())
    if follows:
        raise _several_frames(file)


def _raw(image: Image.Image) -> tuple[str, int]:
    """How Pillow names the order of a pixel's bytes in a file, and where the pixels begin."""
    if not isinstance(image, ImageFile.ImageFile):
        return "", 0
    tile = image.tile[0]
    return (tile.args if isinstance(tile.args, str) else str((tile.args or ("",))[0])), tile.offset


def _transparent(file: Path) -> DataError:
    return DataError(
        f"{file}: is partly transparent, so its gray values depend on what lies behind it; flatten it onto a "
        "background (ImageMagick: mogrify -background white -flatten)"
    )


def _check_opaque(file: Path, image: Image.Image) -> None:
    """Refuse an image that is not opaque everywhere: its colors alone need not show what is to be seen."""
    if not image.has_transparency_data:
        return
    index = image.info.get("transparency")
    if image.format == "PNG" and image.mode == "L" and isinstance(index, int):
        # Pillow scales pixels of 2 and 4 bits to 8, but not the transparent gray.
        image.info["transparency"] = index * (255 // (2 ** _png_bits(file) - 1))
    opacity = image.getchannel("a") if image.mode in ("La", "RGBa") else image.convert("RGBA").getchannel("A")
    if opacity.getextrema()[0] != 255:
        raise _transparent(file)
