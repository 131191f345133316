"""Classifiers as they are found in the wild, and the truth about each: `FORMS`. One function a form or family."""

from tests.corpus.forms import (  # noqa: F401  each registers its own
    axes,
    clipped,
    columns,
    endings,
    ml,
    moves,
    odd,
    pieces,
    probabilities,
    quantized,
    readers,
    selections,
    trees,
    zipmaps,
)
from tests.corpus.forms.register import FORMS
from tests.corpus.forms.variants import variants

VARIANTS = list(variants(FORMS))
"""The same endings in odder graphs."""

__all__ = ["FORMS", "VARIANTS"]
