"""onnxruntime's own format, .ort: writing it, opening it, and the operators that a minimal build needs for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from onnxcal.errors import ModelError
from onnxcal.inference.session import Optimisations, Session, provider_named, session_options

SUFFIX = ".ort"
CONFIG_SUFFIX = ".required_operators.config"


def convert(model: Path, target: Path) -> None:
    """Write a model as .ort, optimised for any processor, and the operators it needs beside it.

    The target stands beside the model, with its stem. The converter's remarks, which name folders, are left out.
    """
    from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort

    convert_onnx_models_to_ort(
        model, output_dir=target.parent, optimization_styles=[OptimizationStyle.Fixed], allow_conversion_failures=False
    )
    config = target.with_suffix(CONFIG_SUFFIX)
    lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("#")), encoding="utf-8")


def open_ort(path: Path, *, provider: str | None, optimisations: Optimisations) -> Session:
    """Load an .ort file.

    Raises
    ------
    ModelError
        onnxruntime cannot load it.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(
            os.fspath(path), session_options(optimisations), providers=[provider_named(provider)]
        )
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ModelError(f"onnxruntime cannot load {path.name}: {error}") from None
    return Session(session, path.name, str(onnxruntime.__version__))


def operators(config: Path) -> Iterator[str]:
    """Operators of a config file, each as `Div` or `com.microsoft.QGemm`, with the opset: `Div (ai.onnx 13)`."""
    for line in config.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "!")):
            domain, opset, names = line.split(";", 2)
            yield from (f"{name} ({domain} {opset})" for name in names.split(","))
