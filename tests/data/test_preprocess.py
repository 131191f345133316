"""What `--preprocess` may say, and what is no sense."""

from __future__ import annotations

import json

import pytest

from onnxcal.data.preprocess import KEYS, Preprocess, open_preprocess
from onnxcal.data.presets import PRESETS
from onnxcal.errors import UsageError
from tests.reference.refusals import refused


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_whole(name):
    made = open_preprocess(name)
    assert made.resize is not None
    assert made.mean is not None
    assert len(made.mean) == made.channels
    if made.std is not None:
        assert len(made.std) == made.channels


def test_a_file_says_the_same_in_toml_in_json_and_as_a_dict(tmp_path):
    said = {
        "resize": 40, "crop": [30, 32], "color": "gray", "scale": 255, "mean": [10], "std": 20.5, "layout": "nhwc",
        "dtype": "float16", "interpolation": "bicubic", "exif": True, "classes": ["b", "a"],
    }  # fmt: skip
    assert set(said) == set(KEYS)
    (tmp_path / "p.json").write_text(json.dumps(said))
    lines = (f"{key} = {json.dumps(value)}" for key, value in said.items())
    (tmp_path / "p.toml").write_text("\n".join(lines))
    expected = Preprocess(
        40, "bicubic", (30, 32), "grey", 255.0, (10.0,), (20.5,), "NHWC", "float16", True, ("b", "a")
    )  # fmt: skip
    for given in (said, tmp_path / "p.json", str(tmp_path / "p.toml"), expected):
        assert open_preprocess(given) == expected


def test_a_file_may_begin_with_a_preset():
    made = open_preprocess({"preset": "imagenet", "layout": "NHWC", "crop": 200})
    base = open_preprocess("imagenet")
    assert (made.resize, made.mean, made.std) == (base.resize, base.mean, base.std)
    assert (made.layout, made.crop) == ("NHWC", (200, 200))


@pytest.mark.parametrize(("preset", "color"), [("imagenet", "bgr"), ("clip", "BGR"), ("imagenet-caffe", "RGB")])
def test_mean_and_std_of_a_preset_stay_with_their_channels_when_these_turn_around(preset, color):
    made, base = open_preprocess({"preset": preset, "color": color}), open_preprocess(preset)
    assert made.mean == base.mean[::-1]
    assert made.std == (base.std and base.std[::-1])
    own = open_preprocess({"preset": preset, "color": color, "mean": [0.1, 0.2, 0.3], "scale": 1})
    assert own.mean == (0.1, 0.2, 0.3)


def test_pixels_of_uint8_stay_as_they_are_unless_said():
    assert open_preprocess({"dtype": "uint8"}).scale == 255


REFUSED = {
    "unknown key": ({"resise": 3}, "no key 'resise'", "did you mean resize?"),
    "unknown key far from any": ({"zzz": 3}, "no key 'zzz'", "there are resize"),
    "unknown preset": ({"preset": "imagenet2"}, "no preset 'imagenet2'", "did you mean imagenet?"),
    "preset of no name": ({"preset": ["imagenet"]}, "no preset", "imagenet"),
    "colour": ({"color": "RBG"}, "color is 'RBG'", "RGB, BGR or grey"),
    "layout": ({"layout": "NWHC"}, "layout is 'NWHC'", "NCHW or NHWC"),
    "dtype": ({"dtype": "int8"}, "dtype is 'int8'", "float32"),
    "dtype of no name": ({"dtype": 3}, "dtype is 3", "float32"),
    "interpolation": ({"interpolation": "area"}, "interpolation is 'area'", "bilinear"),
    "resize of nothing": ({"resize": 0}, "resize is 0", "in pixels"),
    "resize of a float": ({"resize": 2.5}, "resize is 2.5", "in pixels"),
    "resize of three": ({"resize": [1, 2, 3]}, "resize is [1, 2, 3]", "[height, width]"),
    "resize of truth": ({"resize": True}, "resize is True", "in pixels"),
    "crop beyond resize": ({"resize": 200, "crop": 224}, "crop 224×224 is larger than what resize 200", "smaller crop"),
    "crop beyond one side": ({"resize": [300, 200], "crop": 224}, "300×200", "larger resize"),
    "scale": ({"scale": 256}, "scale is 256", "255"),
    "scale of truth": ({"scale": True}, "scale is True", "255"),
    "two means": ({"mean": [1, 2]}, "mean has 2 numbers for 3 channels", "one number a channel"),
    "means of grey": ({"color": "grey", "mean": [1, 2, 3]}, "mean has 3 numbers for 1 channel", "color"),
    "mean of text": ({"mean": "0.5"}, "mean is '0.5'", "write a number"),
    "mean of nan": ({"mean": float("nan")}, "mean is nan", "write a number"),
    "std of zero": ({"std": [0.2, 0, 0.2]}, "std has a number that is not positive", "positive"),
    "mean of other pixels": ({"mean": [103.9, 116.8, 123.7]}, "mean 123.7 is larger than white, which is 1", "255"),
    "std of other pixels": ({"mean": 0, "std": 58.4}, "std 58.4 is larger than white, which is 1", "scale = 255"),
    "scale of other pixels": ({"preset": "imagenet", "scale": 255}, "mean 0.485 is of pixels from 0 to 1", "scale = 1"),
    "uint8 with mean": ({"dtype": "uint8", "mean": 0.5}, "dtype uint8", "float32"),
    "uint8 from 0 to 1": ({"dtype": "uint8", "scale": 1}, "dtype uint8", "float32"),
    "exif": ({"exif": "yes"}, "exif is 'yes'", "true or false"),
    "no list of classes": ({"classes": "cats"}, "no list of names", "sorted"),
    "classes by number": ({"classes": [1, 2]}, "no list of names", "sorted"),
    "class twice": ({"classes": ["a", "b", "a"]}, "names 'a' twice", "once"),
    "a number": (7, "type int", "preset"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nonsense_is_refused_with_what_to_write(case):
    given, said, hint = REFUSED[case]
    with refused(UsageError, said, hint=hint):
        open_preprocess(given)


def test_an_unknown_name_is_answered_with_the_nearest():
    with refused(UsageError, "no preset 'imagnet'", hint="did you mean imagenet?"):
        open_preprocess("imagnet")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.toml", "resize = ", "not readable TOML"),
        ("p.json", "{", "not readable JSON"),
        ("p.json", "[1]", "holds no keys"),
        ("p.toml", b"\xff\xfe=1", "not readable TOML"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, text, said):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with refused(UsageError, name, said):
        open_preprocess(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with refused(UsageError, "nope.toml", hint="check the path"):
        open_preprocess(tmp_path / "nope.toml")
