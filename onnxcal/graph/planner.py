"""From heads and calibrator steps to a `PatchPlan`.

Pure: nothing is read, written or run. Nodes are emitted at the model's own opset. The form is the one that every
runtime tried can run: T as an initializer of shape [1] that is no graph input, named nodes, and `value_info` for
every inserted tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx.onnx_ml_pb2 import TensorProto

from onnxcal.errors import ModelError
from onnxcal.graph.draft import (
    ELEM_TYPES,
    IR_WITH_INITIALIZERS_APART,
    OPSET_TO_IMPORT,
    GraphDraft,
    Shape,
)
from onnxcal.graph.folding import folding_of
from onnxcal.graph.head import SMALLEST_PROBABILITY, Added, Fed, Head
from onnxcal.graph.messages import SMALLEST_NORMAL, held, make_value_info
from onnxcal.graph.plan import DIVIDE, HeadPatch, NoPostTransform, PatchPlan, Rename
from onnxcal.graph.types import FLOAT_NAMES, TensorType
from onnxcal.graph.view import GraphView

_HALF = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})


def make_plan(view: GraphView, patches: Sequence[HeadPatch]) -> PatchPlan:
    """The plan for some heads of one model.

    Raises
    ------
    ModelError
        A temperature that the head's element type cannot hold, an output name that is taken, a layout that the
        model's opset has no node for, or a form that the graph has no place for.
    """
    draft = _Planner(view)
    for patch in patches:
        draft.add(patch)
    return PatchPlan(
        tuple(draft.insertions),
        tuple(draft.renames),
        tuple(draft.initializers),
        tuple(draft.value_infos),
        tuple(draft.new_outputs),
        tuple(draft.renamed_outputs),
        tuple(draft.transforms),
        OPSET_TO_IMPORT if view.model.opset() is None else None,
        tuple(draft.calibrated),
        tuple(draft.scalings),
        tuple(draft.inputs),
        tuple(draft.temperature_inputs),
    )


def _known_shape(shape: Shape, head: Head, site: Added) -> Shape:
    """The shape of what is calibrated: of an ai.onnx.ml operator it is known although shape inference does not say."""
    if shape is not None or head.rank is None:
        return shape
    columns = 2 if site.column else None if head.task == "binary" else head.num_classes
    return tuple(columns if axis == head.axis else None for axis in range(head.rank))


def _divisor_shape(head: Head) -> list[int]:
    """[1]; in float64 one T a class, which onnxruntime cannot fold into a MatMul before it.

    Its MatMulScaleFusion makes a FusedMatMul of MatMul and Div by a single number, whose `alpha` is a float32.
    """
    if (
        head.dtype != "float64"
        or head.num_classes is None
        or head.rank is None
        or head.flatten
        or head.task == "binary"
    ):
        return [1]
    return [head.num_classes] + [1] * (head.rank - 1 - head.axis)


class _Planner(GraphDraft):
    """A plan in the making, head by head."""

    def add(self, patch: HeadPatch) -> None:
        """Plan one head."""
        if patch.output_name == patch.head.output:
            patch = replace(patch, output_name=None)
        if patch.output_name is not None:
            if not patch.output_name:
                raise ModelError("the --output-name is empty", hint="pass a name, or leave it out to keep the old one")
            if patch.output_name in self.taken:
                raise ModelError(
                    f"the name '{patch.output_name}' is taken in {self.view.model.name}",
                    hint="choose another --output-name",
                )
            self.taken.add(patch.output_name)
            outputs = enumerate(self.view.graph.output)
            self.renamed_outputs += [(i, patch.output_name) for i, o in outputs if o.name == patch.head.output]
        self.temperature_inputs.append(None)
        if patch.form == "folded":
            self._fold(patch)
        if isinstance(patch.head.site, Fed):
            calibrated = self._feed(patch, patch.head.site)
        else:
            calibrated = self._add_activation(patch, patch.head.site)
        self.calibrated.append(calibrated)
        if patch.keep_logits:
            declared = [value for value in self.value_infos if value.name == calibrated]
            for value in declared:
                self.value_infos.remove(value)
            shape = self.view.type_of(patch.head.logits).shape
            plain = make_value_info(calibrated, ELEM_TYPES[patch.head.dtype], shape)
            self.new_outputs += declared or [plain]

    def _fold(self, patch: HeadPatch) -> None:
        """Plan the weights that are to be divided."""
        (step,) = patch.steps
        folding = folding_of(self.view, patch.head, step.value, self.fresh)
        self.scalings += folding.scalings
        self.renames += folding.renames

    def _feed(self, patch: HeadPatch, site: Fed) -> str:
        """logits → Div → the activation that is there. Other readers of the logits keep reading them as they are."""
        head, own = patch.head, ELEM_TYPES[patch.head.dtype]
        tensor = self.view.type_of(head.logits)
        self.shapeless = tensor.completed
        logits = self.raw.get(head.logits, head.logits)
        declared = self.view.is_declared(head.logits) or patch.form == "folded"
        if not declared and tensor.rank is not None and not self.shapeless:
            self.value_infos.append(make_value_info(logits, own, tensor.shape))
        first = min(site.readers)
        tail, calibrated = self._calibrate(first, patch, logits, tensor.shape)
        fed = calibrated
        if tail != own and not site.single:
            fed = self.declare(f"{head.logits}_calibrated_{head.dtype}", own, tensor.shape)
            self.insert(first, "Cast", [calibrated], fed, "cast back", to=own)
        if fed != logits:
            self.renames += [Rename(node, "input", logits, fed) for node in site.readers]
        activated = site.activated
        renamed = bool(patch.output_name) and activated == head.output
        if tail != own and site.single:
            as_float = self.declare(f"{activated}_{FLOAT_NAMES[tail]}", tail, tensor.shape)
            self.renames.append(Rename(first, "output", activated, as_float))
            final = patch.output_name if patch.output_name and renamed else activated
            self.insert(first + 1, "Cast", [as_float], final, "cast back", to=own)
        elif patch.output_name and renamed:
            self.renames.append(Rename(self.view.producers[activated], "output", activated, patch.output_name))
        self._rename_output(patch, made_here=renamed)
        return calibrated

    def _add_activation(self, patch: HeadPatch, site: Added) -> str:
        """producer → logits → Div → Softmax or Sigmoid → the target. What the target held gets a new name."""
        head, target = patch.head, site.target
        self.shapeless = self.view.type_of(target).completed
        tensor = TensorType(ELEM_TYPES[head.dtype], _known_shape(self.view.type_of(target).shape, head, site))
        producer = self.view.producers[target]
        own = ELEM_TYPES[head.dtype]
        final, material = target, target
        if patch.output_name is not None and target == head.output:
            final = patch.output_name
        else:
            state = "calibrated" if patch.form == "folded" else "uncalibrated"
            material = self.declare(f"{target}_{state}", own, tensor.shape)
            self.raw[target] = material
            self.renames.append(Rename(producer, "output", target, material))
        if site.material == "logits":  # raw logits stay what they are for whoever else reads them
            self.redirect_readers(target, material, but=self._way(head.output, target))
        elif final != target:
            self.redirect_readers(target, final)
        after = producer + 1
        logits, shape = self._logits(after, head, site, material, tensor.shape)
        tail, calibrated = self._calibrate(after, patch, logits, shape)
        made = self._activate(after, head, site, calibrated, shape, tail, final if tail == own else None)
        if tail != own:
            self.insert(after, "Cast", [made], final, "cast back", to=own)
        if target != head.output:
            self._rename_output(patch, made_here=False)
        return calibrated

    def _logits(self, at: int, head: Head, site: Added, material: str, shape: Shape) -> tuple[str, Shape]:
        """The nodes that make logits of what there is; returns their name and shape."""
        own = ELEM_TYPES[head.dtype]
        if site.material == "quantized":
            assert site.node is not None
            quantized = self.view.graph.node[site.node]
            material = self.declare(f"{head.logits}_dequantized", own, shape)
            self.insert(at, "DequantizeLinear", list(quantized.input[:3]), material, "dequantize logits")
        if site.material == "scores":
            assert site.node is not None
            self.transforms.append(NoPostTransform(site.node))
        if site.material == "probabilities":
            material = self._log_odds(at, head, material, shape)
        if not site.column:
            return material, shape
        shape = None if shape is None else (*shape[: head.axis], 1, *shape[head.axis + 1 :])
        column = self.declare(f"{head.logits}_margin", own, shape)
        if self.opset < 10:  # where a Constant holds no integers
            self.insert(at, "Slice", [material], column, "second column", axes=[head.axis], starts=[1], ends=[2])
        else:
            index = self.tensor(at, "onnxcal_second_column", TensorProto.INT64, 1)
            self.insert(at, "Gather", [material, index], column, "second column", axis=head.axis)
        return column, shape

    def _log_odds(self, at: int, head: Head, p: str, shape: Shape) -> str:
        """log p for a softmax, log p − log(1 − p) for a sigmoid, of probabilities that are kept off 0."""
        own = ELEM_TYPES[head.dtype]
        if self.opset < 8:
            raise ModelError(
                f"output '{head.output}' of {self.view.model.name} holds probabilities, and opset {self.opset} has no "
                "Max to keep their logarithms finite",
                hint="export it at opset 8 or later",
            )
        least = self.tensor(at, "onnxcal_smallest", own, SMALLEST_PROBABILITY)

        def log(values: str, base: str) -> str:
            kept = self.declare(f"{base}_kept", own, shape)
            logs = self.declare(f"{base}_log", own, shape)
            self.insert(at, "Max", [values, least], kept, "keep off zero")
            self.insert(at, "Log", [kept], logs, "logarithm")
            return logs

        logs = log(p, head.logits)
        if head.activation != "sigmoid":
            return logs
        one = self.tensor(at, "onnxcal_one", own, 1)
        complement = self.declare(f"{head.logits}_complement", own, shape)
        self.insert(at, "Sub", [one, p], complement, "complement")
        odds = self.declare(f"{head.logits}_log_odds", own, shape)
        self.insert(at, "Sub", [logs, log(complement, f"{head.logits}_complement")], odds, "log odds")
        return odds

    def _activate(
        self, at: int, head: Head, site: Added, calibrated: str, shape: Shape, tail: int, final: str | None
    ) -> str:
        """The activation, and the second column where one is missing; `final` None makes a new name."""
        whole = shape if not site.column or shape is None else (*shape[: head.axis], 2, *shape[head.axis + 1 :])
        made = final or self.declare(f"{head.output}_{FLOAT_NAMES[tail]}", tail, whole)
        if head.task == "multiclass":
            self._insert_softmax(at, head, calibrated, made, tail, TensorType(tail, shape))
            return made
        if not site.column:
            self.insert(at, "Sigmoid", [calibrated], made, "activation")
            return made
        p = self.declare(f"{head.output}_positive", tail, shape)
        less = self.declare(f"{head.output}_negative", tail, shape)
        one = self.tensor(at, "onnxcal_one", tail, 1)
        self.insert(at, "Sigmoid", [calibrated], p, "activation")
        self.insert(at, "Sub", [one, p], less, "complement")
        self.insert(at, "Concat", [less, p], made, "both columns", axis=head.axis)
        return made

    def _rename_output(self, patch: HeadPatch, *, made_here: bool) -> None:
        """Give the output its new name where it is made, and where it is read."""
        if not patch.output_name:
            return
        output = patch.head.output
        if not made_here:
            self.renames.append(Rename(self.view.producers[output], "output", output, patch.output_name))
        self.redirect_readers(output, patch.output_name)

    def _calibrate(self, before: int, patch: HeadPatch, logits: str, shape: Shape) -> tuple[int, str]:
        """The nodes of the calibrator's steps; returns their element type and the name of the calibrated logits.

        Half precision goes through float32: T and the quotient keep 24 bits, and every runtime has the kernels.
        """
        own = ELEM_TYPES[patch.head.dtype]
        if patch.form == "folded":
            return own, logits
        tail = TensorProto.FLOAT if own in _HALF else own
        tensor = logits
        if tail != own:
            tensor = self.declare(f"{patch.head.logits}_{FLOAT_NAMES[tail]}", tail, shape)
            self.insert(before, "Cast", [logits], tensor, "cast", to=tail)
        for step in patch.steps:
            if patch.form == "input":
                divisor = self._temperature_input(before, step.value, tail)
            else:
                divisor = self._temperature(before, step.value, tail, _divisor_shape(patch.head))
            quotient = self.declare(f"{patch.head.logits}_calibrated", tail, shape)
            self.insert(before, "Div", [tensor, divisor], quotient, DIVIDE)
            tensor = quotient
        return tail, tensor

    def _insert_softmax(self, at: int, head: Head, source: str, target: str, tail: int, tensor: TensorType) -> None:
        """A Softmax over the class axis. Below opset 13 it flattens, so the class axis must be the last one there."""
        if self.opset >= 13 or head.axis + 1 == tensor.rank:
            self.insert(at, "Softmax", [source], target, "activation", axis=head.axis)
            return
        if tensor.rank is None or tensor.shape is None:
            raise ModelError(
                f"output '{head.output}' of {self.view.model.name} has an unknown rank, "
                "which a Softmax below opset 13 cannot be added to",
                hint="export it with shapes, or at opset 13 or later",
            )
        order = [a for a in range(tensor.rank) if a != head.axis] + [head.axis]
        back = [order.index(a) for a in range(tensor.rank)]
        moved = tuple(tensor.shape[a] for a in order)
        last = self.declare(f"{head.output}_classes_last", tail, moved)
        probabilities = self.declare(f"{head.output}_classes_last_softmax", tail, moved)
        self.insert(at, "Transpose", [source], last, "classes last", perm=order)
        self.insert(at, "Softmax", [last], probabilities, "activation", axis=tensor.rank - 1)
        self.insert(at, "Transpose", [probabilities], target, "classes back", perm=back)

    def _temperature(self, before: int, value: float, elem_type: int, shape: Sequence[int]) -> str:
        try:
            fits = held(elem_type, value) >= SMALLEST_NORMAL[elem_type]
        except OverflowError:
            fits = False
        if not fits:
            raise ModelError(
                f"temperature {value:g} cannot be held in {FLOAT_NAMES[elem_type]}, the type of the head",
                hint="check the scale of the logits; or export the model in float64",
            )
        return self.tensor(before, "onnxcal_temperature", elem_type, value, shape)

    def _temperature_input(self, before: int, value: float, elem_type: int) -> str:
        """T as an initializer that is a graph input as well: its default, which whoever runs the model may override."""
        version = self.view.model.skeleton.ir_version
        if version < IR_WITH_INITIALIZERS_APART:
            raise ModelError(
                f"{self.view.model.name} is of IR version {version}, where every input must be fed: T cannot be one",
                hint=f"export it in IR version {IR_WITH_INITIALIZERS_APART} or later, or drop --runtime-temperature",
            )
        name = self._temperature(before, value, elem_type, [1])
        self.inputs.append(make_value_info(name, elem_type, [1]))
        self.temperature_inputs[-1] = name
        return name

    def _is_output(self, tensor: str) -> bool:
        return any(value.name == tensor for value in self.view.graph.output)

    def _way(self, output: str, target: str) -> set[int]:
        """The nodes between a tensor and the output that its values go to."""
        way, start = set[int](), output
        while output != target:
            index = self.view.producers[output]
            way.add(index)
            if output != start and (set(self.view.readers(output)) - way or self._is_output(output)):
                raise ModelError(
                    f"'{output}' of {self.view.model.name} stands between the logits and output '{start}', and "
                    "something else reads it",
                    hint=f"calibrate an output that holds the logits themselves, not '{start}'",
                )
            inputs = self.view.graph.node[index].input
            output = next((name for name in inputs if name and not self.view.is_constant(name)), inputs[0])
        return way
