"""Image files that are edited come through the decoder of data sets."""

import numpy as np
import pytest
from PIL import Image

from diffusion.data.user_images import read_files, read_mask
from diffusion.runtime import bucket_path


def test_a_users_image_is_upright_and_without_transparency(tmp_path, rng):
    pixels = rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    pixels[..., 3] = 255 * (np.arange(8) % 2)
    exif = Image.Exif()
    exif[0x0112] = 8
    for name in ("a.PNG", "b.tif"):
        Image.fromarray(pixels).save(tmp_path / name, exif=exif)
    expected = np.rot90(np.where(pixels[..., 3:] > 0, pixels[..., :3], [0, 128, 255]))
    paths = [str(tmp_path / name) for name in ("a.PNG", "b.tif")]
    for fit in (False, True):
        found = read_files(paths, (8, 8, 3), label=2, fit=fit, background="#0080ff")
        assert (found.pixels == expected).all() and found.labels.tolist() == [2, 2]


def test_a_lying_photograph_has_the_size_that_it_shows(tmp_path, rng):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (4, 8), dtype=np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert read_files([str(tmp_path / "a.png")], (8, 4, 1)).pixels.shape == (1, 8, 4, 1)
    with pytest.raises(ValueError, match="4x8 pixels, but this network draws 8x4"):
        read_files([str(tmp_path / "a.png")], (4, 8, 1))


def test_an_image_of_sixteen_bits_is_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"8 bits a channel are needed; scale them to 0..255 by their real range"):
        read_files([str(tmp_path / "a.png")], (8, 8, 1), fit=True)


def test_a_mask_is_upright_too(tmp_path):
    mask = np.zeros((4, 4), np.uint8)
    mask[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(mask).save(tmp_path / "m.png", exif=exif)
    known = read_mask(str(tmp_path / "m.png"), (4, 4, 1))
    assert known[:3].all() and not known[3].any()


def test_an_image_and_a_mask_in_a_bucket_are_read(tmp_path, monkeypatch, rng):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    url = "memory://bucket/images/a.png"
    bucket_path.at(url).write_bytes((tmp_path / "a.png").read_bytes())
    assert (read_files([url], (8, 8, 1)).pixels[0, ..., 0] == pixels).all()
    assert (read_mask(url, (8, 8, 1)) == (pixels < 128)).all()
    with pytest.raises(ValueError, match=r"memory://bucket/images/b\.png: cannot be read \("):
        read_files(["memory://bucket/images/b.png"], (8, 8, 1))
    with pytest.raises(ValueError, match=r"--mask=memory://bucket/images/b\.png: there is no such file"):
        read_mask("memory://bucket/images/b.png", (8, 8, 1))
