"""Logits in batches: the same fit as of arrays, in little memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxcal.calibrators import batches as room
from onnxcal.calibrators import fit
from onnxcal.calibrators.batches import kept
from onnxcal.errors import DataError, UsageError
from tests.reference.problems import multiclass, sigmoids
from tests.reference.refusals import refused


def split(lengths, *arrays):
    ends = np.cumsum(lengths)[:-1]
    return zip(*(np.split(a, ends) for a in arrays), strict=True)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=20).filter(any), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_batches_of_any_length_are_fitted_as_the_array(lengths, seed):
    z, y = multiclass(sum(lengths) + 100, 4, seed=seed)
    lengths = [*lengths, 100]
    whole = fit(z, y, prior=1.0)
    found = fit(split(lengths, z, y), prior=1.0)
    assert found.as_json() == whole.as_json()
    assert found.metrics == whole.metrics


@pytest.mark.parametrize("most", [0, 1000, 1 << 25])
def test_it_does_not_matter_what_is_kept_on_disk(most, monkeypatch):
    monkeypatch.setattr(room, "MEMORY", most)
    z, y = multiclass(3000)
    weight = np.random.default_rng(0).random(3000)
    found = fit(split([1000, 1, 1999], z, y, weight))
    assert found.as_json() == fit(z, y, sample_weight=weight).as_json()


def test_weights_may_begin_late():
    z, y = multiclass(900)
    weight = np.concatenate([np.ones(500), np.full(400, 2.5)])
    found = fit([(z[:300], y[:300]), (z[300:500], y[300:500]), (z[500:], y[500:], weight[500:])])
    assert found.as_json() == fit(z, y, sample_weight=weight).as_json()


def test_images_of_all_batches_stay_apart():
    z, y = multiclass(20 * 12, 3)
    z, y = np.moveaxis(z.reshape(20, 4, 3, 3), -1, 1), y.reshape(20, 4, 3)
    found = kept(split([3, 10, 7], z, y))
    np.testing.assert_array_equal(found.group, np.repeat(np.arange(20), 12))
    assert fit(split([3, 10, 7], z, y)).as_json() == fit(z, y).as_json()


def test_rows_before_images_are_samples_of_their_own():
    z, y = multiclass(100, 3)
    images = np.moveaxis(z[40:].reshape(5, 12, 1, 3), -1, 1), y[40:].reshape(5, 12, 1)
    group = kept([(z[:40], y[:40]), images]).group
    np.testing.assert_array_equal(group, np.concatenate([np.arange(40), 40 + np.repeat(np.arange(5), 12)]))


def test_ignored_labels_may_be_all_of_a_batch():
    z, y = multiclass(300)
    y[100:200] = -1
    found = fit(split([100, 100, 100], z, y), ignore_index=-1)
    assert found.as_json() == fit(z, y, ignore_index=-1).as_json()
    once = fit(split([100, 100, 100], z, y), ignore_index=-1, no_spool=True)
    assert (once.n_samples, once.temperature) == (200, pytest.approx(found.temperature, rel=1e-10))


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_sigmoids(task):
    s, y = sigmoids((300,) if task == "binary" else (300, 4))
    whole = fit(s, y, task=task)
    assert fit(split([100, 200], s, y), task=task).as_json() == whole.as_json()
    assert fit(split([100, 200], s, y), task=task, no_spool=True).temperature == pytest.approx(
        whole.temperature, rel=1e-10
    )


@pytest.mark.parametrize("no_spool", [False, True])
@pytest.mark.parametrize(
    ("second", "said"),
    [
        (lambda z, y: (z[:, :3], y % 3), "batch 1 differs"),
        (lambda z, y: (z.astype(np.float64), y), "batch 1 differs"),
        (lambda z, y: (z, np.eye(10)[y] * 0.9 + 0.01), "batch 1 differs"),
        (lambda z, y: (z[:, 0], y > 4), "batch 1 differs"),
        (lambda z, y: z, "batch 1 is no pair"),
        (lambda z, y: (z, y, y, y), "batch 1 is no pair"),
        (lambda z, y: (z, y[:-1]), "do not fit"),
        (lambda z, y: (np.where(z > 3, np.nan, z), y), "not finite"),
        (lambda z, y: (z, y, -np.ones(50)), "not negative"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(second, said, no_spool):
    z, y = multiclass(50)
    with refused(DataError, said):
        fit(iter([(z, y), second(z, y)]), no_spool=no_spool)


@pytest.mark.parametrize("no_spool", [False, True])
@pytest.mark.parametrize("none", [[], [(np.zeros((0, 3), np.float32), np.zeros(0, int))]])
def test_no_samples_are_refused(none, no_spool):
    with refused(DataError, "no labelled samples"):
        fit(none, no_spool=no_spool)


@pytest.mark.parametrize("no_spool", [False, True])
def test_rows_that_sum_to_one_by_chance_are_logits(no_spool):
    z, y = multiclass(200, 3)
    z[:40] = np.float32([0.25, 0.5, 0.25])
    whole = fit(z, y)
    found = fit(split([1] * 200, z, y), no_spool=no_spool)
    assert found.temperature == pytest.approx(whole.temperature, rel=1e-9)


@pytest.mark.parametrize("no_spool", [False, True])
def test_batches_of_probabilities_are_refused(no_spool):
    p = np.random.default_rng(0).dirichlet(np.ones(3), 60)
    with refused(DataError, "all batches hold probabilities", hint="np.log(p)"):
        fit(split([20, 39, 1], p, p.argmax(axis=1)), no_spool=no_spool)


def test_weights_beside_batches_are_refused():
    with refused(UsageError, "sample_weight is for arrays"):
        fit([multiclass(50)], sample_weight=np.ones(50))


def test_what_is_measured_on_may_be_weighted():
    z, y = multiclass(500)
    other, labels = multiclass(200, seed=5)
    weight = np.random.default_rng(0).integers(0, 3, 200)
    found = fit(z, y, eval_data=(other, labels, weight)).metrics
    wanted = fit(z, y, eval_data=(np.repeat(other, weight, axis=0), np.repeat(labels, weight))).metrics
    assert found.after.nll == pytest.approx(wanted.after.nll, rel=1e-12)


# Memory

LIMIT = 200
"""MB beyond the pages of the input."""
MEASURED = """
import numpy as np
import onnxcal
from onnxcal.calibrators import fit

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

