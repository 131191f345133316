"""From one image, in a file or open already, to an array: Pillow, and the arithmetic of `Preprocess`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxcal.data.batch import AnyArray
from onnxcal.data.preprocess import Preprocess
from onnxcal.errors import DataError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif")
)
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def require_pillow() -> None:
    """Raise UsageError if Pillow is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise UsageError("images need Pillow, which is not installed", hint="pip install 'onnxcal[images]'") from None


def read_image(path: Path, how: Preprocess) -> AnyArray:
    """One image file as an array without a batch axis, see `prepared`.

    Raises
    ------
    DataError
        The file is no image, or none that `prepared` takes.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return prepared(image, how, f"'{path}'")
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(f"'{path}' is too large an image to be safe", hint="scale it down") from None
    except Exception as error:  # each decoder fails in its own way, also with SyntaxError and struct.error
        raise DataError(f"'{path}' cannot be read as an image: {_reason(error)}", hint="mend or remove it") from None


def prepared(image: Image, how: Preprocess, name: str) -> AnyArray:
    """An image as an array (C, H, W) or (H, W, C).

    Palettes and CMYK become RGB as Pillow converts them, transparency is dropped, and of 16 bits a channel in RGB the
    upper 8 are read, all as in a loader that says `.convert("RGB")`. Of the pictures in one MPO file (telephones) the
    first counts.

    Parameters
    ----------
    image : open; its pixels need not be loaded.
    how : what to do.
    name : how messages call it.

    Raises
    ------
    DataError
        The image is animated, has more than 8 bits of grey, or is smaller than the crop.
    """
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise DataError(f"{name} has {frames} pictures in one file", hint="keep one of them, as a file of its own")
    if image.mode in _DEEP:
        raise DataError(
            f"{name} has more than 8 bits of grey (mode {image.mode}), and how they become 8 differs between libraries",
            hint="convert it to 8 bits as was done for training, or yield arrays from file.py:function",
        )
    if how.exif:
        from PIL import ImageOps

        image = ImageOps.exif_transpose(image)
    image = _cropped(_resized(_converted(image, "L" if how.color == "grey" else "RGB"), how), how, name)
    return _as_array(image, how)


def _converted(image: Image, mode: str) -> Image:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours; straight to RGB, Pillow warns
    return image if image.mode == mode else image.convert(mode)


def _resized(image: Image, how: Preprocess) -> Image:
    from PIL.Image import Resampling

    if how.resize is None:
        return image
    width, height = image.size
    if isinstance(how.resize, tuple):
        size = (how.resize[1], how.resize[0])
    elif width <= height:  # the longer side is cut to a whole number, as torchvision does
        size = (how.resize, how.resize * height // width)
    else:
        size = (how.resize * width // height, how.resize)
    return image if size == image.size else image.resize(size, Resampling[how.interpolation.upper()])


def _cropped(image: Image, how: Preprocess, name: str) -> Image:
    if how.crop is None:
        return image
    (height, width), (have_width, have_height) = how.crop, image.size
    if have_height < height or have_width < width:
        raise DataError(
            f"{name} is {have_height}×{have_width}, smaller than the crop of {height}×{width}",
            hint="resize first: write resize in the preprocess file",
        )
    top, left = round((have_height - height) / 2), round((have_width - width) / 2)
    return image.crop((left, top, left + width, top + height))


def _as_array(image: Image, how: Preprocess) -> AnyArray:
    pixels: AnyArray = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if how.color == "BGR":
        pixels = pixels[:, :, ::-1]
    if how.dtype != "uint8":
        pixels = pixels.astype(np.float32)
        if how.scale == 1:
            pixels /= np.float32(255)
        if how.mean is not None:
            pixels -= np.asarray(how.mean, np.float32)
        if how.std is not None:
            pixels /= np.asarray(how.std, np.float32)
        pixels = pixels.astype(how.dtype, copy=False)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if how.layout == "NCHW" else pixels)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if type(error).__name__ == "UnidentifiedImageError":
        return "no kind of image that Pillow knows"
    text = str(error).splitlines()
    return text[0].rstrip(".") if text else type(error).__name__
