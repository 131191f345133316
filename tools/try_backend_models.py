"""Try onnxcal on every model of ONNX's backend test corpus, and print how many went which way.

What it does: collects the models that the installed onnx package ships (`onnx/backend/test/data`) and those of its
single-operator cases (onnx makes them in memory; they are written to a temporary folder). For each it calls `inspect`,
then for each head `patch` with T = 2 and data, then `revert`. The data are the inputs that come with a case, and random
ones that fit the declared inputs; the first axis counts samples. Two processes share the work; a model that takes too
long, or that crashes its process, is counted as such and does not end the run.

A patch is believed only where onnxcal's own verification passed, and where this script's passed too: with T = 2 every
calibrated probability is in proportion to the square root of what the model gave before. That needs no logits, so it
also finds a head that was recognised wrongly.

What it prints: how many models were

    verified    patched, run, right by both checks, and reverted to the same bytes
    not run     patched and reverted, but onnxruntime cannot run the model, or the model cannot be fed
    refused     exit 2, with one sentence
    failed      exit 1: the patched model does not compute what was asked for
    bugs        any other exception or warning, a refusal of several lines, wrong numbers, a revert to other bytes

and why, one line a reason, with names and numbers left out, how often it was given, and a model it was given for.
Most of the corpus are no classifiers: refusing them is right. The exit code is 1 if anything failed or was a bug.

It needs no network.

    python tools/try_backend_models.py --only softmax --details softmax.json
"""

from __future__ import annotations

import argparse
import filecmp
import json
import multiprocessing
import re
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import ml_dtypes  # without it NumPy knows no bfloat16; onnx needs it too
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

import onnxcal
from onnxcal.graph.inspect import ModelInput

TEMPERATURE = 2.0
"""Two, because then calibrated probabilities go with the square roots of the raw ones."""
SMALLEST = 2.0**-23
"""What onnxcal takes for a probability of 0, where only probabilities are known."""
SAMPLES = 5
"""Random samples a model that takes any number; one that is built for a fixed number gets two batches and one more."""

LONGEST_REASON = 240
"""Characters; messages that differ only behind these are one reason."""

OUTCOMES = {
    "verified": "patched with T = 2, run, right, and reverted to the same bytes",
    "not run": "patched and reverted, but the model cannot be run or fed here",
    "refused": "exit 2, with one sentence",
    "failed": "exit 1: the patched model is not what was asked for",
    "bug": "something that must not happen",
    "timed out": "took too long",
    "crashed": "ended its process",
}
"""What can become of a model, and what that means."""
WORST_FIRST = ("bug", "failed", "crashed", "timed out", "verified", "not run", "refused")
"""A model with several heads counts as the first of these that any head is."""

Arrays: TypeAlias = dict[str, NDArray[Any]]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Model:
    """A file to try."""

    name: str
    """Path below the folder it was found in; `model.onnx` is left out."""
    path: Path
    """The file."""


@dataclass(frozen=True)
class Trial:
    """What became of one head, or of a model without one."""

    outcome: str
    """A key of `OUTCOMES`."""
    reason: str
    """The message, or what was recognised where nothing was wrong."""
    hint: str = ""
    """What onnxcal says to do about it."""
    output: str = ""
    """The head, empty for the whole model."""
    fed: tuple[str, ...] = ()
    """What it was verified on: `recorded`, `random`."""
    notes: tuple[str, ...] = ()
    """Other refusals on the way, and warnings."""
    trace: str = ""
    """Where a bug came from."""


@dataclass(frozen=True)
class Result:
    """What became of one model."""

    name: str
    """`Model.name`."""
    trials: tuple[Trial, ...]
    """One a head; one if there is none."""
    seconds: float = field(default=0.0, compare=False)
    """Wall time."""

    @property
    def outcome(self) -> str:
        """The worst of its heads'."""
        return min((trial.outcome for trial in self.trials), key=WORST_FIRST.index)


class Wrong(Exception):
    """What onnxcal did is not what it says it does."""


def main(argv: list[str] | None = None) -> int:
    """Try every model, print the table."""
    options = _parser().parse_args(argv)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="onnxcal-corpus-") as folder:
        models = [model for model in corpus(options.folder, Path(folder)) if options.only in model.name]
        results = list(try_all(models, options.jobs, options.timeout, _progress(len(models))))
    results.sort(key=lambda result: result.name)
    print_table(results, time.monotonic() - start)
    if options.details is not None:
        options.details.write_text(json.dumps(as_json(results), indent=1, ensure_ascii=False) + "\n")
    return int(any(result.outcome in ("bug", "failed") for result in results))


