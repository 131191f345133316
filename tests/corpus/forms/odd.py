"""Logits that are an input or are made in odd places, odd names, and what a rewriting tool would lose or trip over."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.builders import classifier, softmax
from tests.corpus.form import Form, build, ints, node, value, weights
from tests.corpus.forms.register import family, form, two_outputs

INPUT = value("x", ["N", 6])


@form()
def input_is_the_logits() -> onnx.ModelProto:
    return build([softmax()], [value("logits", ["N", 4])], [value("probs", ["N", 4])], opset=13)


@form(classes=None)
def class_count_unknown() -> onnx.ModelProto:
    return build([softmax()], [value("logits", ["N", "K"])], [value("probs", ["N", "K"])], opset=13)


@form(classes=None)
def rank_unknown() -> onnx.ModelProto:
    nodes = [node("Squeeze", "x", "logits"), softmax(axis=1)]
    return build(nodes, [value("x", ["N", 1, 4])], [value("probs", None)], opset=13)


@form(classes=None, options={"axis": 1})
def rank_unknown_and_axis_from_the_back() -> onnx.ModelProto:
    nodes = [node("Squeeze", "x", "logits"), softmax()]
    return build(nodes, [value("x", ["N", 1, 4])], [value("probs", None)], opset=13)


@form(classes=None, output="logits", activation="none", options={"axis": 1, "task": "multiclass"})
def raw_logits_of_unknown_rank() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "a"), node("Squeeze", "a", "logits")]
    return build(nodes, [value("x", ["N", 1, 6])], [value("logits", None)], {"w": weights(6, 4)}, opset=13)


@family
def outputs_declared_wrongly() -> Iterator[Form]:
    """onnxruntime runs them; what makes the output is believed."""
    for shape in ([], ["N"], ["N", 1], ["N", 7], ["N", 4, 1], [3, 3]):
        name = f"declared as {shape}"
        raw = build([node("MatMul", "x w", "logits")], [INPUT], [value("logits", shape)], {"w": weights(6, 4)})
        yield Form(f"raw logits {name}", raw, output="logits", activation="none")
        body = [node("MatMul", "x w", "logits"), softmax()]
        yield Form(f"softmax {name}", build(body, [INPUT], [value("probs", shape)], {"w": weights(6, 4)}))
        body = [node("MatMul", "x w", "logits"), node("Sigmoid", "logits", "probs")]
        made = build(body, [INPUT], [value("probs", shape)], {"w": weights(6, 1)})
        yield Form(f"sigmoid {name}", made, task="binary", activation="sigmoid", classes=2)
        body = [node("MatMul", "x w", "z"), node("Squeeze", "z i1", "logits")]
        made = build(body, [INPUT], [value("logits", shape)], {"w": weights(6, 1), "i1": ints(1)})
        yield Form(f"squeezed {name}", made, "logits", task="binary", activation="none", classes=2, axis=0)


@form(output="y", logits="z", dtype="float32")
def domain_is_spelled_out() -> onnx.ModelProto:
    made = build(
        [node("MatMul", "x w", "z", domain="ai.onnx"), node("Softmax", "z", "y", domain="ai.onnx")],
        [value("x", ["N", 6])],
        [value("y", ["N", 4])],
        {"w": weights(6, 4)},
    )
    made.opset_import[0].domain = "ai.onnx"
    return made


@form()
def many_operator_sets() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs")
    for domain in ("ai.onnx.ml", "com.microsoft", "nobody.uses.this"):
        made.opset_import.append(helper.make_opsetid(domain, 1))
    return made


@form(logits="twice")
def local_function() -> onnx.ModelProto:
    made = classifier(
        [node("Double", "logits", "twice", domain="mine"), softmax("twice", "probs")],
        output="probs",
        opset=17,
        ir_version=8,
    )
    made.functions.append(
        helper.make_function("mine", "Double", ["a"], ["b"], [node("Add", "a a", "b")], [helper.make_opsetid("", 17)])
    )
    made.opset_import.append(helper.make_opsetid("mine", 1))
    return made


@form(activation="none", logits="probs")
def softmax_that_is_a_relu() -> onnx.ModelProto:
    """A local function may have any name; what counts is its body."""
    made = classifier([node("Softmax", "z", "probs", domain="mine")], output="probs", opset=17, ir_version=8)
    made.graph.node[0].output[0] = "z"
    made.functions.append(
        helper.make_function("mine", "Softmax", ["a"], ["b"], [node("Relu", "a", "b")], [helper.make_opsetid("", 17)])
    )
    made.opset_import.append(helper.make_opsetid("mine", 1))
    return made


@form(output="logits:0", logits="fc/MatMul:0", activation="softmax")
def names_with_colons_and_slashes() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["serving/x:0", "w"], ["fc/MatMul:0"], name="fc/MatMul"),
        node("Softmax", ["fc/MatMul:0"], ["logits:0"], name="fc/Softmax"),
    ]
    return build(nodes, [value("serving/x:0", ["N", 6])], [value("logits:0", ["N", 4])], {"w": weights(6, 4)})


@form(output='{"probs": "✓"}', logits='λογιτς \\ " 😀')
def names_with_json_and_unicode() -> onnx.ModelProto:
    z, p = 'λογιτς \\ " 😀', '{"probs": "✓"}'
    nodes = [node("MatMul", ["x", "w"], [z]), node("Softmax", [z], [p])]
    return build(nodes, [value("x", ["N", 6])], [value(p, ["N", 4])], {"w": weights(6, 4)})


@form(output="onnxcal_temperature", logits="onnxcal_div")
def names_that_a_patch_would_like_to_use() -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x onnxcal_div_calibrated", "onnxcal_div", name="onnxcal_softmax"),
        node("Softmax", "onnxcal_div", "onnxcal_temperature", name="onnxcal_div"),
    ]
    constants = {"onnxcal_div_calibrated": weights(6, 4)}
    return build(nodes, [value("x", ["N", 6])], [value("onnxcal_temperature", ["N", 4])], constants)


@form(moved=frozenset())
def head_in_the_middle_of_the_graph() -> onnx.ModelProto:
    nodes = [softmax(), node("MatMul", "x v", "a"), node("Relu", "a", "b"), node("MatMul", "b u", "boxes")]
    constants = {"v": weights(6, 5, seed=2), "u": weights(5, 8, seed=3)}
    return two_outputs(nodes, value("probs", ["N", 4]), value("boxes", ["N", 8]), constants=constants)


@form()
def two_inputs() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "x2 v", "b"), node("Add", "a b", "logits"), softmax()]
    constants = {"w": weights(6, 4), "v": weights(3, 4, seed=1)}
    return build(nodes, [value("x", ["N", 6]), value("x2", ["N", 3])], [value("probs", ["N", 4])], constants)


@form(dtype="float64")
def float64_product_without_bias() -> onnx.ModelProto:
    """onnxruntime fuses a product and a division by one number, and keeps 1/T in float32 where it does."""
    nodes = [node("MatMul", "x w", "logits"), softmax()]
    constants = {"w": weights(6, 4, dtype="float64")}
    return build(nodes, [value("x", ["N", 6], "float64")], [value("probs", ["N", 4], "float64")], constants)


@form()
def softmax_of_a_constant_batch() -> onnx.ModelProto:
    nodes = [softmax("logits", "probs"), node("Identity", "x", "y")]
    return build(
        nodes, [value("x", ["N", 6])], [value("probs", [7, 4]), value("y", ["N", 6])], {"logits": weights(7, 4)}
    )


@form(output="logits", activation="none", options={"head": "logits"})
def loop_body_has_a_tensor_of_the_same_name() -> onnx.ModelProto:
    """Inside, `logits` is the loop's own; it has nothing to do with the output outside."""
    body = helper.make_graph(
        [node("Identity", "go", "go_on"), node("Add", "logits logits", "sum")],
        "body",
        [value("i", [], "int64"), value("go", [], "bool"), value("logits", None)],
        [value("go_on", [], "bool"), value("sum", None)],
    )
    nodes = [node("Loop", ["times", "", "one"], "sums", body=body)]
    constants = {"times": np.array(2), "one": np.ones((1, 4), np.float32)}
    return two_outputs(nodes, value("logits", ["N", 4]), value("sums", None), constants=constants)


