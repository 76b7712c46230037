"""An image file as gray values of 8 bits, or the reason why it cannot be that without loss."""

import os
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
BITS_PER_SAMPLE = 258
"""The tag of a TIFF file."""


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
                with _silent() if image.format == "TIFF" else nullcontext():
                    image.load()
                _check_opaque(file, image)
                # The gray of four inks is that of the colors they make.
                upright = ImageOps.exif_transpose(image.convert("RGB") if image.mode == "CMYK" else image)
                return np.asarray(upright.convert("L"))
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
        raise DataError(f"{file}: has several frames or pages; save each as a file of its own")
    if _is_deep(file, image):
        raise DataError(
            f"{file}: more than 8 bits per pixel or color channel; save it with 8 bits, or put such images into a .npy "
            "or .npz file"
        )


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


def _check_opaque(file: Path, image: Image.Image) -> None:
    """Refuse an image that is not opaque everywhere: its colors alone need not show what is to be seen."""
    if not image.has_transparency_data:
        return
    index = image.info.get("transparency")
    if image.format == "PNG" and image.mode == "L" and isinstance(index, int):
        # Pillow scales pixels of 2 and 4 bits to 8, but not the transparent gray.
        image.info["transparency"] = index * (255 // (2 ** _png_bits(file) - 1))
    if image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        raise DataError(
            f"{file}: is partly transparent, so its gray values depend on what lies behind it; flatten it onto a "
            "background (ImageMagick: mogrify -background white -flatten)"
        )
