"""`Preprocess`: how an image becomes a model's input, said by a preset, a TOML or JSON file, or a dict."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from onnxcal.data.presets import PRESETS
from onnxcal.errors import UsageError

CHOICES: Mapping[str, tuple[str, ...]] = {
    "interpolation": ("bilinear", "bicubic", "nearest", "lanczos"),
    "color": ("RGB", "BGR", "grey"),
    "layout": ("NCHW", "NHWC"),
    "dtype": ("float32", "float16", "uint8"),
}
ALIASES = {"gray": "grey", "L": "grey"}


@dataclass(frozen=True)
class Preprocess:
    """From an image to an array: orient, convert the colour, resize, crop, scale, normalise, in this order."""

    resize: int | tuple[int, int] | None = None
    """Length of the shorter side, the other one keeps the proportion; or exactly (height, width)."""
    interpolation: str = "bilinear"
    """How `resize` interpolates: as Pillow does, with antialiasing."""
    crop: tuple[int, int] | None = None
    """(height, width) of what is cut from the middle."""
    color: str = "RGB"
    """Channels and their order. Grey is ITU-R 601 luma, as Pillow makes it; transparency is dropped."""
    scale: float = 1.0
    """What white becomes before `mean` and `std`: 1 (pixels from 0 to 1) or 255 (as they are)."""
    mean: tuple[float, ...] | None = None
    """Subtracted, one number a channel, in the units of `scale` and the order of `color`: of a preset whose colour is
    turned around, they turn with it."""
    std: tuple[float, ...] | None = None
    """Divided by after that."""
    layout: str = "NCHW"
    """Where the channels go."""
    dtype: str = "float32"
    """NumPy name of the element type; the arithmetic is float32."""
    exif: bool = False
    """Turn the image as its EXIF orientation says. torchvision and Keras, whose loaders trained most, do not."""
    classes: tuple[str, ...] | Literal["sorted", "numbers"] | None = None
    """Names of the class folders in the order of the logits; `sorted`, whatever they are; `numbers`: they are indices.
    None for the model's class names where it has them, else sorted."""

    @property
    def channels(self) -> int:
        """1 for grey, else 3."""
        return 1 if self.color == "grey" else 3


KEYS = tuple(field.name for field in fields(Preprocess))


def open_preprocess(given: Any) -> Preprocess:
    """What the user passed as `preprocess`: the name of a preset, a path of a .toml or .json file, or a dict.

    Raises
    ------
    UsageError
        There is no such preset or file, a key is not known, or a value makes no sense.
    """
    if isinstance(given, Preprocess):
        return given
    if isinstance(given, Mapping):
        return _checked(given, "preprocess")
    if not isinstance(given, (str, os.PathLike)):
        raise UsageError(
            f"preprocess of type {type(given).__name__} is not understood",
            hint="pass the name of a preset, a path of a .toml or .json file, or a dict",
        )
    text = os.fspath(given)
    if Path(text).suffix.lower() in (".toml", ".json"):
        return _checked(_read(Path(text)), f"'{text}'")
    if text not in PRESETS:
        raise UsageError(
            f"there is no preset '{text[:60]}' for --preprocess",
            hint=_nearest(text, PRESETS, "or pass a .toml or .json file"),
        )
    return _checked(PRESETS[text], f"preset '{text}'")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        loaded = json.loads(text) if path.suffix.lower() == ".json" else _toml(text)
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}", hint="check the path") from None
    except ValueError as error:  # json's, tomllib's and UnicodeDecodeError are all of this kind
        kind = path.suffix[1:].upper()
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(f"'{path}' is not readable {kind}: {reason}", hint=f"mend its {kind}") from None
    if not isinstance(loaded, dict):
        raise UsageError(f"'{path}' holds no keys", hint=f"write keys such as {', '.join(KEYS[:4])}")
    return loaded


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise UsageError(
                "a .toml file needs tomli before Python 3.11, which is not installed",
                hint="pip install 'onnxcal[images]', or write it as .json",
            ) from None
    read: dict[str, Any] = tomllib.loads(text)
    return read


def _checked(given: Mapping[str, Any], where: str) -> Preprocess:
    values = dict(given)
    if "preset" in values:
        preset = values.pop("preset")
        if not isinstance(preset, str) or preset not in PRESETS:
            raise UsageError(f"{where}: there is no preset '{preset}'", hint=_nearest(str(preset), PRESETS))
        values = {**_turned(PRESETS[preset], values), **values}
    for key in values:
        if key not in KEYS:
            raise UsageError(f"{where}: there is no key '{key}'", hint=_nearest(str(key), (*KEYS, "preset")))
    for key, choices in CHOICES.items():
        if key in values:
            values[key] = _choice(values[key], choices, f"{where}: {key}")
    channels = 1 if values.get("color") == "grey" else 3
    if values.get("resize") is not None:
        values["resize"] = _size(values["resize"], f"{where}: resize")
    if values.get("crop") is not None:
        crop = _size(values["crop"], f"{where}: crop")
        values["crop"] = (crop, crop) if isinstance(crop, int) else crop
    for key in ("mean", "std"):
        if values.get(key) is not None:
            values[key] = _per_channel(values[key], channels, f"{where}: {key}")
    values["scale"] = _scale(values.get("scale", 255 if values.get("dtype") == "uint8" else 1), where)
    if not isinstance(values.get("exif", False), bool):
        raise UsageError(f"{where}: exif is {values['exif']!r}", hint="write true or false")
    if values.get("classes") is not None:
        values["classes"] = _classes(values["classes"], where)
    made = Preprocess(**values)
    _check_together(made, where)
    return made


