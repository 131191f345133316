"""Settings of torch that make the tests quick."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from torch.onnx._internal.exporter._registration import ONNXRegistry


@pytest.fixture(scope="package", autouse=True)
def quick_torch() -> Iterator[None]:
    """One thread; and the list of all operators, which takes torch a second to make, is made once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield
    torch.set_num_threads(threads)
