"""Running models: `session.py` is the only file that imports onnxruntime; `collect.py` streams logits out of it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxcal.inference.collect import CollectedLogits, collect_logits
    from onnxcal.inference.feeds import Feeder
    from onnxcal.inference.session import InputSpec, Session, open_session

_LAZY = {  # so that `onnxcal runtimes` imports neither numpy nor onnx
    "CollectedLogits": "collect",
    "Feeder": "feeds",
    "InputSpec": "session",
    "Session": "session",
    "collect_logits": "collect",
    "open_session": "session",
}

__all__ = ["CollectedLogits", "Feeder", "InputSpec", "Session", "collect_logits", "open_session"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'onnxcal.inference' has no attribute {name!r}")
    return getattr(importlib.import_module(f"onnxcal.inference.{_LAZY[name]}"), name)
