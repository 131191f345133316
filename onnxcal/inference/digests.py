"""Digests of what a model was fed."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.inference.feeds import Feed


class Digests:
    """SHA-256 of each input and of the labels, the same for any batch size."""

    def __init__(self) -> None:
        self._by_name: dict[str, Any] = {}

    def update(self, feed: Feed, labels: NDArray[Any]) -> None:
        """Take in those samples of some runs that count."""
        for name, array in {**feed.arrays, "": labels}.items():
            digest = self._by_name.setdefault(name, hashlib.sha256())
            part = np.ascontiguousarray(array[: feed.size])
            if part.dtype.kind in "USO":  # strings; a length before each keeps ("ab", "c") from being ("a", "bc")
                texts = [str(item).encode() for item in part.reshape(-1)]
                digest.update(b"".join(len(text).to_bytes(8, "little") + text for text in texts))
            else:
                digest.update(part.view(np.uint8).data)

    def hexdigest(self) -> str:
        """Of all inputs and labels."""
        whole = hashlib.sha256()
        for name in sorted(self._by_name):
            whole.update(name.encode() + b"\0" + self._by_name[name].digest())
        return whole.hexdigest()