# What a rewriting tool would lose, or trip over


@form()
def everything_that_others_lose() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs", opset=17, ir_version=10)
    made.producer_name, made.producer_version, made.domain = "trainer", "1.2.3+cafe", "org.example"
    made.model_version, made.doc_string = 42, "a model\nwith a story"
    helper.set_model_props(made, {"author": "Ωmega", "labels": '["cat", "dog"]', "empty": ""})
    graph = made.graph
    graph.doc_string = "the graph"
    graph.metadata_props.add(key="split", value="train")
    graph.node[0].doc_string = "fully connected"
    graph.node[0].metadata_props.add(key="layer", value="7")
    graph.initializer[0].doc_string = "weights"
    graph.input[0].doc_string = "pixels"
    graph.output[0].doc_string = "what comes out"
    graph.output[0].metadata_props.add(key="classes", value="4")
    annotation = graph.quantization_annotation.add(tensor_name="logits")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    graph.value_info.append(value("logits", ["N", 4]))
    return made


@form(output="logits", activation="none")
def everything_that_others_lose_around_raw_logits() -> onnx.ModelProto:
    made = everything_that_others_lose()
    del made.graph.node[1], made.graph.value_info[:]
    made.graph.output[0].name = "logits"
    return made


@form()
def training_info() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs", ir_version=10)
    info = made.training_info.add()
    info.algorithm.CopyFrom(helper.make_graph([node("Identity", "w", "w_new")], "step", [], [value("w_new", [6, 4])]))
    info.update_binding.add(key="w", value="w_new")
    return made


