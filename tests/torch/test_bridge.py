"""From a module and a loader to a calibrated file, held against what torch computes in this test."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import onnxcal
from onnxcal.torch import ModelWithTemperature, export_calibrated
from tests.converters import quiet
from tests.torch import Network, images, loader, network, targets, torch_logits

FAST: dict[str, Any] = {"exporter": "torchscript", "bootstrap": 0}
PROOF = 1e-6
"""Largest difference of a float32 probability between onnxruntime and torch."""


def run(path: Path, feeds: dict[str, np.ndarray], output: str = "output") -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    found: np.ndarray = onnxruntime.InferenceSession(path, options).run([output], feeds)[0]
    return found


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Heads

ENDINGS: dict[str, tuple[str, Callable[[Tensor], Any], Callable[[Tensor], Tensor]]] = {
    "logits": ("digit", lambda z: z, lambda z: z.softmax(1)),
    "softmax": ("digit", lambda z: z.softmax(1), lambda z: z.softmax(1)),
    "log-softmax": ("digit", lambda z: z.log_softmax(-1), lambda z: z.log_softmax(1)),
    "softmax by hand": ("digit", lambda z: z.exp() / z.exp().sum(1, keepdim=True), lambda z: z.softmax(1)),
    "one logit": ("odd", lambda s: s, torch.sigmoid),
    "sigmoid": ("odd", torch.sigmoid, torch.sigmoid),
    "sigmoid, squeezed": ("odd", lambda s: s.sigmoid().squeeze(1), lambda s: s.sigmoid()[:, 0]),
    "[1 - p, p]": (
        "odd",
        lambda s: torch.cat([1 - s.sigmoid(), s.sigmoid()], 1),
        lambda s: torch.cat([(-s).sigmoid(), s.sigmoid()], 1),
    ),
    "three sigmoids": ("three labels", nn.Sigmoid(), torch.sigmoid),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "exporter"),
    [*((name, "torchscript") for name in ENDINGS), ("logits", "dynamo"), ("log-softmax", "dynamo")],
)
def test_probabilities_are_those_of_torch(name: str, exporter: Any, tmp_path: Path) -> None:
    kind, tail, calibrated = ENDINGS[name]
    made = network(kind, tail)
    result = export_calibrated(made, loader(kind), tmp_path / "out.onnx", exporter=exporter, bootstrap=0)
    temperature = result.calibration.temperature
    z = torch_logits(made)
    expected = calibrated(z / temperature).numpy()
    got = run(tmp_path / "out.onnx", {"image": images()[200:].numpy()})
    scale = np.maximum(1, np.abs(expected)) if name == "log-softmax" else 1.0
    assert got.shape == expected.shape
    assert (np.abs(got - expected) / scale).max() < PROOF
    own = onnxcal.fit(z.numpy(), targets(kind)[200:].numpy(), task=result.head.task)
    assert temperature == pytest.approx(own.temperature, rel=1e-6)  # of torch's logits, which differ by rounding
    assert temperature > 1.05
    by_torch = result.verification.runtimes[-1]
    assert (by_torch.name, by_torch.passed, by_torch.n_samples) == ("torch", True, 1597)
    assert by_torch.max_abs_error < PROOF
    assert result.verification.passed
    assert result.verification.checks[-1].name == "torch's own probabilities of 'output'"
    assert left_in(tmp_path) == ["out.onnx"]


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_the_file_takes_any_batch_and_tells_nothing_of_this_machine(exporter: Any, tmp_path: Path) -> None:
    for name in ("once", "twice"):
        result = export_calibrated(network(), loader(), tmp_path / name, exporter=exporter, bootstrap=0)
    data = (tmp_path / "once").read_bytes()
    assert data == (tmp_path / "twice").read_bytes()
    assert str(Path(__file__).parent).encode() not in data
    assert result.output.path == str(tmp_path / "twice")
    assert result.model.path is None
    for size in (1, 7):
        assert run(tmp_path / "once", {"image": images()[:size].numpy()}).shape == (size, 10)
    onnxcal.revert(tmp_path / "once", output=tmp_path / "raw.onnx")
    raw = run(tmp_path / "raw.onnx", {"image": images()[200:].numpy()})
    assert np.abs(raw - torch_logits(network()).numpy()).max() < 1e-4


class Pixels(nn.Module):
    """A label for every pixel: how bright its left neighbour is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def test_a_dense_head_with_an_ignored_label(tmp_path: Path) -> None:
    x = images()[:300]
    y = torch.bucketize(torch.roll(x[:, 0], 1, dims=2), torch.tensor([0.3, 0.7]))
    y[:, :, 0] = 255
    made = Pixels()
    with torch.no_grad():
        made.layers.weight.zero_()
        made.layers.bias.copy_(torch.tensor([0.0, -2.0, -2.0]))
        made.layers.weight[:, 0, 1, 0] = torch.tensor([-9.0, 4.0, 9.0])
    batches = DataLoader(TensorDataset(x, y), batch_size=60)
    result = export_calibrated(made, batches, tmp_path / "out.onnx", ignore_index=255, **FAST)
    with torch.no_grad():
        z = made(x)
    assert result.calibration.n_samples == 300 * 56
    own = onnxcal.fit(z.numpy(), y.numpy(), ignore_index=255)
    assert result.calibration.temperature == pytest.approx(own.temperature, rel=1e-6)
    expected = (z / own.temperature).softmax(1).numpy()
    assert np.abs(run(tmp_path / "out.onnx", {"image": x.numpy()}) - expected).max() < PROOF


