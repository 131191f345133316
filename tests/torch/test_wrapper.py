"""`ModelWithTemperature`: the familiar names, and the best T."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import onnxcal
from onnxcal.torch import ModelWithTemperature, export_calibrated, read_temperature
from tests import builders
from tests.torch import loader, network, targets, torch_logits


def best_by_lbfgs(z: Tensor, y: Tensor, binary: bool = False) -> float:
    """T of torch's own optimiser, in double, run until it stops."""
    beta = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [beta], lr=1, max_iter=500, tolerance_grad=1e-14, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )
    z = z.double()

    def nll() -> Tensor:
        optimizer.zero_grad()
        if binary:
            loss = nn.functional.binary_cross_entropy_with_logits(beta * z, y.double())
        else:
            loss = nn.functional.cross_entropy(beta * z, y)
        loss.backward()
        return loss

    optimizer.step(nll)
    return float(1 / beta.detach())


@pytest.mark.parametrize("kind", ["digit", "odd"])
def test_t_is_the_optimum(kind: str) -> None:
    made = network(kind)
    wrapper = ModelWithTemperature(made)
    assert wrapper.set_temperature(loader(kind)) is wrapper
    z, y = torch_logits(made), targets(kind)[200:]
    assert wrapper.temperature.item() == pytest.approx(onnxcal.fit(z.numpy(), y.numpy()).temperature, rel=1e-8)
    assert wrapper.temperature.item() == pytest.approx(best_by_lbfgs(z, y, kind == "odd"), rel=1e-6)
    assert wrapper.calibration.stderr is not None
    assert wrapper.calibration.metrics.after.nll < wrapper.calibration.metrics.before.nll
    again = ModelWithTemperature(made).fit(z, y)
    assert again.temperature.item() == pytest.approx(wrapper.temperature.item(), rel=1e-7)


def test_the_names_are_the_familiar_ones() -> None:
    made = network()
    wrapper = ModelWithTemperature(made).set_temperature(loader())
    assert wrapper.model is made
    assert made.training
    wrapper.eval()
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(wrapper(x), wrapper.temperature_scale(made(x)))
    assert torch.allclose(wrapper(x), made(x) / wrapper.temperature.item())
    assert wrapper(x).dtype == torch.float32
    assert wrapper.half()(x.half()).dtype == torch.float16
    assert "temperature" in dict(wrapper.named_parameters())
    assert set(wrapper.state_dict()) == {"temperature", *(f"model.{name}" for name in made.state_dict())}


def test_t_stays_as_it_was_when_there_is_no_best_one() -> None:
    wrapper = ModelWithTemperature(nn.Identity(), 1.5)
    z = torch.eye(4) * 3
    with pytest.raises(onnxcal.NoFiniteOptimum):
        wrapper.set_temperature([(z, torch.arange(4))])
    assert wrapper.temperature.item() == 1.5
    assert wrapper.set_temperature([(z, torch.arange(4))], prior=1.0).temperature.item() < 1


@pytest.mark.parametrize(("kind", "activation"), [("digit", nn.Softmax(1)), ("odd", nn.Sigmoid())])
def test_probabilities_are_refused(kind: str, activation: Any) -> None:
    wrapper = ModelWithTemperature(network(kind, activation))
    with pytest.raises(onnxcal.DataError, match="probabilities"):
        wrapper.set_temperature(loader(kind))
    assert wrapper.temperature.item() == 1


def test_a_model_that_returns_no_tensor_is_refused() -> None:
    with pytest.raises(onnxcal.ModelError, match="Network returns a dict"):
        ModelWithTemperature(network(tail=lambda z: {"logits": z})).set_temperature(loader())


