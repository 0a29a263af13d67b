"""The decoder: what it reads, turns upright, flattens and refuses, whoever asks."""

import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from diffusion.data.image_decoder import ALPHA, CMYK, FRAMES, PALETTE, UPRIGHT, decode, header

ORIENTATION = 0x0112


@pytest.fixture
def pixels(rng):
    """Nothing about it is symmetric."""
    return rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)


def encoded(image, form="PNG", **options) -> BytesIO:
    file = BytesIO()
    image.save(file, form, **options)
    return BytesIO(file.getvalue())


def read(file, grey=False, **options):
    return decode(BytesIO(file.getvalue()), "x", grey, **options)


def seen(file):
    return header(BytesIO(file.getvalue()), "x")


@pytest.mark.parametrize("form, options", [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_lossless_files_of_every_kind_are_read_exactly(pixels, form, options):
    file = encoded(Image.fromarray(pixels), form, **options)
    np.testing.assert_array_equal(read(file), pixels)
    assert seen(file) == (4, 6, False, frozenset())


UPRIGHT_AS = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}
"""EXIF orientation -> the upright image, by the standard's list of where row 0 and column 0 are."""


@pytest.mark.parametrize("orientation", UPRIGHT_AS)
@pytest.mark.parametrize("form, options", [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_images_are_turned_upright(pixels, form, options, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = encoded(Image.fromarray(pixels), form, exif=exif, **options)
    upright = UPRIGHT_AS[orientation](pixels)
    np.testing.assert_array_equal(read(file), upright)
    assert seen(file) == (*upright.shape[:2], False, {UPRIGHT})


def test_a_photograph_is_turned_before_it_is_cropped():
    """A tall photograph of a telephone: stored lying, the subject in what is its upper half when upright."""
    lying = np.zeros((16, 48, 3), np.uint8)
    lying[:, :16] = 200  # left of the stored image is the top of the upright one
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    file = encoded(Image.fromarray(lying), "JPEG", exif=exif, quality=100)
    assert seen(file)[:2] == (48, 16) and read(file).shape == (48, 16, 3)
    assert read(file)[:14].min() > 150 and read(file)[18:].max() < 50


@pytest.mark.parametrize("value", [0, 1, 9, 77])
def test_an_orientation_that_says_nothing_turns_nothing(pixels, value):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    file = encoded(Image.fromarray(pixels), exif=exif)
    np.testing.assert_array_equal(read(file), pixels)
    assert not seen(file).remarks


def test_damaged_metadata_do_not_make_an_image_unreadable(pixels):
    file = encoded(Image.fromarray(pixels), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(read(file), pixels)
        assert not seen(file).remarks


@pytest.mark.parametrize("background, level", [("white", 255), ("black", 0), ("#808080", 128)])
def test_transparency_shows_the_background(pixels, background, level):
    alpha = np.array([0, 255, 0, 255, 0, 255], np.uint8) * np.ones((4, 1), np.uint8)
    rgba = np.dstack([pixels, alpha])
    expected = np.where(alpha[..., None] > 0, pixels, level)
    for form, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        file = encoded(Image.fromarray(rgba), form, **options)
        np.testing.assert_array_equal(read(file, background=background), expected)
        assert seen(file).remarks == {ALPHA}


def test_half_transparent_pixels_are_mixed():
    grey_alpha = np.dstack([np.full((2, 2), 100, np.uint8), np.full((2, 2), 128, np.uint8)])
    file = encoded(Image.fromarray(grey_alpha))
    for grey in (True, False):
        assert abs(read(file, grey, background="black").astype(int) - 50).max() <= 1
        assert abs(read(file, grey, background="white").astype(int) - 177).max() <= 1
    assert seen(file).remarks == {ALPHA} and not seen(file).grey


def test_a_transparent_level_of_a_palette_or_of_grey_shows_the_background(pixels):
    palette = Image.fromarray(pixels).quantize(8)
    index = np.asarray(palette)
    file = encoded(palette, transparency=int(index[0, 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read(file, background="#0000ff")
    where = index == index[0, 0]
    assert where.any() and (found[where] == [0, 0, 255]).all()
    np.testing.assert_array_equal(found[~where], np.asarray(palette.convert("RGB"))[~where])
    assert seen(file).remarks == {ALPHA, PALETTE}
    grey = Image.fromarray(pixels[..., 0])
    file = encoded(grey, transparency=int(pixels[1, 2, 0]))
    expected = np.where(pixels[..., :1] == pixels[1, 2, 0], 255, pixels[..., :1])
    np.testing.assert_array_equal(read(file, grey=True), expected)


def test_transparent_edges_are_flattened_before_they_are_resized():
    """Resized first, the colour under transparent pixels would bleed into the image."""
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[:, 8:] = [0, 255, 0, 255]
    rgba[:, :8] = [255, 0, 0, 0]
    found = read(encoded(Image.fromarray(rgba)), size=4, background="black")
    assert found[..., 0].max() == 0


def test_palettes_and_cmyk_become_rgb(pixels):
    palette = Image.fromarray(pixels).quantize(16)
    file = encoded(palette)
    np.testing.assert_array_equal(read(file), np.asarray(palette.convert("RGB")))
    assert seen(file).remarks == {PALETTE} and not seen(file).grey
    cmyk = Image.fromarray(pixels).convert("CMYK")
    file = encoded(cmyk, "TIFF")
    np.testing.assert_array_equal(read(file), np.asarray(cmyk.convert("RGB")))
    assert seen(file).remarks == {CMYK}


def test_of_several_frames_the_first_is_read(rng):
    frames = [Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in range(3)]
    for form, options in (("TIFF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        file = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(read(file), np.asarray(frames[0]))
        assert seen(file).remarks == {FRAMES}


def test_one_and_four_bits_of_grey_fill_the_range():
    bits = np.array([[0, 1], [1, 0]], bool)
    file = encoded(Image.fromarray(bits))
    np.testing.assert_array_equal(read(file, grey=True)[..., 0], bits * 255)
    assert seen(file).grey
    four = png(4, 0, 4, bytes([0x0F, 0x80]))
    assert read(four, grey=True)[0, :, 0].tolist() == [0, 255, 136, 0]


def png(width: int, kind: int, bits: int, row: bytes) -> BytesIO:
    """A PNG file of one row, written from the specification."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return BytesIO(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize("kind, channels", [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_refused_in_grey_and_colour(kind, channels):
    """Pillow would keep the upper eight bits of colours: 12-bit data would be nearly black."""
    file = png(2, kind, 16, np.full(2 * channels, 4095, ">u2").tobytes())
    for action in (seen, read):
        with pytest.raises(ValueError, match=r"^x: its pixels are .*;16.*8 bits a channel are needed; scale them"):
            action(file)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_other_deep_images_are_refused(mode):
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    file = encoded(Image.fromarray(np.ones((2, 2), kind)), "TIFF")
    with pytest.raises(ValueError, match="8 bits a channel are needed"):
        seen(file)


def test_a_bitmap_of_five_bits_a_colour_is_no_deep_image():
    row = struct.pack("<2H", 0x7FFF, 0x001F)
    head = b"BM" + struct.pack("<IHHI", 54 + len(row), 0, 0, 54)
    about = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 0, len(row), 0, 0, 0, 0)
    assert read(BytesIO(head + about + row)).tolist() == [[[255, 255, 255], [0, 0, 255]]]
