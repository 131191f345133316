"""The same endings in odder graphs: strange names, no declared shapes, old IR versions, more readers, no order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.corpus.form import Form, Tap, node, weights

ENDINGS = (
    "softmax at opset 13",
    "log_softmax at opset 13",
    "sigmoid at opset 13",
    "none at opset 13",
    "one float32 logit, sigmoid, opset 17",
    "softmax in pieces, less its maximum, axis 1, opset 17",
    "softmax in pieces, Unsqueeze, Mul, opset 13",
    "Identity of D - Log(Sum(Exp(D))), shifted, None, opset 18",
    "Exp of z - ReduceLogSumExp(z), as it is, None, opset 11",
    "Exp of LogSoftmax of float32, opset 13",
    "Log of Softmax of float32, opset 13",
    "sigmoid in pieces of 1 float32 logits, Div",
    "[1 - p, p] of (N, 1), opset 13",
    "[1 - p, p] of (N,), Unsqueeze, opset 13",
    "sigmoids of both signs, (N, 1), Neg, reverse False",
    "sigmoid of margins, (N, 1), float32",
    "raw margins, (N, 1), Neg, opset 13",
    "one class by Gather of a list, opset 13",
    "QLinearSoftmax of int8, axis 1, opset 13",
    "QDQ of int8 before and behind Softmax, opset 13",
    "LinearClassifier SOFTMAX of 3 classes, strings",
    "LinearClassifier LOGISTIC of 2 classes, ints",
    "two classes of boosted trees, NONE, [0, 1]",
    "a forest of 3 classes, NONE, [0, 1, 2]",
    "one versus rest",
    "ZipMap of a LinearClassifier SOFTMAX of 3 classes, ints",
    "ZipMap of a LinearClassifier LOGISTIC of 2 classes, strings",
    "mean of two softmaxes of float32",
)
"""One of each kind."""

Value = TypeVar("Value")
Variant = Callable[[Form, onnx.ModelProto], "Form | None"]


def variants(forms: Sequence[Form]) -> Iterator[Form]:
    """Each of `ENDINGS` in each way that fits it."""
    by_name = {form.name: form for form in forms}
    for name in ENDINGS:
        for variant in GRAPHS:
            copy = onnx.ModelProto.FromString(by_name[name].data())
            made = variant(by_name[name], copy)
            if made is not None:
                yield replace(made, name=f"{name}: {variant.__name__.replace('_', ' ')}")


def odd_names(form: Form, model: onnx.ModelProto) -> Form:
    """Colons, slashes, quotes and braces in every tensor's name."""

    def odd(name: str) -> str:
        return f'scope/{{"{name}": [0]}}:0' if name else ""

    graph = model.graph
    for item in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        item.name = odd(item.name)
    for made in graph.node:
        made.input[:] = [odd(name) for name in made.input]
        made.output[:] = [odd(name) for name in made.output]

    def keyed(values: Mapping[str, Value]) -> dict[str, Value]:
        return {odd(name): value for name, value in values.items()}

    def z(tap: Tap) -> object:
        assert form.z is not None
        return form.z(lambda name: tap(odd(name)))

    return replace(
        form,
        model=model,
        output=odd(form.output),
        logits=odd(form.logits),
        place=odd(form.place) if form.place else None,
        z=z if form.z is not None else None,
        also=keyed(form.also),
        moved=frozenset(map(odd, form.moved)),
    )


def weights_as_inputs(form: Form, model: onnx.ModelProto) -> Form | None:
    """IR 3, where initializers are inputs too."""
    if len(model.opset_import) > 1 and any(entry.domain == "com.microsoft" for entry in model.opset_import):
        return None  # onnxruntime wants its quantisation parameters constant
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return replace(form, model=model)


def constants_in_nodes(form: Form, model: onnx.ModelProto) -> Form | None:
    """No initializers at all."""
    if not model.graph.initializer or "com.microsoft" in {entry.domain for entry in model.opset_import}:
        return None
    nodes = [node("Constant", [], [tensor.name], value=tensor) for tensor in model.graph.initializer]
    nodes += list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return replace(form, model=model)


def nodes_unsorted(form: Form, model: onnx.ModelProto) -> Form | None:
    """Each node before what it reads."""
    if len(model.graph.node) < 2:
        return None
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return replace(form, model=model)


def nodes_named(form: Form, model: onnx.ModelProto) -> Form:
    for number, made in enumerate(model.graph.node):
        made.name = f"onnxcal_{made.op_type.lower()}{number or ''}"
    return replace(form, model=model)


def no_output_shape(form: Form, model: onnx.ModelProto) -> Form | None:
    """The output is declared without a shape."""
    if form.keys is not None:
        return None
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return replace(form, model=model)


def fixed_batch(form: Form, model: onnx.ModelProto) -> Form | None:
    """Three samples at a time."""
    if form.keys is not None:
        return None
    for item in (*model.graph.input, *model.graph.output):
        item.type.tensor_type.shape.dim[0].dim_value = 3
    return replace(form, model=model, samples=6)


def domain_spelled_out(form: Form, model: onnx.ModelProto) -> Form | None:
    if all(made.domain for made in model.graph.node):
        return None
    for item in (*model.opset_import, *model.graph.node):
        item.domain = item.domain or "ai.onnx"
    return replace(form, model=model)


def more_readers(form: Form, model: onnx.ModelProto) -> Form | None:
    """The logits are an output, and labels and odds are made of them."""
    made_by = {name for made in model.graph.node for name in made.output}
    if (form.z is not None and not form.fed) or form.logits not in made_by:
        return None
    if form.logits != form.output:
        model.graph.output.insert(0, helper.make_tensor_value_info(form.logits, TensorProto.FLOAT, None))
    model.graph.node.append(node("Exp", [form.logits], ["odds_out"]))
    model.graph.node.append(node("ArgMax", [form.logits], ["label_out"], axis=-1))
    model.graph.output.append(helper.make_tensor_value_info("odds_out", TensorProto.FLOAT, None))
    model.graph.output.append(helper.make_tensor_value_info("label_out", TensorProto.INT64, None))
    return replace(form, model=model)


def label_of_the_output(form: Form, model: onnx.ModelProto) -> Form | None:
    """What is made of calibrated probabilities comes to the same label."""
    if form.keys is not None:
        return None
    if all(made.domain for made in model.graph.node):
        return None  # no default operator set
    model.graph.node.append(node("ArgMax", [form.output], ["label_out"], axis=-1, keepdims=0))
    model.graph.output.insert(0, helper.make_tensor_value_info("label_out", TensorProto.INT64, None))
    return replace(form, model=model)


def another_classifier_beside(form: Form, model: onnx.ModelProto) -> Form | None:
    """Which stays as it is."""
    if all(made.domain for made in model.graph.node):
        return None
    model.graph.initializer.append(numpy_helper.from_array(weights(6, 3, seed=9), "other_w"))
    model.graph.node.insert(0, node("MatMul", "x other_w", "other_z"))
    model.graph.node.append(node("Softmax", "other_z", "other_probs"))
    model.graph.output.append(helper.make_tensor_value_info("other_probs", TensorProto.FLOAT, ["N", 3]))
    return replace(form, model=model, options={**form.options, "head": form.output})


GRAPHS: tuple[Variant, ...] = (
    odd_names,
    weights_as_inputs,
    constants_in_nodes,
    nodes_unsorted,
    nodes_named,
    no_output_shape,
    fixed_batch,
    domain_spelled_out,
    more_readers,
    label_of_the_output,
    another_classifier_beside,
)
