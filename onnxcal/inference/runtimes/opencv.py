"""OpenCV's dnn module."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from onnxcal.inference.runtimes.parts import Distribution
from onnxcal.inference.runtimes.runtime import Job, Program, Runtime


class _Loaded:
    def __init__(self, job: Job) -> None:
        import cv2

        self._net: Any = cv2.dnn.readNetFromONNX(os.fspath(job.model))
        shown = list(self._net.getUnconnectedOutLayersNames())
        by_name = [next((s for s in shown if s == name or s.endswith(f"!{name}")), None) for name in job.outputs]
        self._outputs = shown if None in by_name else by_name

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        for name, array in feeds.items():
            self._net.setInput(array, name)
        return list(self._net.forward(self._outputs))


def _load(job: Job) -> Program:
    return _Loaded(job)


RUNTIME = Runtime(
    name="opencv",
    what="OpenCV's dnn module",
    parts=(
        Distribution(
            ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
        ),
    ),
    install="pip install 'onnxcal[opencv]'",
    load=_load,
)
