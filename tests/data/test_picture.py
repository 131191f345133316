"""From an image to an array, against the steps of a torchvision transform written apart with Pillow and torch."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from onnxcal.data.picture import read_image
from onnxcal.data.preprocess import open_preprocess
from onnxcal.errors import DataError
from tests.reference.refusals import refused

RNG = np.random.default_rng(0)


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth and coloured, so that resizing it one way or another shows."""
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4, "LA": 2}[mode]
    small = RNG.integers(0, 256, (7, 9, channels), dtype=np.uint8)
    bands = [Image.fromarray(small[:, :, i]).resize((width, height), Image.Resampling.BICUBIC) for i in range(channels)]
    return Image.merge(mode, bands)


def torchvision_like(image, *, resize, resample, crop, mean, std):
    """Resize(int), CenterCrop, ToTensor, Normalize as torchvision documents them for PIL images."""
    image = image.convert("RGB")
    w, h = image.size
    short, long = min(w, h), max(w, h)
    other = int(resize * long / short)
    image = image.resize((resize, other) if w <= h else (other, resize), resample)
    w, h = image.size
    top, left = round((h - crop) / 2.0), round((w - crop) / 2.0)
    image = image.crop((left, top, left + crop, top + crop))
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    return tensor.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None]).numpy()


@pytest.mark.parametrize("size", [(60, 41), (41, 60), (37, 37), (33, 100)], ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_an_image_is_what_torchvision_makes_of_it_to_the_last_bit(tmp_path, size, interpolation):
    image = picture(*size)
    image.save(tmp_path / "a.png")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    how = {"preset": "imagenet", "resize": 33, "crop": 28, "interpolation": interpolation}
    resample = Image.Resampling[interpolation.upper()]
    expected = torchvision_like(image, resize=33, resample=resample, crop=28, mean=mean, std=std)
    found = read_image(tmp_path / "a.png", open_preprocess(how))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_the_imagenet_preset_is_256_then_224(tmp_path):
    image = picture(300, 260)
    image.save(tmp_path / "a.png")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    expected = torchvision_like(image, resize=256, resample=Image.Resampling.BILINEAR, crop=224, mean=mean, std=std)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", open_preprocess("imagenet")), expected)


def test_exact_resizing_bgr_and_caffe_means_as_keras_does(tmp_path):
    image = picture(50, 40)
    image.save(tmp_path / "a.png")
    rgb = np.asarray(image.resize((32, 24), Image.Resampling.BILINEAR)).astype(np.float64)
    expected = rgb[..., ::-1] - [103.939, 116.779, 123.68]
    found = read_image(tmp_path / "a.png", open_preprocess({"preset": "imagenet-caffe", "resize": [24, 32]}))
    assert found.shape == (24, 32, 3)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_tf_scaling_is_from_minus_one_to_one(tmp_path):
    image = picture(20, 20)
    image.save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", open_preprocess({"preset": "inception", "resize": [20, 20]}))
    np.testing.assert_allclose(found, np.asarray(image) / 127.5 - 1, atol=3e-7)


def test_grey_is_luma_with_one_channel(tmp_path):
    image = picture(20, 16)
    image.save(tmp_path / "a.png")
    rgb = np.asarray(image).astype(np.float64)
    luma = rgb @ [0.299, 0.587, 0.114]  # ITU-R BT.601
    found = read_image(tmp_path / "a.png", open_preprocess({"color": "grey", "scale": 255}))
    assert found.shape == (1, 16, 20)
    np.testing.assert_allclose(found[0], luma, atol=1.0)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_layout_and_type_are_as_asked(tmp_path, dtype, layout):
    image = picture(8, 6)
    image.save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", open_preprocess({"dtype": dtype, "layout": layout, "scale": 255}))
    assert found.dtype == dtype
    assert found.flags.c_contiguous
    hwc = np.asarray(image)
    np.testing.assert_array_equal(found, hwc if layout == "NHWC" else hwc.transpose(2, 0, 1))


# Kinds of images


MODES = {
    "grey": lambda: picture(12, 9, "L"),
    "alpha": lambda: picture(12, 9, "RGBA"),
    "grey with alpha": lambda: picture(12, 9, "LA"),
    "cmyk": lambda: picture(12, 9, "CMYK"),
    "palette": lambda: picture(12, 9).quantize(16),
    "one bit": lambda: picture(12, 9, "L").convert("1"),
}


@pytest.mark.parametrize("kind", MODES)
def test_other_modes_become_rgb_as_pillow_converts_them(tmp_path, kind):
    image = MODES[kind]()
    path = tmp_path / ("a.tif" if kind == "cmyk" else "a.png")
    image.save(path)
    found = read_image(path, open_preprocess({"dtype": "uint8", "layout": "NHWC"}))
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


def test_of_sixteen_bits_of_colour_the_upper_eight_are_read(tmp_path):
    samples = RNG.integers(0, 1 << 16, (5, 7, 3)).astype(">u2")
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 7, 5, 16, 2, 0, 0, 0),
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in samples)),
        b"IEND": b"",
    }  # PNG, third edition, 5.3: length, type, data, CRC
    packed = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks.items())
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    found = read_image(tmp_path / "a.png", open_preprocess({"dtype": "uint8", "layout": "NHWC"}))
    np.testing.assert_array_equal(found, samples >> 8)


