"""Options that mean the same in every command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

Function = TypeVar("Function", bound=Callable[..., Any])

TASKS = ("multiclass", "binary", "multilabel")
ACTIVATIONS = ("none", "softmax", "log_softmax", "sigmoid")
METHODS = ("temperature",)


class _BatchSize(click.IntRange):
    """A number, or `auto`."""

    name = "batch size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """`auto` as it is, everything else as a number."""
        return value if value == "auto" else super().convert(value, param, ctx)


class DataName(StringParamType):
    """Where data comes from: mostly a file, which a shell can complete."""

    name = "data"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files that begin so."""
        return [CompletionItem(incomplete, type="file")]


def model_argument(name: str = "model", metavar: str = "MODEL") -> Callable[[Function], Function]:
    """An .onnx file."""
    return click.argument(name, metavar=metavar, type=click.Path(path_type=Path))


def data_options(*, required: bool = True) -> Callable[[Function], Function]:
    """Where labelled samples come from, and how a model is run over them."""
    return _all(
        click.option(
            "--data", metavar="DATA", required=required, type=DataName(),
            help="x.npz or 'shard-*.npz', x.npy with --labels, x.csv or x.parquet, a folder of images with "
            "--preprocess, a saved Hugging Face dataset, package.module:callable or file.py:callable.",
        ),
        click.option("--labels", metavar="FILE", type=click.Path(path_type=Path), help="Labels as .npy or .npz."),
        click.option(
            "--preprocess", metavar="PRESET|FILE", type=DataName(),
            help="How images become inputs: imagenet or another preset, or a .toml or .json file (extra: images).",
        ),
        click.option(
            "--label-column", metavar="NAME",
            help="Where a table has its labels; default labels, label, y, target, targets or class (extra: tables).",
        ),
        click.option(
            "--batch-size", metavar="N", type=_BatchSize(1), default=64, show_default=True,
            help="Samples a run; auto tries which number is fastest.",
        ),
        click.option("--provider", metavar="NAME", help="onnxruntime execution provider; default CPU."),
        click.option("--threads", type=click.IntRange(1), help="Threads of one run; default all cores."),
    )  # fmt: skip


def runtime_options() -> Callable[[Function], Function]:
    """Where else a calibrated model is run."""
    return _all(
        click.option(
            "--runtime", metavar="NAME", multiple=True,
            help="Also check the model in this runtime; may be repeated; all for those that are installed (onnxcal "
            "runtimes lists them).",
        ),
        runtime_limits(),
    )  # fmt: skip


def runtime_limits() -> Callable[[Function], Function]:
    """How far a runtime is asked."""
    return _all(
        click.option(
            "--runtime-samples", type=click.IntRange(1), default=1000, show_default=True, metavar="N",
            help="Samples that a runtime runs.",
        ),
        click.option(
            "--runtime-timeout", type=click.FloatRange(0, 86_400, min_open=True), default=120.0, show_default=True,
            metavar="S", help="Seconds that a runtime has.",
        ),
    )  # fmt: skip


def ignore_index_option() -> Callable[[Function], Function]:
    """`--ignore-index`."""
    return click.option("--ignore-index", type=int, metavar="I", help="Drop samples (or pixels) labelled I.")


def head_options(*, several: bool = False) -> Callable[[Function], Function]:
    """Which output, and what overrides its detection."""
    more = "; may be repeated." if several else "."
    return _all(
        click.option(
            "--head", metavar="NAME", multiple=several, help=f"The output to calibrate, where a model has several{more}"
        ),
        *task_options(),
        click.option("--activation", type=click.Choice(ACTIVATIONS), help="What makes the output; default detected."),
    )


def task_options() -> tuple[Callable[[Function], Function], ...]:
    """What a row of logits means."""
    return (
        click.option("--task", type=click.Choice(TASKS), help="What the classes mean; default detected."),
        click.option("--axis", type=int, metavar="N", help="The class axis of the logits; default detected."),
    )