def test_it_exports_to_the_graph_that_export_calibrated_makes(tmp_path: Path) -> None:
    made = network()
    options: dict[str, Any] = {"exporter": "torchscript"}
    wrapper = ModelWithTemperature(made).set_temperature(loader())
    result = wrapper.export(tmp_path / "wrapper.onnx", loader(), **options)
    export_calibrated(made, loader(), tmp_path / "direct.onnx", **options)
    assert result.verification is not None
    assert result.verification.runtimes[-1].max_abs_error < 1e-6
    assert result.calibration.temperature == wrapper.temperature.item()
    files = [(tmp_path / f"{name}.onnx").read_bytes() for name in ("wrapper", "direct")]
    graphs = [onnx.ModelProto.FromString(file).graph for file in files]
    assert len({tuple(node.SerializeToString() for node in graph.node) for graph in graphs}) == 1
    assert [n.op_type for n in graphs[0].node][-2:] == ["Div", "Softmax"]
    for ours, theirs in zip(*(graph.initializer for graph in graphs), strict=True):
        assert ours.name == theirs.name
        assert np.allclose(onnx.numpy_helper.to_array(ours), onnx.numpy_helper.to_array(theirs), rtol=3e-7, atol=0)
    x = torch_logits(made)  # moves the module to eval mode
    wrapper.eval()
    assert torch.allclose(wrapper.temperature_scale(x), x / result.calibration.temperature)


def test_a_temperature_that_another_optimiser_found_can_be_patched(tmp_path: Path) -> None:
    class Familiar(nn.Module):
        """The class that everyone copies, as its checkpoints know it."""

        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(2, 2)
            self.temperature = nn.Parameter(torch.ones(1) * 1.7)

    theirs = Familiar()
    model = builders.classifier([builders.softmax()], output="probs")
    plain = theirs.temperature.detach()
    for given in (theirs.temperature, plain[0], np.float32(1.7), plain.numpy()):
        assert onnxcal.patch(model, temperature=given).calibration.temperature == pytest.approx(1.7, rel=1e-7)
    onnxcal.patch(model, temperature=1.2, output=tmp_path / "patched.onnx")
    onnxcal.set_temperature(tmp_path / "patched.onnx", theirs.temperature)
    assert onnxcal.inspect(tmp_path / "patched.onnx").calibration.temperature == pytest.approx(1.7, rel=1e-7)
    torch.save(theirs.state_dict(), tmp_path / "wrapper.pt")
    torch.save({"epoch": 3, "state_dict": theirs.state_dict()}, tmp_path / "checkpoint.pt")
    for checkpoint in (theirs.state_dict(), tmp_path / "wrapper.pt", str(tmp_path / "checkpoint.pt")):
        calibration = read_temperature(checkpoint)
        assert onnxcal.patch(model, calibration).calibration.temperature == pytest.approx(1.7, rel=1e-7)
    ours = ModelWithTemperature(nn.Linear(2, 2))
    ours.load_state_dict(theirs.state_dict())
    assert ours.temperature.item() == pytest.approx(1.7, rel=1e-7)
    assert ours.calibration == onnxcal.Calibration(ours.temperature.item())


@pytest.mark.parametrize(
    "given", [torch.ones(2), torch.tensor([-1.0]), np.array([]), "warm", [1.5], torch.tensor(float("nan"))], ids=repr
)
def test_what_is_no_temperature_is_refused(given: Any) -> None:
    with pytest.raises(onnxcal.UsageError, match="temperature"):
        onnxcal.patch(builders.classifier([builders.softmax()], output="probs"), temperature=given)
    with pytest.raises(onnxcal.UsageError, match="temperature"):
        ModelWithTemperature(nn.Identity(), given)


def test_a_checkpoint_without_a_temperature_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no checkpoint")
    torch.save(nn.Linear(2, 2), tmp_path / "pickle.pt")
    for checkpoint, words in (
        (nn.Linear(2, 2).state_dict(), "0 entries named 'temperature'"),
        (tmp_path / "missing.pt", "cannot read"),
        (tmp_path / "text.pt", "no file of tensors"),
        (tmp_path / "pickle.pt", "no file of tensors"),
    ):
        with pytest.raises(onnxcal.DataError, match=words):
            read_temperature(checkpoint)


def test_importing_onnxcal_imports_no_torch_and_its_bridge_needs_no_import_of_its_own() -> None:
    assert onnxcal.torch.ModelWithTemperature is ModelWithTemperature