import threading
peak, done = [0.0], threading.Event()
def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], anonymous())
{before}
start = anonymous()
thread = threading.Thread(target=watch)
thread.start()
found = {fit}
done.set()
thread.join()
print(max(peak[0], anonymous()) - start, found.temperature)
"""


def peak_megabytes(before, call, folder):
    script = MEASURED.format(before=textwrap.dedent(before), fit=call)
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["plain", "masked", "ignored", "single pass"])
def test_a_fit_of_a_mapped_file_takes_little_memory(kind, tmp_path):
    n, k = 1_200_000, 50  # 240 MB
    z = np.lib.format.open_memmap(tmp_path / "z.npy", "w+", np.float32, (n, k))
    piece, y = multiclass(50_000, k)
    if kind == "masked":
        piece[y != 7, 7] = -np.inf
    labels = np.tile(y, n // len(y))
    for start in range(0, n, len(piece)):
        z[start : start + len(piece)] = piece
    if kind == "ignored":
        labels[::10] = -1
    np.save(tmp_path / "y.npy", labels)
    z.flush()
    del z
    call = {
        "ignored": "fit(z, y, ignore_index=-1)",
        "single pass": "fit(((z[i : i + 1000], y[i : i + 1000]) for i in range(0, 50_000, 1000)), no_spool=True)",
    }.get(kind, "fit(z, y)")
    before = """z, y = (np.load(name, mmap_mode="r") for name in ("z.npy", "y.npy"))"""
    assert peak_megabytes(before, call, tmp_path) < LIMIT


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("n", "k", "length"), [(6_000_000, 2, 100_000), (120_000, 500, 1000)])
def test_a_fit_of_batches_takes_little_memory(n, k, length, tmp_path):
    before = f"""
        rng = np.random.default_rng(0)
        z = rng.normal(size=({length}, {k})).astype(np.float32)
        y = (z / 3 + rng.gumbel(size=z.shape)).argmax(axis=1)
        batches = ((z, y) for _ in range({n // length}))"""
    assert peak_megabytes(before, "fit(batches)", tmp_path) < LIMIT