def test_a_palette_with_transparency_warns_of_nothing(tmp_path):
    image = picture(12, 9).quantize(16)
    image.save(tmp_path / "a.png", transparency=bytes(range(16)))
    found = read_image(tmp_path / "a.png", open_preprocess({"dtype": "uint8", "layout": "NHWC"}))
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


def test_exif_orientation_counts_only_if_asked(tmp_path):
    image = picture(12, 9)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to show
    image.save(tmp_path / "a.png", exif=exif)
    plain, turned = (
        read_image(tmp_path / "a.png", open_preprocess({"dtype": "uint8", "layout": "NHWC", "exif": asked}))
        for asked in (False, True)
    )
    np.testing.assert_array_equal(plain, np.asarray(image))
    np.testing.assert_array_equal(turned, np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_eight_bits_of_grey_are_refused(tmp_path, dtype):
    Image.fromarray((RNG.random((9, 12)) * 60000).astype(dtype)).save(tmp_path / "a.tif")
    with refused(DataError, "a.tif", "more than 8 bits", hint="8 bits"):
        read_image(tmp_path / "a.tif", open_preprocess({}))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_several_pictures_in_one_file_are_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    picture(12, 9).save(path, save_all=True, append_images=[picture(12, 9), picture(12, 9)])
    with refused(DataError, "3 pictures in one file", hint="keep one"):
        read_image(path, open_preprocess({}))


def test_the_first_picture_of_a_telephone_counts(tmp_path):
    first = picture(16, 16)
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[picture(16, 16)], quality=95)
    first.save(tmp_path / "b.jpg", quality=95)
    found, alone = (read_image(tmp_path / name, open_preprocess({})) for name in ("a.jpg", "b.jpg"))
    np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "no kind of image"), (b"no image at all", "no kind of image"), (None, "cannot be read as an image")],
    ids=["empty", "text", "cut off"],
)
def test_what_cannot_be_read_is_named(tmp_path, content, said):
    path = tmp_path / "a.png"
    picture(60, 60).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with refused(DataError, str(path), said, hint="mend or remove"):
        read_image(path, open_preprocess({}))


def test_an_image_smaller_than_the_crop_is_refused(tmp_path):
    picture(30, 20).save(tmp_path / "a.png")
    with refused(DataError, "a.png", "20×30, smaller than the crop of 24×24", hint="resize"):
        read_image(tmp_path / "a.png", open_preprocess({"crop": 24}))


def test_an_image_that_could_exhaust_memory_is_refused(tmp_path, monkeypatch):
    picture(60, 60).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with refused(DataError, "a.png", "too large", hint="scale it down"):
        read_image(tmp_path / "a.png", open_preprocess({}))
