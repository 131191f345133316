"""`onnxcal logits`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxcal.cli import options


@click.command("logits", epilog="Example: onnxcal logits model.onnx --data validation.npz -o logits.npz")
@options.model_argument()
@options.data_options()
@click.option("-o", "--output", metavar="LOGITS.npz", required=True, type=click.Path(path_type=Path), help="Where to.")
@options.ignore_index_option()
@options.head_options()
@options.force_option()
@options.shown_options()
def command(model: Path, output: Path, force: bool, as_json: bool, quiet: bool, verbose: bool, **kwargs: Any) -> None:
    """Run MODEL over labelled data and keep its logits and labels, one row a sample."""
    import numpy as np

    from onnxcal.atomic import check_apart, check_writable, write_file
    from onnxcal.cli.show import progress_bar, show
    from onnxcal.data import paths_of
    from onnxcal.graph.filerecord import FileRecord, file_digest
    from onnxcal.inference import collect_logits
    from onnxcal.report import terminal
    from onnxcal.results import LogitsResult
    from onnxcal.subjects import class_names

    check_apart([output], [model, *paths_of(kwargs["data"]), kwargs["labels"]])
    check_writable(output, force=force)
    with progress_bar(quiet=quiet) as progress:
        found = collect_logits(model, progress=progress, **kwargs)
    origin = {"task": found.head.task, "output": found.head.output, "data_sha256": found.data_sha256}
    texts = {key: np.array(text) for key, text in origin.items()}
    if (names := class_names(found.head)) is not None:
        texts["classes"] = np.array(names)
    write_file(output, lambda file: np.savez(file, logits=found.values, labels=found.labels, **texts), force=force)  # type: ignore[arg-type]
    record = FileRecord(str(output), lambda: file_digest(output))
    result = LogitsResult(record, found.head, found.n_samples, found.data_sha256, found.warnings)
    show(result, terminal.print_logits, as_json=as_json, quiet=quiet, verbose=verbose)