def corpus(folder: Path | None, scratch: Path) -> list[Model]:
    """The models below a folder; without one those of the installed onnx, made in `scratch` where need be."""
    if folder is not None:
        return models_below(folder)
    from onnx.backend.test.loader import DATA_DIR, load_model_tests

    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    write_cases(cases, scratch / "node")
    return models_below(Path(DATA_DIR)) + models_below(scratch)


def models_below(folder: Path) -> list[Model]:
    """Every `.onnx` file below a folder."""
    found = []
    for path in sorted(folder.rglob("*.onnx")):
        named = path.parent if path.name == "model.onnx" else path
        found.append(Model(named.relative_to(folder).as_posix(), path))
    return found


def write_cases(cases: Iterable[Any], folder: Path) -> None:
    """Write test cases of onnx as its own tools do: `NAME/model.onnx`, `NAME/test_data_set_0/input_0.pb`, …"""
    for case in cases:
        if case.model is None:
            continue  # it is a file already
        data = folder / case.name / "test_data_set_0"
        data.mkdir(parents=True)
        (folder / case.name / "model.onnx").write_bytes(case.model.SerializeToString())
        for number, value in enumerate(case.data_sets[0][0] if case.data_sets else ()):
            if isinstance(value, np.ndarray | np.generic):
                value = numpy_helper.from_array(np.asarray(value))
            if isinstance(value, onnx.TensorProto):
                (data / f"input_{number}.pb").write_bytes(value.SerializeToString())


def try_all(models: Sequence[Model], jobs: int, timeout: float, progress: Callable[[str], None]) -> Iterator[Result]:
    """Try models in `jobs` processes, in no certain order."""
    waiting = list(reversed(models))
    workers = [Worker() for _ in range(min(jobs, len(models)))]
    try:
        while waiting or any(worker.model for worker in workers):
            for worker in workers:
                if worker.model is None and waiting:
                    worker.start(waiting.pop(), timeout)
            for result in _finished([worker for worker in workers if worker.model]):
                progress(result.name)
                yield result
    finally:
        for worker in workers:
            worker.kill()


def _finished(busy: Sequence[Worker]) -> Iterator[Result]:
    """What is done, or over its time, when something is."""
    wait([worker.pipe for worker in busy], max(0.0, min(worker.deadline for worker in busy) - time.monotonic()))
    for worker in busy:
        result = worker.result()
        if result is not None:
            yield result


