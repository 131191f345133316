"""Where labelled batches come from: one source a file; `open_source` chooses. Nothing here knows about models."""

from onnxcal.data.batch import Batch, Source
from onnxcal.data.open import open_source, paths_of

__all__ = ["Batch", "Source", "open_source", "paths_of"]
