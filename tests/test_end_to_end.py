"""Real networks, start to finish, against figures that code outside this project computed in float64.

The published logits came from another onnxruntime version and differ from today's by about 1e-5, so temperatures are
compared to 1e-4 relative and metrics to 1e-4.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import onnxcal
from onnxcal.verification import verify

NETWORKS = {
    "akamaster_resnet20.onnx": ("akamaster_resnet20_png1000", "cifar_images"),
    "ccoltong_lenet.onnx": ("mnist_ccoltong_lenet_norm", "mnist_images"),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest, published: Path, expected: dict[str, Any], tmp_path: Path) -> Any:
    """A model of its own in a folder of its own, its val and test halves as .npz, and what they must give."""
    data_set, images = NETWORKS[request.param]
    x, y = request.getfixturevalue(images)
    entry = next(e for e in expected["end_to_end"] if e["onnx"] == request.param)
    assert entry["split"] == "even rows = val, odd rows = test"
    model = tmp_path / request.param
    model.write_bytes((published / request.param).read_bytes())
    np.savez(tmp_path / "val.npz", **{entry["input"]: x[0::2], "labels": y[0::2]})
    np.savez(tmp_path / "test.npz", **{entry["input"]: x[1::2], "labels": y[1::2]})
    return model, tmp_path / "val.npz", tmp_path / "test.npz", expected["datasets"][data_set]


def assert_scores(scores: Any, published: dict[str, float]) -> None:
    found = {"acc": scores["accuracy"], "nll": scores["nll"], "ece": scores["ece"], "brier": scores["brier"]}
    assert found == pytest.approx({key: published[key] for key in found}, abs=1e-4)


def test_a_published_network_on_the_command_line(network: Any, cli: Any, tmp_path: Path) -> None:
    model, val, test, figures = network
    original = model.read_bytes()
    out = tmp_path / "out.onnx"

    result = cli("calibrate", model, "--data", val, "--eval-data", test, "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["calibration"]["temperature"] == pytest.approx(figures["T"], rel=1e-4)
    assert document["calibration"]["n_samples"] == figures["Nval"]
    assert document["metrics"]["n_samples"] == figures["Ntest"]
    assert_scores(document["metrics"]["before"], figures["test_before"])
    assert_scores(document["metrics"]["after"], figures["test_after"])
    assert document["verification"]["passed"] is True
    assert document["verification"]["runtimes"][0]["n_samples"] == figures["Nval"]

    evaluated = cli("evaluate", out, "--data", test, "--json")
    assert_scores(json.loads(evaluated.stdout)["metrics"], figures["test_after"])
    inspected = json.loads(cli("inspect", out, "--json").stdout)
    in_file, fitted = inspected["calibration"]["temperature"], document["calibration"]["temperature"]
    assert np.float32(in_file) == np.float32(fitted)
    assert cli("revert", out, "-o", tmp_path / "back.onnx").exit_code == 0
    assert (tmp_path / "back.onnx").read_bytes() == original == model.read_bytes()


def test_a_published_network_on_its_val_half(network: Any, published: Path) -> None:
    """The logits are the published ones, and so are T and the scores of the samples that it is fitted on."""
    model, val, _, figures = network
    found = onnxcal.collect_logits(model, val)
    with np.load(published / f"{NETWORKS[model.name][0]}.npz") as stored:
        np.testing.assert_allclose(found.values, stored["val_logits"], atol=2e-4)
        np.testing.assert_array_equal(found.labels, stored["val_labels"])
    calibration = onnxcal.fit(found.values, found.labels)
    assert calibration.temperature == pytest.approx(figures["T"], rel=1e-4)
    assert calibration.metrics is not None
    assert_scores(vars(calibration.metrics.before), figures["val_before"])
    assert_scores(vars(calibration.metrics.after), figures["val_after"])


def test_the_demo_network_is_overconfident_and_mended(demo_data: Path) -> None:
    model = onnx.ModelProto.FromString((demo_data / "digits.onnx").read_bytes())
    result = onnxcal.calibrate(model, demo_data / "digits.npz")
    before, after = result.metrics.before, result.metrics.after
    assert before.accuracy == after.accuracy > 0.9
    assert before.confidence > before.accuracy + 0.05
    assert abs(after.confidence - after.accuracy) < 0.02
    assert after.ece < before.ece / 2
    assert after.nll < before.nll
    assert result.warnings == ()
    assert result.verification.passed


def test_the_bundled_data_are_small(demo_data: Path) -> None:
    assert sum(path.stat().st_size for path in demo_data.iterdir()) < 400_000


class Net(torch.nn.Module):
    """Convolution, pooling, two linear layers, and perhaps an activation."""

    def __init__(self, activation: torch.nn.Module | None) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.AvgPool2d(4), torch.nn.Flatten(),
            torch.nn.Linear(32, 16), torch.nn.Tanh(), torch.nn.Linear(16, 5),
        )  # fmt: skip
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = 6 * self.body(x)
        return z if self.activation is None else self.activation(z)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's classic exporter says that it is classic
@pytest.mark.parametrize(
    ("activation", "opset"),
    [
        (None, 9),
        (None, 17),
        (torch.nn.Softmax(dim=1), 11),
        (torch.nn.Softmax(dim=1), 13),
        (torch.nn.LogSoftmax(dim=1), 9),
        (torch.nn.LogSoftmax(dim=1), 17),
    ],
    ids=repr,
)
def test_an_exported_torch_network_computes_torchs_softmax(
    activation: torch.nn.Module | None, opset: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = Net(activation).eval()
    x = torch.randn(300, 1, 10, 10)
    buffer = io.BytesIO()
    torch.onnx.export(
        net, (x[:2],), buffer, opset_version=opset, dynamo=False, input_names=["image"], output_names=["out"],
        dynamic_axes={"image": {0: "n"}, "out": {0: "n"}},
    )  # fmt: skip
    (tmp_path / "net.onnx").write_bytes(buffer.getvalue())
    exact = net.double()
    with torch.no_grad():
        z = 6 * exact.body(x.double())
    y = torch.distributions.Categorical(logits=z / 2.5).sample()

    result = onnxcal.calibrate(tmp_path / "net.onnx", (x.numpy(), y.numpy()))
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([log_t], max_iter=100, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = torch.nn.functional.cross_entropy(z / log_t.exp(), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)
    assert result.calibration.temperature == pytest.approx(float(log_t.detach().exp()), rel=1e-4)

    session = onnxruntime.InferenceSession(str(result.output.path), providers=["CPUExecutionProvider"])
    got = session.run(["out"], {"image": x.numpy()})[0]
    scaled = z / result.calibration.temperature
    want = torch.log_softmax(scaled, 1) if isinstance(activation, torch.nn.LogSoftmax) else torch.softmax(scaled, 1)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-5)
    assert verify(tmp_path / "net.onnx", str(result.output.path), x.numpy()).verification.passed
