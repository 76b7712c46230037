"""Folders of image files: what the names of folders mean, and that an image is read as it is or refused."""

import os
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from hvae_spec.data.counts import image_counts
from hvae_spec.data.dataset import load_dataset
from hvae_spec.data.formats.image_file import gray_values
from hvae_spec.errors import DataError
from hvae_spec.spec.data import DataSpec

GRAY = np.random.default_rng(0).integers(0, 256, (20, 6, 4), dtype=np.uint8)
PICTURE = Image.fromarray(GRAY[0])
WIDE_TRAIN, WIDE_TEST = ("".join(chr(ord(letter) + 0xFEE0) for letter in name) for name in ("train", "test"))
"""Names in letters of full width."""


def own(path, **more):
    return DataSpec.model_validate({"dataset": "own", "own": {"name": "mine", "file": str(path), **more}})


def pictures(folder, numbers):
    """Images GRAY[number] in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(GRAY[number]).save(folder / f"{number:02d}.png")


def loaded(path):
    dataset = load_dataset(own(path))
    assert image_counts(own(path)) == (24, len(dataset.train), len(dataset.test))
    return dataset


def flat(numbers):
    return GRAY[list(numbers)].reshape(-1, 24)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Train", "Test"),
        ("TRAIN", "test"),
        ("train ", " test"),
        (WIDE_TRAIN, WIDE_TEST),
    ],
)
def test_parts_are_known_whatever_their_case_width_and_blanks(tmp_path, train, test):
    pictures(tmp_path / train / "cat", range(4))
    pictures(tmp_path / train / "dog", range(4, 7))
    pictures(tmp_path / test / "dog", range(7, 9))
    dataset = loaded(tmp_path)
    assert np.array_equal(dataset.train, flat(range(7)))
    assert np.array_equal(dataset.test, flat(range(7, 9)))
    assert dataset.found[:3] == (
        f"test set: the folder {test}/",
        "classes (training + test images): cat (4 + 0), dog (3 + 2)",
        "classes without test images: cat",
    )


def test_loose_images_beside_a_test_folder_are_the_training_images(tmp_path):
    pictures(tmp_path, range(5))
    pictures(tmp_path / "Test", range(5, 8))
    dataset = loaded(tmp_path)
    assert np.array_equal(dataset.train, flat(range(5)))
    assert np.array_equal(dataset.test, flat(range(5, 8)))


CLASSES = [
    ("training_shoes", "testing_kits"),
    ("dev_board", "test_board"),
    ("train_a", "train_b"),
    ("strain", "contest"),
    ("train/train", "train/test", "train/bus", "train/car", "train/exam"),
]


@pytest.mark.parametrize("names", CLASSES)
def test_classes_that_only_sound_like_parts_are_classes(tmp_path, names):
    for name in names:
        pictures(tmp_path / name, range(5))
    found = loaded(tmp_path).found[1]
    expected = ", ".join(f"{name} (4 + 1)" for name in sorted(name.rpartition("/")[2] for name in names))
    assert found == f"classes (training + test images): {expected}"


def test_folders_without_images_are_counted_wherever_they_are(tmp_path):
    pictures(tmp_path / "train" / "cat", range(5))
    pictures(tmp_path / "test" / "cat", range(5, 8))
    pictures(tmp_path / "test" / "cat" / "deep" / ".hidden", [9])
    (tmp_path / "val").mkdir()
    (tmp_path / "train" / "dog").mkdir()
    assert loaded(tmp_path).found[2] == "passed over: 3 empty folders"


def test_what_is_hidden_is_passed_over_and_counted(tmp_path):
    pictures(tmp_path / "cat", range(5))
    pictures(tmp_path / "dog", range(5, 10))
    pictures(tmp_path / ".ipynb_checkpoints", range(3))
    pictures(tmp_path / "__MACOSX", range(3))
    pictures(tmp_path / "cat" / ".ipynb_checkpoints" / "deeper", range(3))
    (tmp_path / "bird").mkdir()
    for name in (".DS_Store", "Thumbs.db", "cat/._00.png", "labels.csv", "README"):
        (tmp_path / name).write_bytes(b"")
    dataset = loaded(tmp_path)
    assert np.array_equal(np.concatenate([dataset.test, dataset.train]), flat([0, 5, 1, 2, 3, 4, 6, 7, 8, 9]))
    assert dataset.found == (
        "test set: every fifth of the images, as no others are set apart",
        "classes (training + test images): cat (4 + 1), dog (4 + 1)",
        "passed over: 3 hidden files, 3 hidden folders, 1 other file, 1 .csv file, 1 empty folder",
    )


def _both(folder):
    pictures(folder / "train", [0])
    pictures(folder / "Train", [1])


def _beside(name, *more):
    def make(folder):
        pictures(folder / "train", range(5))
        for other in (name, *more):
            pictures(folder / other, [7])

    return make


def _alone(*names):
    def make(folder):
        for number, name in enumerate(names):
            pictures(folder / name, [number])

    return make


def _unread(name):
    """A part or a folder of which the only image is in a format that is not read."""

    def make(folder):
        pictures(folder / "train", range(5)) if name == "val" else pictures(folder / "train/cat", range(5))
        pictures(folder / "test", range(5, 8))
        (folder / name).mkdir(parents=True)
        (folder / name / "c.heic").write_bytes(b"")

    return make


def _linked(folder):
    """An image two links below a class."""
    pictures(folder / "train" / "cat", range(5))
    pictures(folder.parent / f"{folder.name}-elsewhere", [7])
    (folder / "train" / "cat" / "d").mkdir()
    (folder / "train" / "cat" / "d" / "back").symlink_to(folder / "train" / "cat" / "d")
    (folder / "train" / "cat" / "d" / "l").symlink_to(folder.parent / f"{folder.name}-elsewhere")


REFUSED = [
    *(
        (_alone(*names), f"{names[1]}: beside {names[0].rpartition('/')[2]!r}, so the two look like parts")
        for names in (
            ("mnist_train", "mnist_test"),
            ("mnist-Train", "mnist test", "notes"),
            ("train_a", "test_a"),
            ("trainA", "testA", "trainB", "testB"),
            ("cats train 1", "cats test 2"),
            ("mnist_train", "mnist_val"),
            ("train/train", "train/test"),
            ("train/train", "train/test", "train/unlabeled"),
            ("train/mnist_training", "train/mnist_testing"),
        )
    ),
    (_alone(" val", "cat"), " val: no name of a part that is read"),
    (_unread("val"), "val: no name of a part that is read (it holds c.heic)"),
    (_unread("train/cat/deep"), "train/cat/deep/c.heic: an image too deep to be read"),
    (_linked, "train/cat/d/l/07.png: an image too deep to be read"),
    (_both, "train: beside 'Train', but there can be only one 'train'"),
    *(
        (_beside(name), f"{name}: no name of a part that is read (it holds 07.png); expected `train` and `test`")
        for name in ("val", "Validation", "VALID", "testing", "dev", "test_set")
    ),
    *(
        (_alone(name, "cat"), f"{name}: no name of a part that is read (it holds 00.png)")
        for name in ("training", "Testing", "val", "train-images", "test1")
    ),
    (_beside("cat"), "cat: beside 'train', but part of neither (it holds 07.png)"),
    (_beside("."), "07.png: an image beside 'train' that belongs to no part"),
    (_alone("test", "cat"), "cat: beside 'test', but part of neither"),
    (_alone("test"), "no images in it"),
    (_alone(".", "cat"), "00.png: an image beside folders of classes ('cat'), of which it is in none"),
    (_alone("train", "train/cat"), "train/00.png: an image beside folders of classes ('cat')"),
    (_alone("a/b", "c"), "a/b/00.png: an image too deep to be read"),
    (_alone("train/a/b/c/d", "test"), "train/a/b/c/d/00.png: an image too deep to be read"),
    (_alone("galaxies/train/a", "galaxies/test/a"), "an image too deep to be read"),
    (lambda folder: (pictures(folder / "train", range(5)), (folder / "test").mkdir()), "test: no images in it"),
    (lambda folder: pictures(folder / "train" / ".hidden", range(5)), "train: no images in it"),
    (
        lambda folder: (pictures(folder, range(5)), (folder / "a.heic").write_bytes(b"x")),
        "a.heic: images of this format",
    ),
    (lambda folder: (pictures(folder, range(5)), os.mkfifo(folder / "a.png")), "a.png: expected an image file"),
    (
        lambda folder: (pictures(folder, range(5)), (folder / "a.png").symlink_to("/dev/zero")),
        "a.png: expected an image",
    ),
    (lambda folder: (pictures(folder, range(5)), (folder / "a.png").symlink_to("nowhere")), "a.png: expected an image"),
    (lambda folder: (pictures(folder, range(5)), (folder / "a").symlink_to("a")), "cannot be read (Too many levels"),
    (lambda folder: (pictures(folder, range(5)), (folder / "a").symlink_to(folder)), "an image too deep to be read"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_could_be_meant_in_two_ways_is_refused(tmp_path, make, words):
    make(tmp_path)
    for use in (image_counts, load_dataset):
        with pytest.raises(DataError) as caught:
            use(own(tmp_path))
        assert words in str(caught.value)
        assert str(tmp_path) in str(caught.value)


def test_links_to_images_and_to_folders_of_classes_are_followed(tmp_path):
    pictures(tmp_path / "all", range(10))
    (tmp_path / "chosen" / "loose").mkdir(parents=True)
    for number in range(5):
        (tmp_path / "chosen" / "loose" / f"{number}.png").symlink_to(tmp_path / "all" / f"{number:02d}.png")
    (tmp_path / "chosen" / "whole").symlink_to(tmp_path / "all")
    assert image_counts(own(tmp_path / "chosen")) == (24, 12, 3)
    assert len(loaded(tmp_path / "chosen").train) == 12


def test_the_shape_of_a_folder_is_that_of_its_images(tmp_path):
    pictures(tmp_path, range(5))
    assert load_dataset(own(tmp_path, shape=[6, 4])).shape == (6, 4)
    for shape in ([4, 6], [2, 2]):
        for use in (image_counts, load_dataset):
            with pytest.raises(
                DataError, match=rf"have 6 x 4 pixels, not the {shape[0]} x {shape[1]} of data.own.shape"
            ):
                use(own(tmp_path, shape=shape))


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, bits, color, row, more=b""):
    """A PNG file of equal rows."""
    start = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress((b"\0" + row) * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + more + rows + chunk(b"IEND", b"")


def tiff(bits, samples, pixel, photometric=2):
    """A TIFF file of one pixel."""
    end = 8 + 2 + 9 * 12 + 4
    depth = struct.pack(f"<{samples}H", *[bits] * samples)
    at = depth.ljust(4, b"\0") if samples < 3 else struct.pack("<I", end)
    rest = depth if samples > 2 else b""
    tags = [(256, 1, 1), (257, 1, 1), (258, samples, at), (259, 1, 1), (262, 1, photometric)]
    tags += [(273, 1, end + len(rest)), (277, 1, samples), (278, 1, 1), (279, 1, len(pixel))]
    entries = [
        struct.pack("<HHI", tag, 3, count) + (value if isinstance(value, bytes) else struct.pack("<HH", value, 0))
        for tag, count, value in tags
    ]
    return b"II*\0" + struct.pack("<IH", 8, 9) + b"".join(entries) + bytes(4) + rest + pixel


def samples(count, photometric, extra, sample_format=1):
    """A TIFF file of one pixel of samples of 8 bits, which are 0, 100, 100, ..., of which some are extra ones."""
    tags = {256: (1,), 257: (1,), 258: (8,) * count, 259: (1,), 262: (photometric,), 273: (0,), 277: (count,)}
    tags |= {278: (1,), 279: (count,), 338: extra, 339: (sample_format,) * count}
    tags = {tag: values for tag, values in tags.items() if values}
    end = 8 + 2 + len(tags) * 12 + 4
    entries, rest = b"", b""
    for values in tags.values():
        rest += struct.pack(f"<{len(values)}H", *values) if len(values) > 2 else b""
    tags[273] = (end + len(rest),)
    at = end
    for tag, values in tags.items():
        packed = struct.pack(f"<{len(values)}H", *values)
        entries += struct.pack("<HHI", tag, 3, len(values))
        entries += packed.ljust(4, b"\0") if len(values) <= 2 else struct.pack("<I", at)
        at += len(packed) if len(values) > 2 else 0
    start = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return start + rest + bytes([0, *[100] * (count - 1)])


def premultiplied(opacity):
    """A gray TIFF of one pixel, 100, multiplied by its opacity."""
    return samples(2, 1, (1,))[:-2] + bytes([100, opacity])


def saved(path, image, **options):
    image.save(path, **options)
    return path


def written(path, content):
    path.write_bytes(content)
    return path


INK = Image.merge("RGBA", [*[Image.new("L", PICTURE.size)] * 3, PICTURE])
FRAMES = {"save_all": True, "append_images": [ImageOps.invert(PICTURE).convert("RGB")]}
LOSSY = [
    (lambda p: saved(p / "a.png", INK), "partly transparent"),
    (lambda p: saved(p / "a.tif", INK), "partly transparent"),
    (lambda p: saved(p / "a.webp", INK, lossless=True), "partly transparent"),
    (lambda p: saved(p / "a.bmp", INK), "partly transparent"),
    (lambda p: written(p / "a.tif", premultiplied(128)), "partly transparent"),
    (lambda p: written(p / "a.tif", samples(4, 2, (0,))), "4 channels, of which only 3 could be read"),
    (lambda p: written(p / "a.tif", samples(2, 1, (0,))), "2 channels, of which only 1 could be read"),
    (lambda p: written(p / "a.tif", samples(5, 2, (0, 0))), "5 channels, of which only 3 could be read"),
    (lambda p: written(p / "a.tif", samples(1, 1, (), 2)), "not whole numbers without a sign"),
    (lambda p: written(p / "a.pgm", b"P5 2 1 255\n\1\2" * 3), "several frames or pages"),
    (lambda p: written(p / "a.pgm", b"P5 2 1 15\n\1\2" * 2), "several frames or pages"),
    (lambda p: written(p / "a.ppm", b"P6 1 1 255\n\1\2\3" * 2), "several frames or pages"),
    (lambda p: written(p / "a.pbm", b"P4 9 2\n\1\2\3\4" * 2), "several frames or pages"),
    (lambda p: written(p / "a.pgm", b"P2 2 1 255\n1 2\n" * 2), "several frames or pages"),
    (lambda p: saved(p / "a.png", INK.convert("LA")), "partly transparent"),
    (lambda p: saved(p / "a.png", PICTURE.quantize(16), transparency=b"\0" + b"\xff" * 15), "partly transparent"),
    (lambda p: saved(p / "a.gif", PICTURE.convert("P"), transparency=int(GRAY[0, 0, 0])), "partly transparent"),
    (lambda p: saved(p / "a.png", PICTURE, transparency=int(GRAY[0, 0, 0])), "partly transparent"),
    (
        lambda p: saved(p / "a.png", PICTURE.convert("RGB"), transparency=(int(GRAY[0, 0, 0]),) * 3),
        "partly transparent",
    ),
    (lambda p: written(p / "a.png", png(4, 1, 2, 0, b"\x1b", chunk(b"tRNS", b"\0\3"))), "partly transparent"),
    (lambda p: saved(p / "a.gif", PICTURE.convert("RGB"), **FRAMES), "several frames or pages"),
    (lambda p: saved(p / "a.png", PICTURE.convert("RGB"), **FRAMES), "several frames or pages"),
    (lambda p: saved(p / "a.webp", PICTURE.convert("RGB"), **FRAMES), "several frames or pages"),
    (lambda p: saved(p / "a.tif", PICTURE.convert("RGB"), **FRAMES), "several frames or pages"),
    (lambda p: saved(p / "a.jpg", PICTURE.convert("RGB"), format="MPO", **FRAMES), "several frames or pages"),
    (lambda p: written(p / "a.png", png(1, 1, 16, 0, b"\1\2")), "more than 8 bits"),
    (lambda p: written(p / "a.png", png(1, 1, 16, 2, b"\1\2" * 3)), "more than 8 bits"),
    (lambda p: written(p / "a.png", png(1, 1, 16, 4, b"\1\2\xff\xff")), "more than 8 bits"),
    (lambda p: written(p / "a.png", png(1, 1, 16, 6, b"\1\2" * 3 + b"\xff\xff")), "more than 8 bits"),
    (lambda p: written(p / "a.tif", tiff(16, 3, b"\1\2" * 3)), "more than 8 bits"),
    (lambda p: written(p / "a.tif", tiff(16, 1, b"\1\2", photometric=1)), "more than 8 bits"),
    (lambda p: saved(p / "a.tif", Image.fromarray(GRAY[0].astype(np.int32))), "more than 8 bits"),
    (lambda p: saved(p / "a.tif", Image.fromarray(GRAY[0].astype(np.float32))), "more than 8 bits"),
    (lambda p: written(p / "a.ppm", b"P6 1 1 1000\n" + b"\1\2" * 3), "more than 8 bits"),
    (lambda p: written(p / "a.pgm", b"P5 1 1 1000\n\1\2"), "more than 8 bits"),
    (
        lambda p: written(p / "a.png", png(4001, 4001, 8, 0, bytes(4001))),
        "more than 16,000,000 pixels; scale it down",
    ),
    (
        lambda p: written(p / "a.png", png(20_000, 20_000, 1, 0, bytes(2500))),
        "more than 16,000,000 pixels; scale it down",
    ),
    (lambda p: saved(p / "a.png", PICTURE, format="TGA"), "not an image, or damaged"),
    (lambda p: written(p / "a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not an image, or damaged"),
    (lambda p: written(p / "a.png", png(4, 4, 8, 0, b"abcd")[:-30]), "not an image, or damaged"),
    (lambda p: written(p / "a.png", png(4, 4, 8, 0, b"abcd").replace(b"IEND", b"")), "not an image, or damaged"),
]


@pytest.mark.parametrize(("make", "words"), LOSSY)
def test_an_image_that_gray_values_of_8_bits_cannot_hold_is_refused(tmp_path, make, words):
    file = make(tmp_path)
    with pytest.raises(DataError) as caught:
        gray_values(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert words in str(caught.value)


def test_a_damaged_pixel_of_a_png_is_noticed_by_its_checksum(tmp_path):
    file = saved(tmp_path / "a.png", PICTURE, compress_level=0)
    content = bytearray(file.read_bytes())
    # After the type of the chunk come 2 + 5 bytes of the compressor, the kind of filter, and the first row.
    content[content.index(b"IDAT") + 4 + 2 + 5 + 1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="not an image, or damaged"):
        gray_values(file)


OPAQUE = Image.merge("RGBA", [PICTURE, PICTURE, PICTURE, Image.new("L", PICTURE.size, 255)])
EXACT = [
    *((mode, suffix) for mode in ("L", "RGB", "P") for suffix in ("png", "gif", "tif", "bmp", "webp")),
    *(("RGBA", suffix) for suffix in ("png", "tif", "webp")),
    *(("LA", suffix) for suffix in ("png", "tif")),
    ("CMYK", "tif"),
]


@pytest.mark.parametrize(("mode", "suffix"), EXACT)
def test_opaque_images_are_read_exactly_in_every_mode(tmp_path, mode, suffix):
    image = OPAQUE if mode == "RGBA" else PICTURE.convert(mode)
    options = {"lossless": True} if suffix == "webp" else {}
    assert np.array_equal(gray_values(saved(tmp_path / f"a.{suffix}", image, **options)), GRAY[0])


def test_what_could_be_more_but_is_not_is_read_exactly(tmp_path):
    assert gray_values(written(tmp_path / "a.tif", premultiplied(255))).tolist() == [[100]]
    assert np.array_equal(gray_values(saved(tmp_path / "opaque.bmp", OPAQUE)), GRAY[0])
    content = bytearray((tmp_path / "opaque.bmp").read_bytes())
    content[-PICTURE.width * PICTURE.height * 4 + 3 :: 4] = bytes(PICTURE.width * PICTURE.height)
    assert np.array_equal(gray_values(written(tmp_path / "unused.bmp", content)), GRAY[0])
    assert gray_values(written(tmp_path / "a.pgm", b"P5 2 1 255\n\1\2\n")).tolist() == [[1, 2]]
    assert gray_values(written(tmp_path / "a.pbm", b"P4 9 1\n\0\x80")).tolist() == [[255] * 8 + [0]]
    assert gray_values(written(tmp_path / "plain.pgm", b"P2 2 1 255\n1 # P2\n2\n")).tolist() == [[1, 2]]


def test_gray_values_of_few_bits_are_spread_over_all(tmp_path):
    assert gray_values(written(tmp_path / "a.png", png(4, 1, 2, 0, b"\x1b"))).tolist() == [[0, 85, 170, 255]]
    unused = png(4, 1, 2, 0, b"\x1a", chunk(b"tRNS", b"\0\3"))
    assert gray_values(written(tmp_path / "b.png", unused)).tolist() == [[0, 85, 170, 170]]
    assert gray_values(written(tmp_path / "a.pgm", b"P5 2 1 15\n\x0f\x05")).tolist() == [[255, 85]]
    assert gray_values(written(tmp_path / "a.pbm", b"P1 2 1\n 1 0\n")).tolist() == [[0, 255]]
    assert gray_values(saved(tmp_path / "c.png", PICTURE.convert("1"))).max() == 255
    assert gray_values(written(tmp_path / "white_is_zero.tif", tiff(8, 1, b"\7", photometric=0))).tolist() == [[248]]


def test_colors_become_their_luma_and_jpeg_of_four_inks_too(tmp_path):
    color = Image.new("RGB", (16, 16), (200, 100, 50))
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert gray_values(saved(tmp_path / "a.png", color))[0, 0] == luma
    for mode in ("RGB", "CMYK", "YCbCr"):
        found = gray_values(saved(tmp_path / f"{mode}.jpg", color.convert(mode), quality=100))
        assert abs(int(found[0, 0]) - luma) <= 2


UPRIGHT = {
    1: GRAY[0],
    2: GRAY[0][:, ::-1],
    3: GRAY[0][::-1, ::-1],
    4: GRAY[0][::-1],
    5: GRAY[0].T,
    6: np.rot90(GRAY[0], -1),
    7: GRAY[0][::-1, ::-1].T,
    8: np.rot90(GRAY[0]),
}


@pytest.mark.parametrize(
    "options",
    [
        {"suffix": "png"},
        {"suffix": "webp", "lossless": True},
        {"suffix": "tif"},
        {"suffix": "tif", "compression": "tiff_lzw"},
    ],
)
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_are_turned_upright(tmp_path, orientation, options):
    exif = Image.Exif()
    exif[0x112] = orientation
    for number in range(5):
        more = {key: value for key, value in options.items() if key != "suffix"}
        PICTURE.save(tmp_path / f"{number}.{options['suffix']}", exif=exif, **more)
    dataset = loaded(tmp_path)
    assert dataset.shape == UPRIGHT[orientation].shape
    assert np.array_equal(dataset.train[0].reshape(dataset.shape), UPRIGHT[orientation])


def test_a_socket_in_place_of_a_folder_is_refused(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.npy"))
        with pytest.raises(DataError, match="expected a file, but it is a socket"):
            load_dataset(own(tmp_path / "s.npy", range=[0, 255]))
