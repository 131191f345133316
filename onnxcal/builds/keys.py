"""What may stand in an onnxcal.toml: every key with its type and range. The parser and the JSON Schema read this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["string", "integer", "number", "boolean", "strings"]
"""Type of a value; `strings` is one string or a list of them."""


@dataclass(frozen=True)
class Key:
    """One key."""

    kind: Kind
    """Type of its value."""
    about: str
    """What it says, one sentence."""
    path: bool = False
    """Whether it names a file, relative to the TOML file."""
    minimum: float | None = None
    """Smallest number."""
    maximum: float | None = None
    """Largest number."""
    open_maximum: bool = False
    """Whether the largest number is excluded."""
    choices: tuple[str, ...] = ()
    """The strings that are known; any if empty."""
    word: str | None = None
    """A string that may stand for the number."""
    is_result: bool = True
    """Whether OUT, or whether it is written, can depend on it."""

    @property
    def option(self) -> str:
        """What the value must be, in words."""
        words = {"string": "a string", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
        if self.choices:
            return "one of " + ", ".join(self.choices)
        said = words.get(self.kind, "a string or a list of strings")
        if self.minimum is not None and self.maximum is not None:
            said += f" from {self.minimum:g} to {'below ' if self.open_maximum else ''}{self.maximum:g}"
        elif self.minimum is not None:
            said += f" from {self.minimum:g}"
        return said if self.word is None else f"{said}, or '{self.word}'"


OPTIONS: Mapping[str, Key] = {
    "data": Key(
        "string",
        "Labelled samples: x.npz or shard-*.npz, x.npy with labels, x.csv, x.parquet, a folder of images with "
        "preprocess, module:callable or file.py:callable.",
        path=True,
    ),
    "labels": Key("string", "Labels as .npy or .npz.", path=True),
    "preprocess": Key("string", "How images become inputs: a preset, or a .toml or .json file.", path=True),
    "label-column": Key("string", "Where a table has its labels."),
    "eval-data": Key("string", "Measure on this data instead of on a held-out half.", path=True),
    "eval-labels": Key("string", "Labels of eval-data.", path=True),
    "depends": Key(
        "strings", "More files that data written as a callable reads: what they hold counts too.", path=True
    ),
    "no-holdout": Key("boolean", "Measure on the samples that are fitted on."),
    "head": Key("strings", "The output to calibrate, or several."),
    "task": Key("string", "What the classes mean.", choices=("multiclass", "binary", "multilabel")),
    "axis": Key("integer", "The class axis of the logits."),
    "activation": Key("string", "What makes the output.", choices=("none", "softmax", "log_softmax", "sigmoid")),
    "method": Key("string", "The calibrator to fit.", choices=("temperature",)),
    "ignore-index": Key("integer", "Drop samples (or pixels) with this label."),
    "exact": Key("boolean", "Find T to 1e-12 of itself."),
    "prior": Key("number", "Log-normal prior on T: standard deviation of log T.", minimum=0.01, maximum=100),
    "smoothing": Key(
        "number", "Spread this share of each label over all classes.", minimum=0, maximum=1, open_maximum=True
    ),
    "bootstrap": Key("integer", "Resamples for the intervals; 0 for none.", minimum=0, maximum=100_000),
    "seed": Key("integer", "Of the holdout split and resamples.", minimum=0),
    "output-name": Key("string", "New name of the output."),
    "keep-logits": Key("boolean", "Add the calibrated logits as one more output."),
    "fold": Key("boolean", "Divide the last weights by T, so that no division is added."),
    "runtime-temperature": Key("boolean", "Make T an optional input of the graph."),
    "batch-size": Key("integer", "Samples a run.", minimum=1, word="auto"),
    "provider": Key("string", "onnxruntime execution provider."),
    "threads": Key("integer", "Threads of one run; default all cores.", minimum=1, is_result=False),
    "target": Key("strings", "What must be able to load it, such as onnxruntime==1.17."),
    "runtime": Key("strings", "Other runtimes that the calibrated model must be right in; see onnxcal runtimes."),
    "runtime-samples": Key("integer", "Samples that each of them runs.", minimum=1),
    "runtime-timeout": Key(
        "number", "Seconds after which one has failed.", minimum=0.001, maximum=86_400, is_result=False
    ),
}
"""What may stand in `[defaults]` and in a target; named as the options of `onnxcal calibrate`."""

FILES: Mapping[str, Key] = {
    "model": Key("string", "The .onnx file to calibrate.", path=True),
    "output": Key("string", "Where the calibrated model goes; default <stem>.calibrated.onnx beside it.", path=True),
    "save-calibration": Key("string", "Keep the calibration in this CAL.json too.", path=True, is_result=False),
    "report": Key("string", "Write an HTML report (extra: report).", path=True, is_result=False),
    "summary": Key("string", "Write a short Markdown summary.", path=True, is_result=False),
}
"""What stands in a target alone."""

BESIDES = tuple(key for key in FILES if key not in ("model", "output"))
"""What is written beside the calibrated model, if it is asked for."""

GATES: Mapping[str, Key] = {
    "max-ece": Key("number", "Largest ECE after calibration.", minimum=0, maximum=1),
    "max-nll": Key("number", "Largest NLL after calibration, nats.", minimum=0, maximum=1e6),
    "min-accuracy": Key("number", "Smallest accuracy.", minimum=0, maximum=1),
    "max-temperature-change": Key(
        "number", "Largest relative change of T since the last build.", minimum=0, maximum=1e6
    ),
    "require-improvement": Key("boolean", "The 95 % interval of the change of held-out NLL must be below 0."),
}
"""What may stand in `gates`, of the whole file or of a target."""

REQUIRED = ("model", "data")
"""What every target must have, itself or from `[defaults]`."""