def patch_options() -> Callable[[Function], Function]:
    """Where a patched model goes, and what is changed besides."""
    return _all(
        click.option(
            "-o", "--output", metavar="OUT", type=click.Path(path_type=Path),
            help="Default: MODEL's name with .calibrated.onnx, beside it.",
        ),
        click.option("--in-place", is_flag=True, help="Write to MODEL itself."),
        click.option("--output-name", metavar="NAME", help="Rename the output; default: it keeps its name."),
        click.option("--keep-logits", is_flag=True, help="Add the calibrated logits as one more output."),
        click.option("--fold", is_flag=True, help="Divide the last weights by T, so that no division is added."),
        click.option(
            "--runtime-temperature", is_flag=True, help="Make T an optional input, with T as default (onnxruntime)."
        ),
        force_option(),
    )  # fmt: skip


def fit_options() -> Callable[[Function], Function]:
    """How a temperature is fitted, and how sure its effect is."""
    return _all(
        click.option("--exact", is_flag=True, help="Find T to 1e-12 of itself, and give the gradient there."),
        click.option(
            "--prior", type=click.FloatRange(0.01, 100), metavar="SIGMA",
            help="Log-normal prior on T: the standard deviation of log T around 0; 1 is weak. Default none.",
        ),
        click.option(
            "--smoothing", type=click.FloatRange(0, 1, max_open=True), metavar="EPS",
            help="Spread this share of each label over all classes (Laplace: 1/(N+1)). Default none.",
        ),
        bootstrap_options(),
    )  # fmt: skip


def bootstrap_options() -> Callable[[Function], Function]:
    """How sure scores are."""
    return _all(
        click.option(
            "--bootstrap", type=click.IntRange(0, 100_000), default=1000, show_default=True, metavar="N",
            help="Resamples for the intervals of the scores; 0 for none.",
        ),
        click.option(
            "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the holdout split and resamples."
        ),
    )  # fmt: skip


def force_option() -> Callable[[Function], Function]:
    """`--force`."""
    return click.option("--force", is_flag=True, help="Replace the output file if it exists.")


def method_option() -> Callable[[Function], Function]:
    """`--method`."""
    return click.option(
        "--method", type=click.Choice(METHODS), default="temperature", show_default=True, help="The calibrator to fit."
    )


def shown_options() -> Callable[[Function], Function]:
    """How much is printed."""
    return _all(
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, nothing else."),
        click.option("-q", "--quiet", is_flag=True, help="Print only warnings and errors."),
        click.option("-v", "--verbose", is_flag=True, help="Print every check, and tracebacks of bugs."),
    )


def depfile_option() -> Callable[[Function], Function]:
    """`--depfile`."""
    return click.option(
        "--depfile", metavar="FILE.d", type=click.Path(path_type=Path),
        help="Write which files were read, as a rule for Make or Ninja.",
    )  # fmt: skip


def gate_options() -> Callable[[Function], Function]:
    """Limits that a calibration has to keep; beyond one, nothing is written and the exit code is 1."""
    return _all(
        click.option("--max-ece", type=click.FloatRange(0), metavar="X", help="Gate: ECE after, at most X."),
        click.option("--max-nll", type=click.FloatRange(0), metavar="X", help="Gate: NLL after, at most X nats."),
        click.option("--min-accuracy", type=click.FloatRange(0), metavar="X", help="Gate: accuracy, at least X."),
        click.option(
            "--max-temperature-change", type=click.FloatRange(0), metavar="X",
            help="Gate: T is within X of T in the OUT that is replaced; 0.2 allows 20 %.",
        ),
        click.option(
            "--require-improvement", is_flag=True,
            help="Gate: the 95 % interval of the change of held-out NLL is below 0.",
        ),
    )  # fmt: skip


def target_option() -> Callable[[Function], Function]:
    """`--target`."""
    return click.option(
        "--target", metavar="NAME==VERSION", multiple=True,
        help="Gate: onnxruntime==1.17 (or another) can load it, by IR version, opsets and operators; may be repeated.",
    )  # fmt: skip


def junit_option() -> Callable[[Function], Function]:
    """`--junit`."""
    return click.option(
        "--junit", metavar="FILE.xml", type=click.Path(path_type=Path),
        help="Write every check as a test in JUnit XML, also when one fails; replaces an older one.",
    )  # fmt: skip


def plot_option() -> Callable[[Function], Function]:
    """`--plot`."""
    return click.option("--plot", is_flag=True, help="Draw a reliability diagram in the terminal.")


def _all(*decorators: Callable[[Function], Function]) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate
