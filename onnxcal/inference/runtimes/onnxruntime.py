"""onnxruntime, at each level of its optimisations, on each execution provider that is at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from numpy.typing import NDArray

from onnxcal.inference.runtimes.parts import Distribution
from onnxcal.inference.runtimes.runtime import Conversion, Job, Program, Runtime, Setting

LEVELS: tuple[Literal["off", "basic", "all"], ...] = ("off", "basic", "all")


def _settings() -> tuple[Setting, ...]:
    from onnxcal.inference.session import local_providers

    return tuple(
        Setting(level if provider == "CPU" else f"{level}, {provider}")
        for provider in local_providers()
        for level in LEVELS
    )


def _load(job: Job) -> Program:
    from onnxcal.graph.modelfile import open_model
    from onnxcal.inference.ort_format import SUFFIX, open_ort
    from onnxcal.inference.session import Session, open_session

    name, _, provider = job.setting.partition(", ")
    level = next(level for level in LEVELS if level == name)
    if job.model.suffix == SUFFIX:
        session = open_ort(job.model, provider=provider or None, optimisations=level)
    else:
        session = open_session(open_model(job.model), provider=provider or None, optimisations=level)

    class _Loaded:
        def __init__(self, session: Session) -> None:
            self._session = session

        def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
            return self._session.run(feeds, job.outputs)

    return _Loaded(session)


def _convert(conversion: Conversion) -> None:
    from onnxcal.inference.ort_format import convert

    convert(conversion.job.model, conversion.target)


RUNTIME = Runtime(
    name="onnxruntime",
    what="with optimisations off, basic and all",
    parts=(Distribution(("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")),),
    install="pip install onnxruntime",
    load=_load,
    convert=_convert,
    settings=_settings,
)
