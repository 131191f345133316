"""Small networks as both exporters of torch write them, with a dynamic batch."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax
from torch import Tensor, nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

import onnxcal
from tests.converters import (
    Conversion,
    Reference,
    assert_calibrated,
    columns,
    last_node,
    margins,
    pictures,
    quiet,
    run,
    softmax,
    tapped,
    three_labels,
)

EXPORTERS = {"torchscript": False, "dynamo": True}
Tail = Callable[[Tensor], Tensor]


class Network(nn.Module):
    """Convolution, batch norm, pooling, dropout, a linear layer."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(96, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(nn.functional.max_pool2d(self.norm(self.convolution(x)), 2))
        return self.linear(self.dropout(x.flatten(1)))


class Dense(nn.Module):
    """A label for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class WithTail(nn.Module):
    """A network, and what its user wrote behind it."""

    def __init__(self, network: nn.Module, tail: Tail) -> None:
        super().__init__()
        self.network = network
        self.tail = tail

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.network(x))


def shades(x: np.ndarray) -> np.ndarray:
    """Dark, grey or light, of each pixel's left neighbour, with noise: something that a convolution learns in part."""
    noise = np.random.default_rng(0).normal(size=x[:, 0].shape)
    return np.digitize(np.roll(x[:, 0], 1, axis=2) + 0.1 * noise, [0.3, 0.7])


LABELS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "digit": lambda x, y: y,
    "odd": lambda x, y: (y % 2)[:, None],
    "three labels": lambda x, y: three_labels(y),
    "shades": lambda x, y: shades(x),
}


@cache
def network(kind: str) -> nn.Module:
    """A network of a kind, trained for a second."""
    torch.manual_seed(0)
    made: nn.Module = Dense() if kind == "shades" else Network({"digit": 10, "odd": 1, "three labels": 3}[kind])
    data = pictures()
    x, y = torch.tensor(data.x_train), torch.tensor(LABELS[kind](data.x_train, data.y_train))
    classes = kind in ("digit", "shades")
    loss = nn.functional.cross_entropy if classes else nn.functional.binary_cross_entropy_with_logits
    optimizer = torch.optim.Adam(made.parameters(), 5e-3)
    for _ in range(50):
        batch = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        loss(made(x[batch]), y[batch] if classes else y[batch].float()).backward()
        optimizer.step()
    return made.eval()


