"""`--target`: which onnxruntime can load a model, by its IR version, opsets and operators. A table; nothing is run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxcal.errors import GateError, UsageError
from onnxcal.graph.modelfile import ModelFile

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Release:
    """The highest versions that an onnxruntime takes; it refuses what is newer."""

    ir: int
    """IR version of the file format."""
    onnx: int
    """Opset of `ai.onnx`."""
    ml: int
    """Opset of `ai.onnx.ml`."""


RELEASES = {
    "1.15": Release(9, 19, 3),
    "1.16": Release(9, 19, 3),
    "1.17": Release(9, 20, 4),
    "1.18": Release(10, 21, 5),
    "1.19": Release(10, 21, 5),
    "1.20": Release(10, 21, 5),
    "1.21": Release(10, 22, 5),
    "1.22": Release(10, 22, 5),
    "1.23": Release(11, 23, 5),
    "1.24": Release(13, 25, 5),
    **{f"1.{minor}": Release(13, 26, 5) for minor in range(25, 32)},
    "1.32": Release(14, 28, 5),
}
"""By version; `tools/opset_gates.py` measures it with the wheels of each."""

OLDEST_OPSET = 7
"""Of `ai.onnx`; every onnxruntime lacks operators of older ones, and no number in a file says which."""

_TARGET = re.compile(r"onnxruntime\s*==\s*(\d+\.\d+)(\.\d+)?")
_DEFAULT = ("", "ai.onnx")
_STANDARD = ("ai.onnx", "ai.onnx.ml")
_OWN = ("com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc")
"""Domains of onnxruntime's own operators, which have one version and change without a number."""


@dataclass(frozen=True)
class TargetFit:
    """Whether a model fits one target."""

    target: str
    """As it was asked for."""
    passed: bool
    """Whether nothing of the model is newer than the target."""
    detail: str
    """What fits, or everything that does not."""
    remedy: str = ""
    """What to do where it does not."""


def fits(model: ModelFile, target: str | Sequence[str]) -> tuple[TargetFit, ...]:
    """Hold a model against targets such as `onnxruntime==1.17`, each once.

    Raises
    ------
    UsageError
        A target is not known.
    """
    wanted = dict.fromkeys([target] if isinstance(target, str) else target)
    return tuple(_fit(model, name, _version(name)) for name in wanted)


def require_fits(model: ModelFile, target: str | Sequence[str]) -> tuple[TargetFit, ...]:
    """`fits`, all of which must hold.

    Raises
    ------
    UsageError
        A target is not known.
    GateError
        The model does not fit one; every target that it does not fit is named.
    """
    found = fits(model, target)
    failed = [one for one in found if not one.passed]
    if failed:
        raise GateError(
            f"{'; '.join(f'{model.name} does not fit {one.target}: {one.detail}' for one in failed)}; "
            "nothing was written",
            hint="; ".join(dict.fromkeys(one.remedy for one in failed)),
            known={"targets": list(found)},
        )
    return found


def _version(target: str) -> str:
    match = _TARGET.fullmatch(target.strip())
    if match is None:
        raise UsageError(f"target {target!r} is not known", hint="write it as onnxruntime==1.17")
    if match[1] not in RELEASES:
        first, *_, last = RELEASES
        raise UsageError(
            f"target {target!r} is not in the table, which has onnxruntime {first} to {last}",
            hint="run the model there: onnxcal verify … --runtime onnxruntime, in an environment with that version",
        )
    return match[1]


def _fit(model: ModelFile, target: str, version: str) -> TargetFit:
    release, needs = RELEASES[version], _needs(model)
    too_new = [
        f"{what} {needed} is newer than {known}, its newest"
        for what, needed, known in (
            ("IR version", needs.ir, release.ir),
            ("opset ai.onnx", needs.onnx, release.onnx),
            ("opset ai.onnx.ml", needs.ml, release.ml),
        )
        if needed > known
    ]
    used = 0 < needs.onnx < OLDEST_OPSET and any(node.domain in _DEFAULT for node in _all_nodes(model))
    too_old = [f"opset ai.onnx {needs.onnx} is older than {OLDEST_OPSET}, its oldest"] if used else []
    strange = [] if too_old else list(_strange_operators(model))
    if not (too_new or too_old or strange):
        said = f"IR {needs.ir}, opset {needs.onnx}" + (f", ai.onnx.ml {needs.ml}" if needs.ml else "")
        own = sorted({node.op_type for node in _all_nodes(model) if node.domain in _OWN})
        unknown = f"; the table does not know {', '.join(own)}, onnxruntime's own" if own else ""
        return TargetFit(target, True, f"{said} and the operators fit{unknown}")
    foreign = [name for name in strange if name.partition("::")[0] not in _STANDARD]
    advice = [f"have {name} registered there" for name in foreign]
    if len(foreign) < len(strange):
        advice.append("export the model again with an opset that has its operators")
    if too_new or too_old:
        fitting = f"opset {max(min(needs.onnx, release.onnx), OLDEST_OPSET)}"
        fitting += f", ai.onnx.ml {release.ml}" * (needs.ml > release.ml)
        again = f"export the model again with {fitting} and IR {release.ir}"
        later = [v for v, r in RELEASES.items() if r.ir >= needs.ir and r.onnx >= needs.onnx and r.ml >= needs.ml]
        elsewhere = f"serve it with onnxruntime {later[0]} or later, or " if later else "no version takes it: "
        advice.append(again if too_old else elsewhere + again)
    known = [
        f"{name} is no operator of {'onnxruntime' if name in foreign else 'the opset that it is imported with'}"
        for name in strange
    ]
    return TargetFit(target, False, "; ".join([*too_new, *too_old, *known]), ", ".join(advice))


def _needs(model: ModelFile) -> Release:
    """What a model is stamped with, its local functions included; 0 where it imports nothing."""
    skeleton = model.skeleton
    imports = [*skeleton.opset_import, *(entry for f in skeleton.functions for entry in f.opset_import)]

    def highest(domains: Sequence[str]) -> int:
        return max((entry.version for entry in imports if entry.domain in domains), default=0)

    return Release(skeleton.ir_version, highest(_DEFAULT), highest(("ai.onnx.ml",)))


def _strange_operators(model: ModelFile) -> Iterator[str]:
    """Operators that no onnxruntime has by itself: of other domains, or that their opset does not define."""
    from onnx import defs

    functions = {(f.domain, f.name) for f in model.skeleton.functions}
    needs, seen = _needs(model), set[tuple[str, str]]()
    for node in _all_nodes(model):
        domain = "" if node.domain in _DEFAULT else node.domain
        name = (domain, node.op_type)
        if name in seen or (node.domain, node.op_type) in functions or domain in _OWN:
            continue
        seen.add(name)
        versions = {"": needs.onnx, "ai.onnx.ml": needs.ml}  # nor has its wheel those that onnx has for training
        try:
            known = domain in versions and not defs.get_schema(node.op_type, versions[domain], domain).deprecated
        except defs.SchemaError:
            known = False
        if not known:
            yield f"{node.domain or 'ai.onnx'}::{node.op_type}"


def _all_nodes(model: ModelFile) -> Iterator[onnx.NodeProto]:
    yield from _nodes(model.graph.node)
    for function in model.skeleton.functions:
        yield from _nodes(function.node)


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)
