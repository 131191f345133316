"""`onnxcal fit` on files: shards of one set are fitted as the set."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from onnxcal.calibrators import fit
from onnxcal.data.shards import fit_files
from onnxcal.errors import DataError, UsageError
from tests.reference.problems import multiclass
from tests.reference.refusals import refused

Z, Y = multiclass(600, 4)
W = np.random.default_rng(0).integers(0, 3, 600).astype(float)
PARTS = [slice(0, 250), slice(250, 251), slice(251, 600)]


@pytest.fixture
def shards(tmp_path):
    def write(**more):
        paths = []
        for number, part in enumerate(PARTS):
            paths.append(tmp_path / f"shard-{number}.npz")
            extra = {name: value(number, part) for name, value in more.items()}
            np.savez(paths[-1], logits=Z[part], labels=Y[part], **extra)
        return paths

    return write


def test_shards_are_fitted_as_the_whole(shards):
    assert fit_files(shards()).as_json() == fit(Z, Y).as_json()
    weighted = fit_files(shards(sample_weight=lambda _, part: W[part]))
    assert weighted.as_json() == fit(Z, Y, sample_weight=W).as_json()


def test_one_file_is_no_less(tmp_path):
    np.savez(tmp_path / "z.npz", logits=Z, labels=Y, sample_weight=W, output="probs", data_sha256="ab" * 32)
    found = fit_files([tmp_path / "z.npz"])
    assert (found.output, found.data_sha256) == ("probs", "ab" * 32)
    assert found.temperature == fit(Z, Y, sample_weight=W).temperature
    once = fit_files([tmp_path / "z.npz"], no_spool=True)
    assert once.temperature == pytest.approx(found.temperature, rel=1e-10)
    assert (once.output, once.metrics) == ("probs", None)


def test_a_single_pass_over_shards_finds_the_same_in_any_order(shards):
    paths = shards()
    found = {fit_files(order, no_spool=True).temperature for order in (paths, paths[::-1], [*paths[1:], paths[0]])}
    wanted = fit(Z, Y, exact=True).temperature
    assert list(found) == pytest.approx([wanted] * len(found), rel=1e-10)


def test_the_digest_is_that_of_the_digests(shards):
    found = fit_files(shards(data_sha256=lambda number, _: f"{number:064x}"))
    assert found.data_sha256 == hashlib.sha256("".join(f"{i:064x}" for i in range(3)).encode()).hexdigest()
    assert fit_files(shards()).data_sha256 is None


@pytest.mark.parametrize("no_spool", [False, True])
@pytest.mark.parametrize("key", ["output", "task"])
def test_shards_of_different_heads_are_refused(shards, no_spool, key):
    names = {"output": ["a", "a", "b"], "task": ["multiclass", "multiclass", "multilabel"]}[key]
    with refused(UsageError, "shard-2.npz' holds logits of", names[2], "shard-0.npz"):
        fit_files(shards(**{key: lambda number, _: names[number]}), no_spool=no_spool)


@pytest.mark.parametrize("no_spool", [False, True])
def test_shards_of_different_classes_are_refused(shards, no_spool):
    paths = shards()
    np.savez(paths[1], logits=Z[:5, :3], labels=Y[:5] % 3)
    with refused(DataError, "batch 1 differs"):
        fit_files(paths, no_spool=no_spool)


def test_what_is_measured_on_may_have_weights(shards, tmp_path):
    np.savez(tmp_path / "eval.npz", logits=Z, labels=Y, sample_weight=W)
    found = fit_files(shards(), tmp_path / "eval.npz").metrics
    repeated = W.astype(int)
    wanted = fit(Z, Y, eval_data=(np.repeat(Z, repeated, axis=0), np.repeat(Y, repeated))).metrics
    assert found.after.nll == pytest.approx(wanted.after.nll, rel=1e-12)
    once = fit_files(shards(), tmp_path / "eval.npz", no_spool=True).metrics
    assert once.after.nll == pytest.approx(wanted.after.nll, rel=1e-9)


@pytest.mark.parametrize("no_spool", [False, True])
def test_a_shard_that_is_not_there_is_refused(shards, tmp_path, no_spool):
    with refused(DataError, "nope.npz"):
        fit_files([*shards(), tmp_path / "nope.npz"], no_spool=no_spool)
