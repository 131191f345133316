"""Inputs for the real models, made here or read from what the test environment holds; every draw is seeded.

Where the labels are known by construction (a file's type, how a page was turned, where a word begins, a photograph of
a face), they are real. Elsewhere `labels` is None, and the test draws them from the model's own logits.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from tests.real.models import fetched

Array = np.ndarray[Any, Any]

IMAGENET_MEAN, IMAGENET_STD = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])


@dataclass(frozen=True)
class Samples:
    """What a model is fed."""

    inputs: dict[str, Array]
    """By input name; samples along axis 0."""
    labels: Array | None = None
    """Real ones; None where there are none."""


def rng() -> np.random.Generator:
    """The same numbers for every model, whichever tests run."""
    return np.random.default_rng(20261122)


FILE_TYPES = {
    "python": (".py", 143),
    "c": (".c", 17),
    "css": (".css", 31),
    "csv": (".csv", 32),
    "html": (".html", 71),
    "javascript": (".js", 83),
    "markdown": (".md", 100),
    "pdf": (".pdf", 127),
    "png": (".png", 133),
    "rst": (".rst", 153),
    "svg": (".svg", 172),
    "ttf": (".ttf", 184),
}
"""Suffix, and the class index in the list that comes with magika."""
BINARY = {"pdf", "png", "ttf"}


def pieces_of_files(per_type: int = 8) -> Samples:
    """48 to 400 bytes of files that numpy, scipy, scikit-learn and matplotlib install; the label is the file's type.

    magika hardly errs on whole files; on pieces it does, and whose piece it is remains true.
    """
    random = rng()
    paths = _paths_by_suffix({suffix for suffix, _ in FILE_TYPES.values()})
    rows, labels = [], []
    for kind, (suffix, label) in FILE_TYPES.items():
        found = paths[suffix]
        for i in range(per_type if found else 0):
            content = found[i * len(found) // per_type].read_bytes()
            length = int(random.integers(48, 400))
            start = 0 if kind in BINARY else int(random.integers(0, max(1, len(content) - length)))
            piece = content[start : start + length].strip()
            if len(piece) >= 8:  # the package itself does not ask the network about less
                rows.append(_magika_row(piece))
                labels.append(label)
    assert len(rows) >= 50, "the environment has too few files"
    return Samples({"bytes": np.array(rows, np.int32)}, np.array(labels))


def _magika_row(piece: bytes) -> list[int]:
    """The first and the last 1,024 bytes, padded in the middle with 256."""
    values = list(piece[:1024])
    padding = [256] * (1024 - len(values))
    return values + padding + padding + values


def _paths_by_suffix(suffixes: set[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {suffix: [] for suffix in suffixes}
    for name in ("matplotlib", "numpy", "scipy", "sklearn"):
        spec = importlib.util.find_spec(name)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for parent, _, names in os.walk(folder):
                for file in names:
                    suffix = os.path.splitext(file)[1]
                    if suffix in found:
                        found[suffix].append(Path(parent, file))
    return {suffix: sorted(paths, key=lambda path: path.parts) for suffix, paths in found.items()}


WORDS = "the quick brown fox jumps over lazy dog while seven zebras hum quietly near old mill pond and nobody minds"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if not features.check("freetype2"):
        pytest.skip("this Pillow cannot draw text: it was built without FreeType")
    return ImageFont.load_default(size)


def lines_of_text(n: int = 160) -> Samples:
    """Noisy lines, 48 × 192 as rapidocr wants them; label 1 where the line is upside down.

    Half of them are a few letters, many of which look much the same both ways.
    """
    random = rng()
    words, letters = WORDS.split(), list("oxszHIN0169nu")
    x, labels = np.zeros((n, 3, 48, 192), np.float32), random.integers(0, 2, n)
    for i, turned in enumerate(labels):
        if i % 2:
            text = " ".join(random.choice(words, int(random.integers(1, 4))))
        else:
            text = "".join(random.choice(letters, int(random.integers(2, 6))))
        font = _font(int(random.integers(16, 30)))
        left, top, right, bottom = (int(side) for side in font.getbbox(text))
        image = Image.new("L", (right - left + 12, bottom - top + 10), 255)
        ImageDraw.Draw(image).text((6 - left, 5 - top), text, font=font, fill=0)
        if turned:
            image = image.transpose(Image.Transpose.ROTATE_180)
        width = min(192, int(np.ceil(48 * image.width / image.height)))
        grey = np.asarray(image.resize((width, 48), Image.Resampling.BILINEAR), np.float64)
        x[i, :, :, :width] = ((grey + random.normal(0, 25, grey.shape)) / 255 - 0.5) / 0.5
    return Samples({"x": x}, labels)


def pages(n: int = 96) -> Samples:
    """Noisy pages of one to eight lines, turned clockwise by label × 90°; the middle 224 × 224 pixels of each."""
    random = rng()
    words = WORDS.split()
    x, labels = np.zeros((n, 3, 224, 224), np.float32), random.integers(0, 4, n)
    for i, quarter in enumerate(labels):
        image = Image.new("L", (320, 256), 255)
        size, top = int(random.integers(9, 22)), 8
        for _ in range(int(random.integers(1, 9))):
            text = " ".join(random.choice(words, 6))
            ImageDraw.Draw(image).text((8, top), text, font=_font(size), fill=int(random.integers(0, 120)))
            top += size + int(random.integers(3, 10))
        grey = np.asarray(image, np.float64)
        grey = np.rot90((grey + random.normal(0, 30, grey.shape)).clip(0, 255), -quarter)
        top, left = (grey.shape[0] - 224) // 2, (grey.shape[1] - 224) // 2
        x[i] = _as_imagenet(grey[top : top + 224, left : left + 224] / 255)
    return Samples({"x": x}, labels)


def _as_imagenet(grey: Array) -> Array:
    """A grey picture in [0, 1] as three normalised channels."""
    return ((grey[..., None] - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)


def faces(noise: float = 0.05) -> Samples:
    """Scikit-image's 100 faces (label 1) and 100 other pictures, with noise, as mtcnn wants them: NWHC, 24 × 24."""
    grey = np.load(fetched("scikit-image/lfw_subset.npy"))
    noisy = (grey + rng().normal(0, noise, grey.shape)).clip(0, 1)
    small = [Image.fromarray((255 * a).astype(np.uint8)).resize((24, 24), Image.Resampling.BOX) for a in noisy]
    x = (np.array([np.asarray(a, np.float64).T for a in small]) - 127.5) / 128
    return Samples({"input_2": np.repeat(x[..., None], 3, axis=3).astype(np.float32)}, np.repeat([1, 0], 100))


