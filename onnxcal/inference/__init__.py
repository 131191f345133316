"""Running models: `session.py` is the only file that imports onnxruntime; `collect.py` streams logits out of it."""

from onnxcal.inference.collect import CollectedLogits, collect, collect_logits
from onnxcal.inference.feeds import Feeder
from onnxcal.inference.session import InputSpec, Session, open_session

__all__ = ["CollectedLogits", "Feeder", "InputSpec", "Session", "collect", "collect_logits", "open_session"]