class Worker:
    """A process that tries one model after the other; a new one takes its place if it ends or takes too long."""

    def __init__(self) -> None:
        self.model: Model | None = None
        self._launch()

    def start(self, model: Model, timeout: float) -> None:
        """Give it a model."""
        self.model, self._timeout = model, timeout
        self._started = time.monotonic()
        self.deadline = self._started + timeout
        self.pipe.send(model)

    def result(self) -> Result | None:
        """What became of the model, None while nothing has."""
        assert self.model is not None
        name, seconds = self.model.name, time.monotonic() - self._started
        trials: tuple[Trial, ...]
        if self.pipe.poll():
            try:
                trials = self.pipe.recv()
            except (EOFError, OSError):
                self._process.join()
                trials = (Trial("crashed", f"the process ended with exit code {self._process.exitcode}"),)
                self._relaunch()
        elif time.monotonic() >= self.deadline:
            trials = (Trial("timed out", f"not done after {self._timeout:g} s"),)
            self._relaunch()
        else:
            return None
        self.model = None
        return Result(name, trials, seconds)

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def _launch(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def _relaunch(self) -> None:
        self.kill()
        self._launch()


def _work(pipe: Connection[Any, Any]) -> None:
    """Life of a worker: models in, trials out, until the other end is closed."""
    while True:
        try:
            model = pipe.recv()
        except EOFError:
            return
        pipe.send(try_model(model))


def try_model(model: Model) -> tuple[Trial, ...]:
    """Inspect a model, patch each of its heads, and take each patch out again."""
    with tempfile.TemporaryDirectory(prefix="onnxcal-try-") as folder:
        try:
            inspection = _without_noise(partial(onnxcal.inspect, model.path))
        except Exception as error:
            return (_trial(error),)
        seed = zlib.crc32(model.name.encode())  # its own, so that --only does not change what a model is fed
        data = feeds(model.path, inspection.inputs, seed)
        outputs: list[str | None] = [head.output for head in inspection.heads]
        trials = [try_head(model.path, output, data, Path(folder)) for output in outputs or [None]]
    return tuple(
        replace(
            trial,
            reason=trial.reason.replace(str(model.path), model.path.name),
            notes=(*trial.notes, *(f"inspect: {warning}" for warning in inspection.warnings)),
        )
        for trial in trials
    )


def try_head(path: Path, output: str | None, data: Mapping[str, Arrays], folder: Path) -> Trial:
    """Patch one head, once on each kind of data; without any that can be fed, do not run it."""
    verified: list[Trial] = []
    refused: list[Trial] = []
    for fed, arrays in data.items():
        try:
            trial = _without_noise(partial(patch_and_revert, path, output, arrays, folder))
        except Exception as error:
            trial = _trial(error, output or "", fed)
        if trial.outcome == "verified":
            verified.append(replace(trial, fed=(fed,)))
        elif trial.outcome == "refused":
            refused.append(trial)
        else:
            return trial
    if verified:
        return replace(verified[0], fed=tuple(trial.fed[0] for trial in verified))
    try:
        trial = _without_noise(partial(patch_and_revert, path, output, None, folder, seen=data.get("recorded")))
    except Exception as error:
        return _trial(error, output or "")
    if not refused:
        return replace(trial, reason="nothing to feed it with is known")
    others = tuple(other.reason for other in refused[1:] if other.reason != refused[0].reason)
    return replace(trial, reason=refused[0].reason, hint=refused[0].hint, notes=others)


def patch_and_revert(
    path: Path, output: str | None, data: Arrays | None, folder: Path, *, seen: Arrays | None = None
) -> Trial:
    """Patch a head, look at the numbers, revert, look at the bytes.

    What onnxcal cannot be given as `data`, because its first axes do not count samples, can still be `seen` here.

    Raises
    ------
    onnxcal.OnnxcalError
        onnxcal refused.
    Wrong
        It did not, and what it did is not right.
    """
    patched, back = folder / "patched.onnx", folder / "back.onnx"
    done = onnxcal.patch(
        path, temperature=TEMPERATURE, output=patched, head=output, data=data, force=True, batch_size=2, threads=1
    )
    head = done.head
    if output is None:
        raise Wrong(f"inspect finds no head, but patch takes '{head.output}'")
    if data is not None and (done.verification is None or not done.verification.passed):
        raise Wrong("patch returned without a verification that passed")
    if data is None and _passes_checker(path) and not _passes_checker(patched):  # else verification has looked
        raise Wrong("onnx.checker rejects the patched model, and not the original")
    look_at_numbers(head, path, patched, data, seen)
    found = onnxcal.inspect(patched).calibration
    if found is None or found.temperature != TEMPERATURE:
        raise Wrong("inspect does not find the calibration in the patched model")
    onnxcal.revert(patched, output=back, force=True)
    if not filecmp.cmp(path, back, shallow=False):
        raise Wrong("the reverted model is not the original, byte for byte")
    recognised = f"{head.task}, {head.activation}: {head.evidence}"
    outcome = "not run" if data is None else "verified"
    return Trial(outcome, recognised, output=head.output, notes=tuple(done.warnings))


def look_at_numbers(head: onnxcal.Head, path: Path, patched: Path, data: Arrays | None, seen: Arrays | None) -> None:
    """Run both models on one batch of `data`, or on all that is `seen`.

    Raises
    ------
    Wrong
        The patched model does not run where the original does, or its probabilities are not what T = 2 makes them.
    """
    arrays = seen if data is None else data
    if arrays is None:
        return
    try:
        before = _run(path, head.output, arrays, one_batch=data is not None)
    except Exception as error:  # onnxruntime's exceptions have no common base
        if data is not None:
            raise Wrong(f"onnxcal runs the model, this script cannot: {error}") from None
        return
    try:
        after = _run(patched, head.output, arrays, one_batch=data is not None)
    except Exception as error:
        raise Wrong(f"the model runs, patched it does not: {error}") from None
    distance, limit = square_root_error(head, before, after)
    if distance > limit:
        raise Wrong(f"calibrated probabilities are {distance:.2g} away from square roots (limit {limit:.2g})")


def square_root_error(head: onnxcal.Head, before: Any, after: Any) -> tuple[float, float]:
    """How far calibrated probabilities are from √p, normalised again, and how far they may be; (0, 0) if unknown.

    With z the logits, softmax(z/2)_k = √p_k / Σ_j √p_j for p = softmax(z), and σ(z/2) = √p / (√p + √(1−p)) for
    p = σ(z). A p that was rounded to 0 or 1 moves the root by √ε; where log p serves as logit, onnxcal holds p above ε.
    """
    if not isinstance(before, np.ndarray) or before.shape != after.shape or before.dtype.kind not in "fV":
        return 0.0, 0.0  # maps, or an output in other pieces
    eps = float(np.float64(ml_dtypes.finfo(after.dtype).eps))  # type: ignore[no-untyped-call]
    axes: tuple[int, ...] | None = (0,)
    with np.errstate(all="ignore"):
        p, got = before.astype(np.float64), after.astype(np.float64)
        if head.activation == "log_softmax":
            p, got = np.exp(p), np.exp(got)
        if head.task != "multiclass":
            p = 1 / (1 + np.exp(-p)) if head.activation == "none" else p
            p, got = np.stack([p, 1 - p]).clip(0, 1), np.stack([got, 1 - got])
        else:
            axes = tuple(range(head.axis, p.ndim)) if head.flatten else (head.axis,)
            if head.activation == "none":
                p = np.exp(p - p.max(axis=axes, keepdims=True))
                p /= p.sum(axis=axes, keepdims=True)
            elif not _sums_to_one(p, axes):  # the output may be laid out in another way than the logits
                axes = next(((axis,) for axis in range(p.ndim) if _sums_to_one(p, (axis,))), None)
        if axes is None:
            return 0.0, 0.0
        return _nearest([np.sqrt(p), np.sqrt(p.clip(SMALLEST))], axes, got), 2 * eps**0.5


def _nearest(roots: Sequence[NDArray[np.float64]], axes: tuple[int, ...], got: NDArray[np.float64]) -> float:
    """The largest distance from the nearer of two sets of roots; NaN is at the place of NaN only."""
    expected = [each / each.sum(axis=axes, keepdims=True) for each in roots]
    distances = [np.where(np.isnan(each) & np.isnan(got), 0.0, np.abs(each - got)) for each in expected]
    return min(float(np.where(np.isnan(each), np.inf, each).max(initial=0.0)) for each in distances)


def _sums_to_one(p: NDArray[np.float64], axes: tuple[int, ...]) -> bool:
    if max(axes) >= p.ndim:
        return False
    return p.size > 0 and float(np.abs(p.sum(axis=axes) - 1).max()) < 0.02


def _passes_checker(path: Path) -> bool:
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception:  # a ValidationError, or an InferenceError that is not exported
        return False
    return True


def _run(path: Path, output: str, data: Arrays, *, one_batch: bool) -> Any:
    """One output of a model, for all data or for a batch of the size that it is built for."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    sizes = {entry.shape[0] for entry in session.get_inputs() if entry.shape and isinstance(entry.shape[0], int)}
    size = sizes.pop() if one_batch and len(sizes) == 1 else None
    batch = {name: array if size is None else array[:size] for name, array in data.items()}
    batch = {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in batch.items()}
    return session.run([output], batch)[0]


def feeds(path: Path, inputs: Sequence[ModelInput], seed: int) -> dict[str, Arrays]:
    """What a model can be fed with: what was `recorded` for it, if anything, and `random` inputs of fitting shapes."""
    found = {"recorded": recorded(path, inputs), "random": random_inputs(inputs, seed)}
    return {name: arrays for name, arrays in found.items() if arrays}


def recorded(path: Path, inputs: Sequence[ModelInput]) -> Arrays:
    """The inputs beside a model, by name; none if they are not one tensor an input."""
    files = [path.parent / "test_data_set_0" / f"input_{number}.pb" for number in range(len(inputs))]
    arrays = {}
    for entry, file in zip(inputs, files, strict=True):
        if not file.exists():
            return {}
        try:
            arrays[entry.name] = numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes()))
        except Exception:  # a sequence, or another message
            return {}
    return arrays


def random_inputs(inputs: Sequence[ModelInput], seed: int) -> Arrays:
    """Normal numbers for floats, 0 and 1 for integers, of the declared shapes; axes of one name have one size."""
    rng = np.random.default_rng(seed)
    first = {entry.shape[0] for entry in inputs if entry.shape and isinstance(entry.shape[0], int)}
    samples = 2 * first.pop() + 1 if len(first) == 1 else SAMPLES
    free: dict[str, int] = {}
    arrays = {}
    for entry in inputs:
        shape = [] if entry.shape is None else [
            size if isinstance(size, int) else free.setdefault(str(size), 4) for size in entry.shape
        ]  # fmt: skip
        if shape:
            shape[0] = samples
        array = _random(rng, entry.dtype, shape)
        if array is None:
            return {}
        arrays[entry.name] = array
    return arrays


def _random(rng: np.random.Generator, dtype: str, shape: Sequence[int]) -> NDArray[Any] | None:
    """An array, None if nothing of this type can be made."""
    if dtype == "string":
        return rng.choice(np.array(["a", "b"]), size=shape)
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        return None
    if wanted.kind in "biu":
        return rng.integers(0, 2, size=shape).astype(wanted)
    return rng.normal(scale=3, size=shape).astype(wanted)


def print_table(results: Sequence[Result], seconds: float) -> None:
    """How many went which way, then the reasons of each way."""
    counts = Counter(result.outcome for result in results)
    versions = f"onnxcal {onnxcal.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}"
    print(f"{len(results):,} models, {seconds:.0f} s; {versions}\n")
    for outcome, meaning in OUTCOMES.items():
        print(f"{counts[outcome]:7,}  {outcome:10} {meaning}")
    for outcome in OUTCOMES:
        groups = by_reason(results, outcome)
        if groups:
            print(f"\n{outcome}: {sum(map(len, groups.values())):,} outputs or models\n")
        for reason, names in groups.items():
            print(f"{len(names):7,}  {reason}\n{'':9}for example {names[0]}")


def by_reason(results: Iterable[Result], outcome: str) -> dict[str, list[str]]:
    """The models (and heads) of one outcome by reason, the most frequent first."""
    groups: dict[str, list[str]] = {}
    for result in results:
        for trial in result.trials:
            if trial.outcome == outcome:
                where = f"{result.name}, output '{trial.output}'" if trial.output else result.name
                groups.setdefault(without_names(trial.reason), []).append(where)
    return dict(sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])))


def without_names(reason: str) -> str:
    """A message less what is particular to one model: quoted names are '…', numbers N; no finding twice."""
    reason = re.sub(r"'(?:[^']|(?<=\w)'(?=\w))*'", "'…'", reason)
    reason = re.sub(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)", "N", reason)
    begin, colon, rest = reason.partition(": ")
    reason = begin + colon + "; ".join(dict.fromkeys(rest.split("; ")))
    return reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} …"


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """Everything that was found, and with what."""
    return {
        "onnxcal": onnxcal.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "counts": {outcome: sum(result.outcome == outcome for result in results) for outcome in OUTCOMES},
        "models": [asdict(result) | {"outcome": result.outcome} for result in results],
    }


def _without_noise(call: Callable[[], _T]) -> _T:
    """What a call returns, where a warning of NumPy's that a user would see is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        return call()


def _trial(error: Exception, output: str = "", fed: str = "") -> Trial:
    """What an exception says of onnxcal."""
    fed_with = (fed,) if fed else ()
    if isinstance(error, Wrong):
        return Trial("bug", str(error), output=output, fed=fed_with)
    if not isinstance(error, onnxcal.OnnxcalError):
        trace = "".join(traceback.format_exception(error))
        return Trial("bug", f"{type(error).__name__}: {error}", output=output, fed=fed_with, trace=trace)
    outcome = "refused" if error.exit_code == 2 else "failed"
    if not error.message.strip() or "\n" in error.message:
        outcome = "bug"
    return Trial(
        outcome, error.message, error.hint or "", output, fed_with, notes=(error.details,) * bool(error.details)
    )


def _progress(total: int) -> Callable[[str], None]:
    """Counts models on the terminal, if there is one."""
    done = 0

    def show(name: str) -> None:
        nonlocal done
        done += 1
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r\x1b[K{done:,} of {total:,}  {name[:60]}", end=end, file=sys.stderr, flush=True)

    return show


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n    python")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="try the models below it instead")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="only models with this in their name")
    parser.add_argument("--details", type=Path, metavar="FILE.json", help="write everything that was found there")
    parser.add_argument("--timeout", type=_seconds, default=60.0, metavar="S", help="for one model (default: 60)")
    parser.add_argument("--jobs", type=_positive, default=2, metavar="N", help="processes (default: 2)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