def test_one_of_two_outputs_of_a_dict(tmp_path: Path) -> None:
    made = network(tail=lambda z: {"features": z[:, :3] * 2, "probs": z.softmax(1)})
    result = export_calibrated(made, loader(), tmp_path / "out.onnx", head="probs", **FAST)
    expected = (torch_logits(made) / result.calibration.temperature).softmax(1).numpy()
    feeds = {"image": images()[200:].numpy()}
    assert np.abs(run(tmp_path / "out.onnx", feeds, "probs") - expected).max() < PROOF
    assert np.abs(run(tmp_path / "out.onnx", feeds, "features") - 2 * torch_logits(made)[:, :3].numpy()).max() < 1e-4


def test_double_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    batches = DataLoader(TensorDataset(images().double(), targets("digit")), batch_size=500)
    result = export_calibrated(made, batches, tmp_path / "out.onnx", prior=1.0, **FAST)
    assert result.head.dtype == "float64"
    assert result.verification.runtimes[-1].max_abs_error < 1e-12


# Batches


class TwoInputs(Network):
    """A picture and its mean brightness."""

    def forward(self, image: Tensor, brightness: Tensor) -> Tensor:
        return self.logits(image - brightness[:, :, None, None])


def two_inputs() -> TwoInputs:
    made = TwoInputs(10)
    made.load_state_dict(network().state_dict())
    return made


class Records(Dataset[dict[str, Any]]):
    """Pictures with more than a model takes."""

    def __len__(self) -> int:
        return 600

    def __getitem__(self, i: int) -> dict[str, Any]:
        x = images()[i + 200]
        return {
            "image": x, "brightness": x.mean().reshape(1), "label": targets("digit")[i + 200], "path": f"{i}.png",
            "id": i,
        }  # fmt: skip


def only(batch: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: batch[name] for name in names}


RECORDS = DataLoader(Records(), batch_size=150)
KINDS: dict[str, tuple[Any, Any]] = {
    "tuple": ([((b["image"], b["brightness"]), b["label"]) for b in RECORDS], None),
    "dict by parameter": ([(only(b, "brightness", "image"), b["label"]) for b in RECORDS], None),
    "dict with labels": ([only(b, "image", "brightness", "label") for b in RECORDS], None),
    "paths and ids": (RECORDS, lambda b: (only(b, "image", "brightness"), b["label"])),
    "triples": (
        [(b["image"], b["brightness"], b["label"]) for b in RECORDS], lambda b: ((b[0], b[1]), b[2]),
    ),
    "arrays": ([((b["image"].numpy(), b["brightness"].numpy()), b["label"].numpy()) for b in RECORDS], None),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "exporter"), [*((name, "torchscript") for name in KINDS), ("dict by parameter", "dynamo")]
)
def test_batches_of_many_kinds(name: str, exporter: Any, tmp_path: Path) -> None:
    batches, unpack = KINDS[name]
    result = export_calibrated(
        two_inputs(), batches, tmp_path / "out.onnx", unpack=unpack, exporter=exporter, bootstrap=0
    )
    x = images()[200:800]
    brightness = x.mean(dim=(1, 2, 3))[:, None]
    with torch.no_grad():
        z = two_inputs().eval()(x, brightness)
    own = onnxcal.fit(z.numpy(), targets("digit")[200:800].numpy())
    assert result.calibration.temperature == pytest.approx(own.temperature, rel=1e-6)
    got = run(tmp_path / "out.onnx", {"image": x.numpy(), "brightness": brightness.numpy()})
    assert np.abs(got - (z / own.temperature).softmax(1).numpy()).max() < PROOF


class Elsewhere(Tensor):
    """A tensor that is not in NumPy's reach until it is brought here, as on a GPU."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert device tensor to numpy: use Tensor.cpu() first")

    def cpu(self) -> Tensor:  # type: ignore[override]
        return self.as_subclass(Tensor)


def test_tensors_of_another_device_are_brought_here(tmp_path: Path) -> None:
    batches = [(x.as_subclass(Elsewhere), y.as_subclass(Elsewhere)) for x, y in loader()]
    with pytest.raises(TypeError, match="device tensor"):
        np.asarray(batches[0][0])
    result = export_calibrated(network(), batches, tmp_path / "out.onnx", **FAST)
    usual = export_calibrated(network(), loader(), tmp_path / "usual.onnx", **FAST)
    assert result.calibration.temperature == usual.calibration.temperature


class Words(nn.Module):
    """The mean of word vectors, whatever the length."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(20, 8)
        self.linear = nn.Linear(8, 3)
        self.linear.weight.data *= 9

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.linear(self.table(input_ids).mean(dim=1))


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_another_axis_that_varies(exporter: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    made = Words()
    batches = []
    for length in (5, 9, 5, 12):
        ids = torch.randint(20, (80, length))
        with torch.no_grad():
            labels = torch.distributions.Categorical(logits=made(ids) / 2).sample()
        batches.append({"input_ids": ids, "labels": labels})
    options: dict[str, Any] = {"exporter": exporter, "bootstrap": 0}
    if exporter == "torchscript":
        with pytest.raises(onnxcal.DataError, match=r"input 'input_ids' has shape .*, the model wants"):
            export_calibrated(made, batches, tmp_path / "out.onnx", **options)
    result = export_calibrated(made, batches, tmp_path / "out.onnx", dynamic_axes={"input_ids": [1]}, **options)
    assert 1 < result.calibration.temperature < 4
    with pytest.raises(onnxcal.UsageError, match="dynamic_axes names 'ids'"):
        export_calibrated(made, batches, tmp_path / "o", dynamic_axes={"ids": [1]}, **options)


BAD_BATCHES: dict[str, tuple[Any, Any, str]] = {
    "three parts": ([(1, 2, 3)], None, "batch 0 of the loader has 3 parts"),
    "no labels": ([{"image": images()[:2], "id": [1, 2]}], None, "without labels of a usual name, only 'image', 'id'"),
    "a path": ([(["a.png"], [1])], None, "input 0 is a str"),
    "an unknown name": ([({"picture": images()[:2]}, [1, 2])], None, "takes .image.*brings 'picture'"),
    "too many inputs": ([((images()[:2], images()[:2]), [1, 2])], None, "takes .image.*brings 2 inputs"),
    "an unpack that fails": ([(1, 2)], lambda b: b["x"], "unpack, called with batch 0 .* raised TypeError"),
    "an unpack of one": ([(1, 2)], lambda b: b[0], "unpack made a int of batch 0"),
    "nothing": ([], None, "yields no batches"),
    "a number": (7, None, "the loader raised TypeError"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_a_batch_that_cannot_be_taken_apart(name: str, tmp_path: Path) -> None:
    batches, unpack, words = BAD_BATCHES[name]
    with pytest.raises(onnxcal.DataError, match=words):
        export_calibrated(network(), batches, tmp_path / "out.onnx", unpack=unpack, **FAST)
    assert left_in(tmp_path) == []


def failing() -> Iterator[Any]:
    yield from itertools.islice(loader(), 2)
    raise OSError("cannot read 7.png")


class FailingLoader:
    def __iter__(self) -> Iterator[Any]:
        return failing()


def test_a_loader_that_fails_half_way(tmp_path: Path) -> None:
    made = network()
    with pytest.raises(onnxcal.DataError, match="OSError: cannot read"):
        export_calibrated(made, FailingLoader(), tmp_path / "out.onnx", **FAST)
    assert made.training
    assert left_in(tmp_path) == []


# The module


def modes(module: nn.Module) -> list[bool]:
    return [part.training for part in module.modules()]


def test_the_module_is_left_as_it_came(tmp_path: Path) -> None:
    made = network()
    made.norm.eval()  # as those who fine-tune do
    before, weights = modes(made), {name: value.clone() for name, value in made.state_dict().items()}
    export_calibrated(made, loader(), tmp_path / "out.onnx", **FAST)
    with pytest.raises(onnxcal.GateError):
        export_calibrated(made, loader(), tmp_path / "gate.onnx", max_ece=1e-6, **FAST)
    with pytest.raises(onnxcal.DataError, match="label 70"):
        export_calibrated(made, [(images()[:50], torch.full((50,), 70))], tmp_path / "labels.onnx", **FAST)
    assert modes(made) == before
    assert len(set(before)) == 2
    assert all(torch.equal(value, weights[name]) for name, value in made.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in made.parameters())
    assert left_in(tmp_path) == ["out.onnx"]


class StillTraining(Network):
    """Parts that do not listen to eval()."""

    kind = ""

    def train(self, mode: bool = True) -> StillTraining:
        super().train(mode)
        if self.kind in ("module", "norm"):
            part = self.dropout if self.kind == "module" else self.norm
            part.training = True
        return self

    def forward(self, image: Tensor) -> Tensor:
        if self.kind == "function":
            image = nn.functional.dropout(image, 0.2, training=True)
        if self.kind == "batch":
            image = image - image.mean(dim=0, keepdim=True)
        return self.logits(image)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("function", r"two answers for one batch .*dropout is called with training=True"),
        ("module", r"two answers for one batch .*dropout is in training mode"),
        ("norm", r"changes its buffer 'norm.running_mean'.*norm is in training mode"),
        ("batch", r"depends on the others in its batch"),
    ],
)
def test_a_module_that_is_still_training_is_refused(kind: str, words: str, tmp_path: Path) -> None:
    made = StillTraining(10)
    made.load_state_dict(network().state_dict())
    made.kind = kind
    buffers = {name: value.clone() for name, value in made.named_buffers()}
    for attempt in (
        lambda: export_calibrated(made, loader(), tmp_path / "out.onnx", **FAST),
        lambda: ModelWithTemperature(made).set_temperature(loader()),
    ):
        with pytest.raises(onnxcal.ModelError, match=words):
            attempt()
    assert all(torch.equal(value, buffers[name]) for name, value in made.named_buffers())
    assert made.training
    assert left_in(tmp_path) == []


class Branching(Network):
    """A branch that depends on the numbers."""

    def forward(self, image: Tensor) -> Tensor:
        z = self.logits(image)
        return z if z.sum() > -1e9 else -z


def test_what_an_exporter_cannot_follow_is_an_error_or_a_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = Branching(10)
    made.load_state_dict(network().state_dict())
    with pytest.raises(onnxcal.ModelError, match=r"dynamo exporter cannot export Branching: .*data-dependent"):
        export_calibrated(made, loader(), tmp_path / "out.onnx", exporter="dynamo")
    assert capfd.readouterr() == ("", "")
    assert left_in(tmp_path) == []
    result = export_calibrated(made, loader(), tmp_path / "out.onnx", **FAST)
    assert "torch: Converting a tensor to a Python boolean" in result.warnings[-1]


class Reshaping(Network):
    """One that knows its batch size."""

    def forward(self, image: Tensor) -> Tensor:
        return self.logits(image.reshape(100, 1, 8, 8))


def test_a_module_that_does_not_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(onnxcal.ModelError, match=r"Reshaping raised RuntimeError on a batch of shape \(50, 1, 8, 8\)"):
        export_calibrated(Reshaping(10), loader(), tmp_path / "out.onnx", **FAST)


# The check against torch


class OtherwiseExported(Network):
    """What an exporter gets wrong."""

    def forward(self, image: Tensor) -> Tensor:
        z = self.logits(image)
        return self.tail(z * 1.2 if torch.onnx.is_in_onnx_export() else z)


@pytest.mark.parametrize("tail", [lambda z: z, lambda z: z.softmax(1)], ids=["logits", "softmax"])
def test_a_file_that_does_not_agree_with_torch_does_not_appear(tail: Any, tmp_path: Path) -> None:
    made = OtherwiseExported(10, tail)
    made.load_state_dict(network().state_dict())
    (tmp_path / "older.onnx").write_bytes(b"older")
    for name in ("out.onnx", "older.onnx"):
        with pytest.raises(onnxcal.VerificationError, match="FAILED"):
            export_calibrated(made, loader(), tmp_path / name, force=True, **FAST)
    assert left_in(tmp_path) == ["older.onnx"]
    assert (tmp_path / "older.onnx").read_bytes() == b"older"
    assert made.training


def test_a_failure_says_which_tolerance_would_have_passed(tmp_path: Path) -> None:
    made = network()
    made.linear.weight.data += 0  # a module of its own
    with pytest.raises(onnxcal.VerificationError, match="minimum required tolerance") as caught:
        export_calibrated(made, loader(), tmp_path / "out.onnx", tolerance=0.0, **FAST)
    verification: Any = caught.value.known["verification"]
    assert not verification.passed
    needed = verification.runtimes[-1].max_abs_error
    assert 0 < needed < PROOF
    export_calibrated(made, loader(), tmp_path / "out.onnx", tolerance=needed, **FAST)


class OutOfSight(Network):
    """Logits that no torch function returns: they are made inside a script."""

    def forward(self, image: Tensor) -> Tensor:
        return scripted(self.logits(image))


with quiet():

    @torch.jit.script
    def scripted(z):
        return torch.softmax(z.flip(1) + 1.0, 1)


def test_logits_that_torch_does_not_show_are_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(onnxcal.ModelError, match="not among the tensors that OutOfSight computes"):
        export_calibrated(OutOfSight(10), loader(), tmp_path / "out.onnx", prior=1.0, **FAST)
    assert left_in(tmp_path) == []


# What is passed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exporter": "onnx"}, "exporter 'onnx' is not known"),
        ({"tolerance": -1.0}, "tolerance -1.0"),
        ({"output_names": ["a", "b"]}, "2 output names for the 1 outputs of Network"),
        ({"model": "model.pt"}, "a str is no torch.nn.Module"),
        ({"model": ModelWithTemperature(nn.Identity())}, "divides by a temperature already"),
        ({"val_loader": iter([])}, "read only once"),
        ({"output": "missing/out.onnx"}, "does not exist"),
        ({"opset": 999}, "exporter cannot export Network"),
    ],
)
def test_what_cannot_be_used_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    output = tmp_path / change.pop("output", "out.onnx")
    options: dict[str, Any] = {"model": network(), "val_loader": loader(), **FAST, **change}
    with pytest.raises(onnxcal.OnnxcalError, match=words):
        export_calibrated(output=output, **options)
    assert left_in(tmp_path) == []


