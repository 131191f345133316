"""What a patch does must not depend on how the rest of the graph is written: the main checks, over `VARIANTS`."""

from __future__ import annotations

import pytest

from tests.corpus.forms import VARIANTS
from tests.corpus.test_forms import (  # noqa: F401  collected here too, with the cases of this module
    Case,
    test_changed_nodes_differ_by_tensor_names_only,
    test_checkers_are_no_less_content_than_before,
    test_everything_else_stays_byte_for_byte,
    test_its_head_is_found,
    test_new_nodes_are_named_once_tagged_and_typed,
    test_other_outputs_are_bit_identical,
    test_output_name_and_keep_logits,
    test_revert_gives_the_original_back,
    test_temperature_is_an_initializer_of_one_number,
    test_the_calibrated_output_equals_the_reference,
    test_verification_passes,
)


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp("variant"))


@pytest.fixture(params=[{"output_name": "calibrated"}, {"keep_logits": True}], ids=str)
def options(request: pytest.FixtureRequest) -> dict:
    return request.param
