"""`--summary` and `inspect --card`: a calibration as a short Markdown text, for a pull request or a model card.

Both are written from what the calibrated file says of itself; a summary also knows what running it showed. Names come
out of files that anyone may have made: they stand in code, where nothing is a link, a mention, markup or a new cell.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from onnxcal.atomic import write_file
from onnxcal.calibrators import Calibration
from onnxcal.errors import ModelError
from onnxcal.graph.inspect import Inspection, inspect
from onnxcal.metrics.recorded import RecordedMetrics
from onnxcal.report.printable import printable
from onnxcal.report.runtimes import runtime_outcome
from onnxcal.report.verdict import sentence
from onnxcal.results import CalibrateResult
from onnxcal.verification import RuntimeCheck, Verification

_LONGEST = 200
_PLAIN = re.compile(r"[\w./:+-]+(?: [\w./:+-]+)*")
_SPLITS = {"holdout": "held-out half", "eval": "evaluation set", "fit": "the samples fitted on"}
_SCORES = (
    ("accuracy", "accuracy", "{:.2%}"),
    ("mean confidence", "confidence", "{:.2%}"),
    ("NLL, nats", "nll", "{:.4f}"),
    ("ECE, 15 bins", "ece", "{:.4f}"),
    ("Brier score", "brier", "{:.4f}"),
)


def write_summary(result: CalibrateResult, path: str | os.PathLike[str], *, force: bool) -> None:
    """Write the summary of a calibration.

    Raises
    ------
    UsageError
        The file exists and `force` is False, or it cannot be written.
    """
    patched = result.proto if result.output.path is None else result.output.path
    assert patched is not None
    text = card_of(inspect(patched), result.verification, result.warnings)
    write_file(path, lambda file: file.write(text.encode()), force=force)  # type: ignore[arg-type]


def card_of(found: Inspection, verification: Verification | None = None, warnings: Sequence[str] = ()) -> str:
    """What a calibrated model says of itself, and what running it showed, if that is known.

    Raises
    ------
    ModelError
        The model carries no calibration.
    """
    name = "the model" if found.model.path is None else os.path.basename(found.model.path)
    if not found.calibrations:
        raise ModelError(
            f"'{name}' carries no calibration: there is nothing to say of it",
            hint="pass a file that onnxcal calibrate or onnxcal patch wrote",
        )
    lines = [f"### {_code(name)}: calibrated probabilities", ""]
    for calibration, metrics in zip(found.calibrations, found.metrics, strict=True):
        lines += _head(calibration, metrics)
    lines += _table(["file", ""], _rows(found, verification), "lr")
    lines += [f"- {_prose(warning)}" for warning in warnings]
    return "\n".join(lines).rstrip() + "\n"


def _head(calibration: Calibration, metrics: RecordedMetrics | None) -> Iterator[str]:
    told = "T was given, not measured." if metrics is None else sentence(calibration, metrics)
    yield from (f"Output {_code(calibration.output or '')}: {told}", "")
    if metrics is not None:
        title = f"{_SPLITS[metrics.split]}, {metrics.n_samples:,} samples"
        sure = metrics.intervals
        change = [] if sure is None else [f"change ({sure.level:.0%})".replace("%", " %")]
        yield from _table([title, "before", "after", *change], map(list, _scores(metrics)), "lrrr")
    yield from _table(["temperature", ""], [["T", _temperature(calibration)], *_data(calibration)], "lr")


def _scores(metrics: RecordedMetrics) -> Iterator[list[str]]:
    sure = metrics.intervals
    for name, key, form in _SCORES:
        row = [name]
        for part in ("before", "after"):
            ends = getattr(getattr(sure, part, None), key, None)
            value = form.format(getattr(getattr(metrics, part), key))
            row.append(value if ends is None else f"{value} ({form.format(ends[0])} to {form.format(ends[1])})")
        ends = getattr(getattr(sure, "difference", None), key, None)
        change = "" if ends is None else " to ".join(form.replace("{:", "{:+").format(end) for end in ends)
        yield [cell.replace("%", " %") for cell in (row if sure is None else [*row, change])]


def _temperature(calibration: Calibration) -> str:
    text = f"{calibration.temperature:.5g}"
    if calibration.interval is not None:
        low, high = calibration.interval
        text += f", 95 % interval {low:.4g} to {high:.4g}"
    if calibration.n_samples is not None:
        text += f", fitted on {calibration.n_samples:,} samples"
    return text


def _data(calibration: Calibration) -> list[list[str]]:
    return [] if calibration.data_sha256 is None else [["data", f"SHA-256 {_code(calibration.data_sha256)}"]]


def _rows(found: Inspection, verification: Verification | None) -> Iterator[list[str]]:
    yield ["verified", _verified(verification)]
    for entry in () if verification is None else verification.runtimes[1:]:
        yield [f"in {_code(f'{entry.title} {entry.version}'.strip())}", _elsewhere(entry)]
    yield ["calibrated model", f"SHA-256 {_code(found.model.sha256)}"]
    yield ["made from", f"SHA-256 {_code(found.made_from or '')}"]
    yield ["made by", f"onnxcal {_code(found.made_by or '')}"]


def _verified(verification: Verification | None) -> str:
    if verification is None:
        return "the file does not say; `onnxcal verify` runs it"
    runtime = verification.runtimes[0]
    limits = [check.limit for check in verification.checks if check.limit]
    limit = f" (limit {min(limits):.2g})" if limits else ""
    said = "yes" if verification.passed else "**no**"
    return (
        f"{said}: {runtime.name} {runtime.version}, {runtime.n_samples:,} samples, "
        f"largest error {runtime.max_abs_error:.2g}{limit}, {runtime.argmax_changed:,} predictions changed"
    )


def _elsewhere(entry: RuntimeCheck) -> str:
    """How it did in another runtime."""
    if entry.max_abs_error is None:
        return f"{runtime_outcome(entry)}: {_prose(entry.detail)}"
    said = f"{runtime_outcome(entry)}: {entry.n_samples:,} samples, largest error {entry.max_abs_error:.2g}"
    limit = "" if entry.tolerance is None else f" (limit {entry.tolerance:.2g})"
    changed = f", {entry.argmax_changed:,} predictions changed"
    return said + limit + changed + (f"; {_prose(entry.detail)}" if entry.detail else "")


def _table(header: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]], sides: str) -> Iterator[str]:
    """A table and an empty line; `sides`: l and r, how each column stands."""
    yield f"| {' | '.join(header)} |"
    yield f"| {' | '.join('---:' if side == 'r' and len(header) > 2 else '---' for side in sides[: len(header)])} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _code(text: str) -> str:
    """A name as code; whatever means something to Markdown is spelled as an HTML entity."""
    shown = printable(text)
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
    return f"`{shown}`" if _PLAIN.fullmatch(shown) else f"<code>{_entities(shown)}</code>"


def _prose(text: str) -> str:
    """A sentence with names in it; as code, where it has what a web page would make a mention or a link of."""
    shown = printable(text)
    return f"<code>{_entities(shown)}</code>" if re.search(r"[@#]|://|www\.", shown) else _entities(shown)


def _entities(text: str) -> str:
    return re.sub(r"[^\w\s.,;:/'()%=+-]|_", lambda match: f"&#{ord(match[0])};", text)