THAI_WORDS = (
    "ผม ฉัน เขา เรา คน บ้าน รถ น้ำ กิน ข้าว ไป มา ดู อ่าน หนังสือ โรงเรียน ครู นักเรียน ทำงาน วันนี้ พรุ่งนี้ เมื่อวาน อากาศ ร้อน "
    "หนาว ดี มาก สวย แมว หมา ปลา ตลาด ซื้อ ขาย เงิน เพื่อน พ่อ แม่ ลูก เมือง ประเทศ ไทย ภาษา พูด เขียน ชอบ รัก ต้องการ และ "
    "หรือ แต่ ใน ที่ บน กับ ของ ไม่ ได้ แล้ว"
)
THAI_LETTERS = [chr(c) for c in (*range(0xE01, 0xE26), *range(0xE27, 0xE3B), *range(0xE40, 0xE4E))]
THAI_KINDS = {"ฅฉผฟฌหฮ": 3, "ะาำิีืึุู": 10, "เแโใไ": 11, "่้๊๋": 9, "์ๆฯ": 7, "ั็ๅฺํฤ": 4, " ": 5}
"""deepcut's classes of characters; what is not listed is a consonant, 1."""


def thai_characters(sentences: int = 30) -> Samples:
    """Thai words without spaces between, a character with its 20 neighbours a sample; label 1 where a word begins."""
    random = rng()
    numbers = {letter: 94 + i for i, letter in enumerate(THAI_LETTERS)} | {" ": 1}
    kinds = {letter: kind for letters, kind in THAI_KINDS.items() for letter in letters}
    characters, types, labels = [], [], []
    for _ in range(sentences):
        words = random.choice(THAI_WORDS.split(), int(random.integers(4, 12)))
        padded = " " * 10 + "".join(words) + " " * 10
        labels += [int(i == 0) for word in words for i in range(len(word))]
        for i in range(10, len(padded) - 10):
            window = padded[i + 1 : i + 11] + padded[i - 10 : i][::-1] + padded[i]
            characters.append([numbers[c] for c in window])
            types.append([kinds.get(c, 1) for c in window])
    inputs = {"input_1": np.array(characters, np.float32), "input_2": np.array(types, np.float32)}
    return Samples(inputs, np.array(labels))