def _turned(preset: Mapping[str, Any], changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """A preset whose mean and std follow its channels where `changes` turns their order around."""
    orders = {"RGB", "BGR"}
    color = str(changes.get("color")).upper()
    if color not in orders or {color, preset.get("color", "RGB")} != orders:
        return preset
    return {key: value[::-1] if key in ("mean", "std") else value for key, value in preset.items()}


def _check_together(made: Preprocess, where: str) -> None:
    if made.dtype == "uint8" and (made.mean is not None or made.std is not None or made.scale != 255):
        raise UsageError(
            f"{where}: dtype uint8 holds pixels from 0 to 255 as they are, but scale, mean or std change them",
            hint='leave those three out, or write dtype = "float32"',
        )
    if made.std is not None and min(made.std) <= 0:
        raise UsageError(f"{where}: std has a number that is not positive", hint="write one positive number a channel")
    for key, numbers in (("mean", made.mean or ()), ("std", made.std or ())):
        if max(numbers, default=0) > made.scale:
            raise UsageError(
                f"{where}: {key} {max(numbers):g} is larger than white, which is {made.scale:g}",
                hint=f"write scale = 255 if {key} is of pixels from 0 to 255, else divide it by 255",
            )
    if made.scale == 255 and made.mean is not None and 0 < max(made.mean) <= 1:
        raise UsageError(
            f"{where}: mean {max(made.mean):g} is of pixels from 0 to 1, but scale is 255",
            hint="write scale = 1, or multiply mean and std by 255",
        )
    if made.crop is not None and made.resize is not None:
        sides = (made.resize, made.resize) if isinstance(made.resize, int) else made.resize
        if made.crop[0] > sides[0] or made.crop[1] > sides[1]:
            raise UsageError(
                f"{where}: crop {_shown(made.crop)} is larger than what resize {_shown(made.resize)} leaves",
                hint="write a larger resize or a smaller crop",
            )


def _choice(value: Any, choices: Sequence[str], what: str) -> str:
    value = ALIASES.get(value, value) if isinstance(value, str) else value
    for choice in choices:
        if isinstance(value, str) and value.lower() == choice.lower():
            return choice
    raise UsageError(f"{what} is {value!r}", hint=f"write {', '.join(choices[:-1])} or {choices[-1]}")


def _size(value: Any, what: str) -> int | tuple[int, int]:
    if _is_side(value):
        return int(value)
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_side, value)):
        return int(value[0]), int(value[1])
    raise UsageError(f"{what} is {value!r}", hint="write one length, or [height, width], in pixels from 1 to 16384")


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1 << 14


def _per_channel(value: Any, channels: int, what: str) -> tuple[float, ...]:
    numbers = list(value) if isinstance(value, (list, tuple)) else [value] * channels
    if any(isinstance(n, bool) or not isinstance(n, (int, float)) or not abs(n) < 1e6 for n in numbers):
        raise UsageError(f"{what} is {value!r}", hint="write a number, or one a channel")
    if len(numbers) != channels:
        raise UsageError(
            f"{what} has {len(numbers)} numbers for {channels} channel{'s' if channels > 1 else ''}",
            hint="write one number a channel; color says which channels there are",
        )
    return tuple(map(float, numbers))


def _scale(value: Any, where: str) -> float:
    if isinstance(value, bool) or value not in (1, 255):
        raise UsageError(
            f"{where}: scale is {value!r}", hint="write 1 for pixels from 0 to 1, or 255 for pixels as they are"
        )
    return float(value)


def _classes(value: Any, where: str) -> Any:
    if value in ("sorted", "numbers"):
        return value
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(name, str) for name in value):
        raise UsageError(
            f"{where}: classes is no list of names",
            hint='write names in the order of the logits, "sorted" or "numbers"',
        )
    twice = next((name for name in value if value.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{where}: classes names '{twice}' twice", hint="write each class once, in the logits' order")
    return tuple(value)


def _shown(size: int | tuple[int, int]) -> str:
    return str(size) if isinstance(size, int) else f"{size[0]}×{size[1]}"


def _nearest(word: str, known: Sequence[str] | Mapping[str, Any], more: str = "") -> str:
    near = get_close_matches(word.lower(), list(known), 1, cutoff=0.5)
    listed = f"{'there are' if not near else f'did you mean {near[0]}? There are'} {', '.join(known)}"
    return f"{listed}; {more}" if more else listed