def test_a_file_that_exists_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.onnx").write_bytes(b"mine")
    with pytest.raises(onnxcal.UsageError, match="exists"):
        export_calibrated(network(), loader(), tmp_path / "out.onnx", **FAST)
    assert (tmp_path / "out.onnx").read_bytes() == b"mine"


def test_weights_in_a_file_of_their_own_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxcal.torch.export.INLINE_BYTES", 100)
    result = export_calibrated(network(), loader(), tmp_path / "out.onnx", exporter="dynamo", bootstrap=0)
    assert left_in(tmp_path) == ["out.onnx", "out.onnx.data"]
    expected = (torch_logits(network()) / result.calibration.temperature).softmax(1).numpy()
    assert np.abs(run(tmp_path / "out.onnx", {"image": images()[200:].numpy()}) - expected).max() < PROOF
    graph = onnx.ModelProto.FromString((tmp_path / "out.onnx").read_bytes()).graph
    assert onnx.TensorProto.EXTERNAL in {tensor.data_location for tensor in graph.initializer}


def test_progress_goes_to_a_callable(tmp_path: Path) -> None:
    seen: dict[str, list[tuple[int, int | None]]] = {}
    export_calibrated(
        network(), loader(), tmp_path / "out.onnx",
        progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total)), **FAST,
    )  # fmt: skip
    assert list(seen) == ["collecting logits", "verifying", "comparing with torch"]
    assert all(steps[-1] == (1597, 1597) for steps in seen.values())


def test_nothing_is_printed_without_a_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_calibrated(network(), loader(), tmp_path / "out.onnx", bootstrap=0)
    ModelWithTemperature(network()).set_temperature(loader())
    assert capfd.readouterr() == ("", "")


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = "import sys; sys.modules['torch'] = None; import onnxcal; onnxcal.torch"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "ImportError: onnxcal.torch needs torch: pip install 'onnxcal[torch]'" in done.stderr
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(onnxcal.UsageError, match="needs onnxscript"):
        export_calibrated(network(), loader(), tmp_path / "out.onnx")