def byte_pictures(n: int = 24) -> Samples:
    """Code-like noise, text, zeros and repetitions as malviz sees a program: bytes as pixels. Not labelled."""
    random = rng()
    x = np.zeros((n, 3, 224, 224), np.float32)
    for i in range(n):
        runs: list[Array] = []
        while sum(map(len, runs)) < 224 * 224:
            length, kind = int(random.integers(500, 9000)), int(random.integers(0, 4))
            pattern = random.integers(0, 256, int(random.integers(4, 64)))
            noise, text = random.integers(0, 256, length), random.integers(32, 122, length)
            runs.append((noise, text, np.zeros(length), np.resize(pattern, length))[kind])
        x[i] = _as_imagenet(np.concatenate(runs)[: 224 * 224].reshape(224, 224) / 255)
    return Samples({"input": x})


def speech_like_features(n: int = 16) -> Samples:
    """Log-mel pictures of 8 s in Whisper's range: smooth bands, syllables, then silence. Not labelled."""
    random = rng()
    window = np.hanning(25) / np.hanning(25).sum()
    x = np.zeros((n, 80, 800), np.float32)
    for i in range(n):
        bands = np.apply_along_axis(np.convolve, 1, random.normal(size=(80, 800)), window, "same")
        tilt = np.linspace(1, -1, 80)[:, None] * random.uniform(0, 0.6)
        loud = np.repeat(random.random(40) < random.uniform(0.3, 0.9), 20)
        loud[int(random.integers(300, 800)) :] = False
        x[i] = np.clip(-0.8 + loud * (1.1 + tilt + 1.2 * bands), -1, 1.5)
    return Samples({"input_features": x})


def spectrograms(n: int = 8) -> Samples:
    """Log spectra, 100 bins by 40 half seconds, of noise with oscillations that come and go. Not labelled."""
    random = rng()
    t = np.arange(0, 21, 1 / 200)
    x = np.zeros((n, 100, 40), np.float32)
    for i in range(n):
        signal = random.normal(size=t.size) * random.uniform(0.2, 2)
        for frequency in random.uniform(1, 40, 4):
            on = np.sin(2 * np.pi * t * random.uniform(0.02, 0.3)) > random.uniform(-1, 1)
            signal += random.uniform(0, 6) * np.sin(2 * np.pi * frequency * t) * on
        frames = np.lib.stride_tricks.sliding_window_view(signal, 200)[::100][:40]
        power = np.log(np.abs(np.fft.rfft(frames * np.hanning(200))[:, :100]) ** 2 + 1e-6).T
        x[i] = (power - power.mean()) / power.std()
    return Samples({"x": x})


def detectors(n: int = 320) -> Samples:
    """What atspm's pair network hands to its head, of n detectors with 6 candidates each. Not labelled."""
    random = rng()
    return Samples(
        {
            "logit": random.normal(scale=2, size=(n, 6)).astype(np.float32),
            "Z": random.normal(scale=0.5, size=(n, 6, 128)).astype(np.float32),
            "act": (random.random(n) < 0.9).astype(np.float32),
        }
    )


def normal_columns(name: str, columns: int, n: int, dtype: str) -> Samples:
    """Normal numbers. Not labelled."""
    return Samples({name: rng().normal(size=(n, columns)).astype(dtype)})