@form(logits="z")
def sparse_initializer() -> onnx.ModelProto:
    made = classifier([node("Add", "logits s", "z"), softmax("z", "probs")], output="probs", ir_version=8)
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("s", TensorProto.FLOAT, [2], [0.5, -0.25]),
        helper.make_tensor("", TensorProto.INT64, [2], [0, 2]),
        [4],
    )
    made.graph.sparse_initializer.append(sparse)
    return made


@form()
def duplicate_metadata_keys() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs")
    made.metadata_props.add(key="author", value="one")
    made.metadata_props.add(key="author", value="two")
    return made


@form()
def nodes_out_of_order() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs")
    first = onnx.NodeProto.FromString(made.graph.node[0].SerializeToString())
    del made.graph.node[0]
    made.graph.node.append(first)
    return made


@form(output="logits", activation="none")
def raw_logits_listed_before_what_they_are_made_of() -> onnx.ModelProto:
    made = classifier([node("Relu", "a", "logits")])
    made.graph.node[0].output[0] = "a"
    first = onnx.NodeProto.FromString(made.graph.node[0].SerializeToString())
    del made.graph.node[0]
    made.graph.node.append(first)
    return made


@form()
def output_listed_twice() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs")
    made.graph.output.append(made.graph.output[0])
    return made


@form(output="logits", activation="none")
def raw_output_listed_twice() -> onnx.ModelProto:
    made = classifier()
    made.graph.output.append(made.graph.output[0])
    return made


@form(output="logits", activation="none")
def output_declared_in_value_info_too() -> onnx.ModelProto:
    made = classifier()
    made.graph.value_info.append(value("logits", ["N", 4]))
    return made


@form()
def an_output_that_is_an_input() -> onnx.ModelProto:
    return classifier([softmax()], output="probs", more_outputs=[value("x", ["N", 6])])


@form()
def nodes_without_names() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs")
    made.graph.node[0].name = ""
    return made


@form()
def large_weights() -> onnx.ModelProto:
    """Beyond what the skeleton keeps."""
    return classifier([softmax()], output="probs", features=3000, scale=0.05)


@form(dtype="float32", samples=5)
def constants_in_nodes() -> onnx.ModelProto:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3000, 4], weights(3000, 4, scale=0.05).tobytes(), raw=True)
    nodes = [node("Constant", [], "w", value=weight), node("MatMul", "x w", "logits"), softmax()]
    return build(nodes, [value("x", ["N", 3000])], [value("probs", ["N", 4])])


@form(dtype="float32")
def weights_as_numbers_instead_of_bytes() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs", features=2000, scale=0.05)
    numbers = weights(2000, 4, scale=0.05).reshape(-1)
    made.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [2000, 4], numbers))
    return made


@family
def made_inside_control_flow() -> Iterator[Form]:
    """What is made there cannot be told, but where the user says it, the nodes that are added come behind it."""

    def scan(op: str | None) -> onnx.ModelProto:
        body = [
            node("Unsqueeze", "x_i i0", "row"),
            node("MatMul", "row w", "product"),
            node("Squeeze", "product i0", "z_i"),
        ]
        body.append(node(op or "Identity", "z_i", "y_i"))
        inner = helper.make_graph(body, "body", [value("x_i", [6])], [value("y_i", [4])])
        nodes = [node("Scan", "x", "scanned", body=inner, num_scan_inputs=1)]
        return build(nodes, [INPUT], [value("scanned", ["N", 4])], {"w": weights(6, 4), "i0": ints(0)})

    yield Form(
        "raw logits out of a Scan", scan(None), "scanned", "scanned", activation="none", options={"activation": "none"}
    )
    yield Form(
        "probabilities out of a Scan",
        scan("Softmax"),
        "scanned",
        "scanned",
        z=lambda tap: np.log(tap("scanned")),
        rounding=1e-6,
        options={"activation": "softmax"},
    )
