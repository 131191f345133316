"""The torch examples in their small setting: calibrating lowers NLL on images that the fit did not see."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NAMES = ("lenet_binary", "densenet_logsoftmax", "resnet_cifar", "multi_input", "segmentation")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def script(name: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES / name)
        return importlib.import_module(name)


def small(name: str, folder: Path) -> Any:
    figures = script(name).experiment(folder, small=True)
    assert "<svg" in (folder / f"{name}.svg").read_text(encoding="utf-8")
    return figures


def test_lenet_too_sure_of_shirts(tmp_path: Path) -> None:
    figures = small("lenet_binary", tmp_path)
    assert figures["temperature"] > 1.1
    assert figures["nll least NLL on validation"] < figures["nll as trained"]


def test_densenet_with_temperatures_on_both_sides_of_one(tmp_path: Path) -> None:
    figures = small("densenet_logsoftmax", tmp_path)
    assert figures["trained for long"]["temperature"] > 1.1
    assert figures["stopped early"]["temperature"] < 0.9
    assert figures["labels smoothed"]["temperature"] < 0.9
    assert all(one["nll after"] < one["nll before"] for one in figures.values())


def test_resnet_in_three_steps(tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    figures = small("resnet_cifar", tmp_path)
    assert figures["temperature"] > 1.05
    assert figures["nll after"] < figures["nll before"]
    for at in ("before", "after"):
        assert figures[f"second opinion {at}"] == pytest.approx(figures[f"ece {at}"], abs=1e-3)
    assert figures["wrapper"] == pytest.approx(figures["temperature"], rel=1e-4)
    assert figures["apart"] < 1e-5


def test_resnet_with_published_weights(published: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    """The figures are those of code that is not part of this project, for the same weights, images and halves."""
    figures = script("resnet_cifar").experiment(tmp_path, data=published)
    truth = expected["datasets"]["akamaster_resnet20_png1000"]
    assert figures["temperature"] == pytest.approx(truth["T"], rel=1e-5)
    for at in ("before", "after"):
        assert figures[f"nll {at}"] == pytest.approx(truth[f"test_{at}"]["nll"], rel=1e-5)
        assert figures[f"ece {at}"] == pytest.approx(truth[f"test_{at}"]["ece"], abs=1e-5)
    assert figures["wrapper"] == pytest.approx(figures["temperature"], rel=1e-5)
    assert figures["apart"] < 1e-5


def test_an_image_and_a_table_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = small("multi_input", tmp_path)
    assert figures["temperature"] > 1.1
    assert figures["nll after"] < figures["nll before"]
    assert len(re.findall(r"digits/\d{4}\.png: a \d", capsys.readouterr().out)) == 3


def test_a_label_for_every_pixel(tmp_path: Path) -> None:
    figures = small("segmentation", tmp_path)
    assert figures["nll after"] < figures["nll before"]
    assert figures["pixels"] < 20 * 32 * 32


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_an_example_shows_its_picture(name: str) -> None:
    page = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    assert f"]({name}.svg)" in page
    assert (EXAMPLES / name / f"{name}.svg").exists()
    assert f"({name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
