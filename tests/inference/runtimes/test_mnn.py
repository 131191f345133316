"""What MNN is given; MNN itself is not needed for that."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcal.inference.runtimes.mnn import _narrowed


def test_integers_of_64_bits_become_those_of_32_that_its_converter_makes_of_them() -> None:
    found = _narrowed("ids", np.array([[-(2**31), 2**31 - 1]]))
    assert found.dtype == np.int32
    assert found.tolist() == [[-(2**31), 2**31 - 1]]
    x = np.ones(2, np.float32)
    assert _narrowed("x", x) is x


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_integers_that_32_bits_do_not_hold_are_an_error(value: int) -> None:
    with pytest.raises(ValueError, match="input 'ids' has larger ones"):
        _narrowed("ids", np.array([0, value]))