def export(
    made: nn.Module, dynamo: bool, folder: Path, *, dtype: torch.dtype = torch.float32, outputs: int = 1
) -> bytes:
    """The ONNX file that an exporter writes; its input is `x`, its outputs `out`, or `out0`, `out1` …"""
    path = folder / "exported.onnx"
    x = torch.tensor(pictures().x[:3], dtype=dtype)
    names = ["out"] if outputs == 1 else [f"out{number}" for number in range(outputs)]
    options: dict[str, Any] = (
        {"dynamic_shapes": ({0: torch.export.Dim("N")},), "external_data": False, "verbose": False}
        if dynamo
        else {"dynamic_axes": {name: {0: "N"} for name in ("x", *names)}}
    )
    with quiet(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(made, (x,), path, dynamo=dynamo, input_names=["x"], output_names=names, **options)
    return path.read_bytes()


@pytest.fixture(scope="module", autouse=True)
def one_registry() -> Iterator[None]:
    """The list of all operators takes torch a second to make: it is made once."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made_once = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", made_once)
        yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Ending:
    """A tail, and the truth about it."""

    tail: Tail
    form: Reference
    kind: str = "digit"
    task: str = "multiclass"
    activation: str = "softmax"
    raw: Reference | None = None


def by_hand(z: Tensor) -> Tensor:
    e = torch.exp(z - z.max(dim=1, keepdim=True).values)
    return e / e.sum(dim=1, keepdim=True)


def carelessly_by_hand(z: Tensor) -> Tensor:
    return torch.exp(z) / torch.exp(z).sum(dim=1, keepdim=True)


def stacked(z: Tensor) -> Tensor:
    p = torch.sigmoid(z[:, 0])
    return torch.stack([1 - p, p], dim=1)


def concatenated(z: Tensor) -> Tensor:
    p = torch.sigmoid(z)
    return torch.cat([1 - p, p], dim=1)


def log_probabilities(z: np.ndarray) -> np.ndarray:
    return log_softmax(z, axis=1)


def channels_last(p: np.ndarray) -> np.ndarray:
    return np.moveaxis(p, 1, -1)


def two_columns(s: np.ndarray) -> np.ndarray:
    return columns(s[:, 0])


BINARY: dict[str, Any] = {"kind": "odd", "task": "binary", "activation": "sigmoid"}
ENDINGS = {
    "softmax": Ending(lambda z: z.softmax(1), softmax),
    "softmax over the last axis": Ending(lambda z: z.softmax(-1), softmax),
    "log_softmax": Ending(lambda z: z.log_softmax(1), log_probabilities, activation="log_softmax"),
    "exp of log_softmax": Ending(lambda z: z.log_softmax(1).exp(), softmax),
    "log of softmax": Ending(lambda z: z.softmax(1).log(), log_probabilities, activation="log_softmax"),
    "softmax by hand": Ending(by_hand, softmax),
    "softmax by hand without a shift": Ending(carelessly_by_hand, softmax),
    "log-softmax by hand": Ending(
        lambda z: z - z.logsumexp(1, keepdim=True), log_probabilities, activation="log_softmax"
    ),
    "softmax by logsumexp": Ending(lambda z: (z - z.logsumexp(1, keepdim=True)).exp(), softmax),
    "softmax in double": Ending(lambda z: z.double().softmax(1).float(), softmax),
    "softmax of rectified logits": Ending(lambda z: z.relu().softmax(1), lambda z: softmax(np.maximum(z, 0))),
    "logits": Ending(lambda z: z, softmax, activation="none", raw=lambda z: z),
    "sigmoid (N, 1)": Ending(torch.sigmoid, expit, **BINARY),
    "sigmoid (N,), squeezed": Ending(lambda z: torch.sigmoid(z).squeeze(1), lambda s: expit(s[:, 0]), **BINARY),
    "sigmoid (N,), selected": Ending(lambda z: torch.sigmoid(z[:, 0]), lambda s: expit(s[:, 0]), **BINARY),
    "sigmoid (N,), flattened": Ending(lambda z: torch.sigmoid(z).view(-1), lambda s: expit(s[:, 0]), **BINARY),
    "sigmoid by hand": Ending(lambda z: 1 / (1 + torch.exp(-z)), expit, **BINARY),
    "[1 - p, p] stacked": Ending(stacked, two_columns, **BINARY),
    "[1 - p, p] concatenated": Ending(concatenated, two_columns, **BINARY),
    "sigmoid of [-s, s]": Ending(lambda z: torch.cat([-z, z], dim=1).sigmoid(), two_columns, **BINARY),
    "margins [-s, s]": Ending(
        lambda z: torch.cat([-z, z], dim=1),
        two_columns,
        **BINARY | {"activation": "none"},
        raw=lambda s: margins(s[:, 0]),
    ),
    "one logit": Ending(lambda z: z, expit, **BINARY | {"activation": "none"}, raw=lambda s: s),
    "sigmoids of three labels": Ending(torch.sigmoid, expit, "three labels", "multilabel", "sigmoid"),
    "dense": Ending(lambda z: z.softmax(1), softmax, "shades"),
    "dense, channels last": Ending(
        lambda z: z.permute(0, 2, 3, 1).softmax(-1), lambda z: channels_last(softmax(z)), "shades"
    ),
    "dense, moved afterwards": Ending(
        lambda z: z.softmax(1).permute(0, 2, 3, 1), lambda z: channels_last(softmax(z)), "shades"
    ),
    "dense log_softmax": Ending(lambda z: z.log_softmax(1), log_probabilities, "shades", activation="log_softmax"),
    "dense logits": Ending(lambda z: z, softmax, "shades", activation="none", raw=lambda z: z),
}


WRITTEN_ALIKE = {
    "softmax over the last axis",
    "log of softmax",
    "softmax by hand without a shift",
    "log-softmax by hand",
    "softmax in double",
    "softmax of rectified logits",
    "sigmoid (N,), selected",
    "sigmoid (N,), flattened",
    "one logit",
    "dense, moved afterwards",
    "dense log_softmax",
    "dense logits",
}
"""Both exporters write the same nodes for these: the second that dynamo takes is saved."""


def scores(kind: str) -> np.ndarray:
    """What the network itself says, in float64."""
    with torch.no_grad():
        return deepcopy(network(kind)).double()(torch.tensor(pictures().x, dtype=torch.float64)).numpy()


def conversion(ending: Ending, model: bytes) -> Conversion:
    data = pictures()
    y = LABELS[ending.kind](data.x, data.y)
    return Conversion(
        model, data.x, y, scores(ending.kind), ending.form, ending.task, ending.activation, raw=ending.raw
    )


@pytest.mark.parametrize(
    ("name", "exporter"),
    [(name, by) for name in ENDINGS for by in EXPORTERS if by == "torchscript" or name not in WRITTEN_ALIKE],
)
def test_it_is_calibrated(name: str, exporter: str, tmp_path: Path) -> None:
    ending = ENDINGS[name]
    made = WithTail(network(ending.kind), ending.tail).eval()
    expected = conversion(ending, export(made, EXPORTERS[exporter], tmp_path))
    if "rectified" in name:  # the Relu may stand before or after the division
        expected = replace(expected, z=np.maximum(expected.z, 0), form=softmax)
    assert_calibrated(expected, tmp_path)


class TwoHeads(nn.Module):
    """Which digit, and whether it is odd."""

    def __init__(self) -> None:
        super().__init__()
        self.digit = network("digit")
        self.odd = network("odd")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.digit(x).softmax(1), self.odd(x).sigmoid()


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_one_of_two_heads(exporter: str, tmp_path: Path) -> None:
    model = export(TwoHeads().eval(), EXPORTERS[exporter], tmp_path, outputs=2)
    for output, name in (("out0", "softmax"), ("out1", "sigmoid (N, 1)")):
        folder = tmp_path / output
        folder.mkdir()
        expected = replace(conversion(ENDINGS[name], model), outputs=[output], options={"head": output})
        assert_calibrated(expected, folder)
    with pytest.raises(onnxcal.ModelError, match=r"2 outputs .* classifier"):
        onnxcal.calibrate(tmp_path / "exported.onnx", (pictures().x, pictures().y))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_labels_and_logits_beside_probabilities(exporter: str, tmp_path: Path) -> None:
    made = WithTail(network("digit"), lambda z: (z.softmax(1), z, z.softmax(1).argmax(1)))  # type: ignore[arg-type,return-value]
    model = export(made.eval(), EXPORTERS[exporter], tmp_path, outputs=3)
    assert_calibrated(replace(conversion(ENDINGS["softmax"], model), outputs=["out0"]), tmp_path)


HALF: dict[str, Tail] = {
    "softmax in half": lambda z: z.softmax(1),
    "softmax in float": lambda z: z.float().softmax(1),
    "softmax with a dtype": lambda z: torch.softmax(z, 1, dtype=torch.float32),
    "logits": lambda z: z,
}


@pytest.mark.parametrize(
    ("name", "exporter"),
    [*((name, "torchscript") for name in HALF), ("softmax in half", "dynamo"), ("softmax in float", "dynamo")],
)
def test_half(name: str, exporter: str, tmp_path: Path) -> None:
    """Logits are what onnxruntime computes in half, which is not what torch computes to the last bit."""
    made = WithTail(deepcopy(network("digit")).half(), HALF[name]).eval()
    model = export(made, EXPORTERS[exporter], tmp_path, dtype=torch.float16)
    x = pictures().x.astype(np.float16)
    expected = Conversion(
        model,
        x,
        pictures().y,
        tapped(model, last_node(model, "Gemm").output[0], x).astype(np.float64),
        raw=(lambda z: z) if name == "logits" else None,
        activation="none" if name == "logits" else "softmax",
        tolerance=2e-3,
        converter_tolerance=5e-3,
        temperature_tolerance=1e-4,
    )
    with torch.no_grad():
        own = made.network.float()(torch.tensor(pictures().x)).numpy()
    assert np.abs(own - expected.z).max() < 0.05
    assert_calibrated(expected, tmp_path)


REFUSED: dict[str, tuple[Tail, str]] = {
    "decisions": (lambda z: (z.sigmoid() > 0.5).float(), "ends in Greater"),
    "the best three": (lambda z: z.softmax(1).topk(3, dim=1), "ends in TopK"),  # type: ignore[dict-item]
    "a norm": (lambda z: z / z.norm(dim=1, keepdim=True), "ends in Div"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_classifier_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    tail, words = REFUSED[name]
    outputs = 2 if "three" in name else 1
    kind = "odd" if name == "decisions" else "digit"
    export(WithTail(network(kind), tail).eval(), False, tmp_path, outputs=outputs)
    data = pictures()
    with pytest.raises(onnxcal.ModelError, match=words) as caught:
        onnxcal.calibrate(tmp_path / "exported.onnx", (data.x, LABELS[kind](data.x, data.y)))
    assert caught.value.hint


def test_probabilities_after_a_clamp_are_clamped_still(tmp_path: Path) -> None:
    made = WithTail(network("digit"), lambda z: z.softmax(1).clamp(1e-3, 1)).eval()
    ending = replace(ENDINGS["softmax"], form=lambda z: np.maximum(softmax(z), 1e-3))
    assert_calibrated(conversion(ending, export(made, False, tmp_path)), tmp_path)
    after = run((tmp_path / "calibrated.onnx").read_bytes(), pictures().x)["out"]
    assert after.min() == np.float32(1e-3)
