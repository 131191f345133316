"""8-bit classifiers: QDQ around the head, quantised activations, quantised products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.corpus.form import IR_OF_OPSET, Form, Tap, build, ints, node, value, weights
from tests.corpus.forms.pieces import Pieces
from tests.corpus.forms.register import family, form

Nodes = list[onnx.NodeProto]
Constants = dict[str, np.ndarray]
MS = "com.microsoft"
Z_SCALE, P_SCALE = 0.0625, 1 / 256
"""Of logits and of probabilities."""


def grid(name: str, scale: float, zero: int, dtype: str, number: str = "float32") -> Constants:
    """Scale and zero point."""
    return {f"{name}_scale": np.array(scale, number), f"{name}_zero": np.array(zero, dtype)}


def rounded(source: str, target: str, name: str) -> Nodes:
    """QuantizeLinear and DequantizeLinear on a grid."""
    scales = [f"{name}_scale", f"{name}_zero"]
    return [
        node("QuantizeLinear", [source, *scales], f"{target}_8"),
        node("DequantizeLinear", [f"{target}_8", *scales], target),
    ]


def contrib(made: onnx.ModelProto) -> onnx.ModelProto:
    """With onnxruntime's own operators."""
    made.opset_import.append(helper.make_opsetid(MS, 1))
    return made


def dequantized(quantized: str, zero: int, scale: float = Z_SCALE) -> Callable[[Tap], np.ndarray]:
    """Logits that only 8-bit numbers hold."""
    return lambda tap: (tap(quantized).astype(np.float64) - zero) * scale


ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}


@family
def around_the_head() -> Iterator[Form]:
    """QDQ before the activation: the logits are what the DequantizeLinear gives; behind it: rounded probabilities."""
    for op, activation in ACTIVATIONS.items():
        for dtype, zero in (("int8", 3), ("uint8", 128)):
            for opset in (11, 13, 21):
                for before, behind in ((True, False), (False, True), (True, True)):
                    if op == "LogSoftmax" and behind:
                        continue
                    if opset != 13 and not (before and behind):
                        continue
                    logits, p = ("logits", "p") if behind else ("logits", "probs")
                    nodes = [node("MatMul", "x w", "a" if before else logits)]
                    nodes += rounded("a", logits, "z") if before else []
                    nodes += [node(op, logits, p)] + (rounded(p, "probs", "p") if behind else [])
                    constants = {"w": weights(6, 4)}
                    constants |= grid("z", Z_SCALE, zero, dtype) if before else {}
                    constants |= grid("p", P_SCALE, -128 if dtype == "int8" else 0, dtype) if behind else {}
                    where = " and ".join(["before"] * before + ["behind"] * behind)
                    yield Form(
                        f"QDQ of {dtype} {where} {op}, opset {opset}",
                        build(nodes, [value("x", ["N", 6])], [value("probs", ["N", 4])], constants, opset=opset),
                        task="multilabel" if op == "Sigmoid" else "multiclass",
                        activation=activation,
                        steps=P_SCALE if behind else 0.0,
                    )


@family
def raw_logits() -> Iterator[Form]:
    for dtype, zero in (("int8", 0), ("uint8", 100)):
        for opset in (11, 13):
            yield Form(
                f"raw logits out of QDQ of {dtype}, opset {opset}",
                build(
                    [node("MatMul", "x w", "a"), *rounded("a", "logits", "z")],
                    [value("x", ["N", 6])],
                    [value("logits", ["N", 4])],
                    {"w": weights(6, 4)} | grid("z", Z_SCALE, zero, dtype),
                    opset=opset,
                ),
                output="logits",
                activation="none",
            )


@form(steps=P_SCALE)
def all_of_it_in_qdq() -> onnx.ModelProto:
    """As onnxruntime's quantiser leaves a linear classifier."""
    nodes = [
        *rounded("x", "x_in", "x"),
        node("DequantizeLinear", "w w_scale w_zero", "w_in"),
        node("MatMul", "x_in w_in", "a"),
        *rounded("a", "logits", "z"),
        node("Softmax", "logits", "p"),
        *rounded("p", "probs", "p"),
    ]
    w = np.random.default_rng(0).integers(-100, 100, (6, 4)).astype(np.int8)
    constants = {"w": w} | grid("x", 0.03, 0, "int8") | grid("w", 0.02, 0, "int8")
    constants |= grid("z", Z_SCALE, 0, "int8") | grid("p", P_SCALE, -128, "int8")
    return build(nodes, [value("x", ["N", 6])], [value("probs", ["N", 4])], constants, opset=13)


@form(steps=P_SCALE, after=lambda p: p.reshape(-1, 2, 2).transpose(2, 1, 0))
def moves_between_and_behind() -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x w", "logits"),
        node("Softmax", "logits", "p"),
        node("QuantizeLinear", "p p_scale p_zero", "p8"),
        node("Reshape", "p8 s", "r8"),
        node("DequantizeLinear", "r8 p_scale p_zero", "r"),
        node("Transpose", "r", "probs"),
    ]
    constants = {"w": weights(6, 4), "s": ints(-1, 2, 2)} | grid("p", P_SCALE, 0, "uint8")
    return build(nodes, [value("x", ["N", 6])], [value("probs", [2, 2, "N"])], constants, opset=13)


@form(steps=P_SCALE)
def qdq_around_pieces() -> onnx.ModelProto:
    nodes, constants = Pieces().nodes(target="p")
    body = [node("MatMul", "x w", "a"), *rounded("a", "logits", "z"), *nodes, *rounded("p", "probs", "p")]
    constants |= {"w": weights(6, 4)} | grid("z", Z_SCALE, 0, "int8") | grid("p", P_SCALE, -128, "int8")
    return build(body, [value("x", ["N", 6])], [value("probs", ["N", 4])], constants)


@form(steps=P_SCALE)
def zero_point_left_out() -> onnx.ModelProto:
    """It is 0 then, of uint8."""
    nodes = [
        node("MatMul", "x w", "logits"),
        node("Softmax", "logits", "p"),
        node("QuantizeLinear", "p p_scale", "p8"),
        node("DequantizeLinear", "p8 p_scale", "probs"),
    ]
    constants = {"w": weights(6, 4), "p_scale": np.array(P_SCALE, np.float32)}
    return build(nodes, [value("x", ["N", 6])], [value("probs", ["N", 4])], constants, opset=13)


@family
def sixteen_bits() -> Iterator[Form]:
    for dtype, zero in (("uint16", 0), ("int16", -32768)):
        nodes = [node("MatMul", "x w", "logits"), node("Softmax", "logits", "p"), *rounded("p", "probs", "p")]
        constants = {"w": weights(6, 4)} | grid("p", 2.0**-16, zero, dtype)
        yield Form(
            f"QDQ of {dtype} behind Softmax",
            build(nodes, [value("x", ["N", 6])], [value("probs", ["N", 4])], constants, opset=21),
            steps=2.0**-16,
        )


@form(steps=P_SCALE)
def qdq_of_onnxruntimes_own_domain() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "a"), *rounded("a", "logits", "z"), node("Softmax", "logits", "p")]
    nodes += rounded("p", "probs", "p")
    for made in nodes:
        if made.op_type.endswith("Linear"):
            made.domain = MS
    constants = {"w": weights(6, 4)} | grid("z", Z_SCALE, 0, "int8") | grid("p", P_SCALE, -128, "int8")
    return contrib(build(nodes, [value("x", ["N", 6])], [value("probs", ["N", 4])], constants, opset=13))


# Quantised activations


def quantized_activation(
    op: str, *, classes: int, dtype: str, opset: int, moves: Nodes | None = None, **attributes: Any
) -> onnx.ModelProto:
    """x → MatMul → 8 bit → QLinear… → 8 bit → float → moves."""
    last = "p" if moves else "probs"
    nodes = [
        node("MatMul", "x w", "a"),
        node("QuantizeLinear", "a z_scale z_zero", "logits"),
        node(op, "logits z_scale z_zero p_scale p_zero", "p8", domain=MS, **attributes),
        node("DequantizeLinear", "p8 p_scale p_zero", last),
        *(moves or []),
    ]
    low = -128 if dtype == "int8" else 0
    constants = {"w": weights(6, classes)} | grid("z", Z_SCALE, low + 128, dtype) | grid("p", P_SCALE, low, dtype)
    return contrib(build(nodes, [value("x", ["N", 6])], [value("probs", ["N", classes])], constants, opset=opset))


@family
def quantized_softmax() -> Iterator[Form]:
    for dtype in ("int8", "uint8"):
        z = dequantized("logits", 0 if dtype == "int8" else 128)
        for opset in (11, 13, 17):
            for axis in (1, -1):
                made = quantized_activation("QLinearSoftmax", classes=4, dtype=dtype, opset=opset, axis=axis)
                made.graph.node[2].attribute.append(helper.make_attribute("opset", min(opset, 13)))
                yield Form(
                    f"QLinearSoftmax of {dtype}, axis {axis}, opset {opset}",
                    made,
                    z=z,
                    own_error=2 * P_SCALE,
                    place="probs",
                )
        made = quantized_activation(
            "QLinearSoftmax",
            classes=4,
            dtype=dtype,
            opset=13,
            axis=-1,
            moves=[node("Identity", "p", "q"), node("Clip", "q", "probs")],
        )
        made.graph.node[2].attribute.append(helper.make_attribute("opset", 13))
        yield Form(f"QLinearSoftmax of {dtype}, then moved", made, z=z, own_error=2 * P_SCALE, place="p")


@family
def quantized_sigmoid() -> Iterator[Form]:
    for dtype in ("int8", "uint8"):
        z = dequantized("logits", 0 if dtype == "int8" else 128)
        for classes, task in ((1, "binary"), (4, "multilabel")):
            yield Form(
                f"QLinearSigmoid of {classes} {dtype} logits",
                quantized_activation("QLinearSigmoid", classes=classes, dtype=dtype, opset=13),
                z=z,
                task=task,
                activation="sigmoid",
                classes=2 if classes == 1 else classes,
                own_error=2 * P_SCALE,
            )


@form(z=dequantized("logits", 0), own_error=2 * P_SCALE, place="d", after=lambda p: p.T)
def quantized_softmax_reshaped_in_8_bits() -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x w", "a"),
        node("QuantizeLinear", "a z_scale z_zero", "logits"),
        node("QLinearSoftmax", "logits z_scale z_zero p_scale p_zero", "p8", domain=MS, axis=-1, opset=13),
        node("Reshape", "p8 s", "r8"),
        node("DequantizeLinear", "r8 p_scale p_zero", "d"),
        node("Transpose", "d", "probs"),
    ]
    constants = (
        {"w": weights(6, 4), "s": ints(-1, 4)} | grid("z", Z_SCALE, 0, "int8") | grid("p", P_SCALE, -128, "int8")
    )
    return contrib(build(nodes, [value("x", ["N", 6])], [value("probs", [4, "N"])], constants, opset=13))


# Quantised products


def qgemm(*, float_output: bool, last: Nodes, output: onnx.ValueInfoProto, source: str) -> onnx.ModelProto:
    """x → 8 bit → QGemm → `source` (in float, or in 8 bit and dequantised) → last."""
    w = np.random.default_rng(0).integers(-100, 100, (6, 4)).astype(np.int8)
    constants = {"w": w, "b": np.array([10, -20, 30, 0], np.int32)}
    constants |= grid("x", 0.03, 128, "uint8") | grid("w", 0.02, 0, "int8")
    inputs = ["x8", "x_scale", "x_zero", "w", "w_scale", "w_zero", "b"]
    nodes = [node("QuantizeLinear", "x x_scale x_zero", "x8")]
    if float_output:
        nodes.append(node("QGemm", inputs, source, domain=MS))
    else:
        constants |= grid("z", Z_SCALE, 120, "uint8")
        nodes.append(node("QGemm", [*inputs, "z_scale", "z_zero"], "z8", domain=MS))
        nodes.append(node("DequantizeLinear", "z8 z_scale z_zero", source))
    return contrib(build([*nodes, *last], [value("x", ["N", 6])], [output], constants, opset=13))


@family
def quantized_gemm() -> Iterator[Form]:
    for float_output in (True, False):
        kind = "float" if float_output else "8-bit"
        yield Form(
            f"raw logits of a {kind} QGemm",
            qgemm(float_output=float_output, last=[], output=value("logits", ["N", 4]), source="logits"),
            output="logits",
            activation="none",
        )
        for op, activation in ACTIVATIONS.items():
            yield Form(
                f"{op} of a {kind} QGemm",
                qgemm(
                    float_output=float_output,
                    last=[node(op, "logits", "probs")],
                    output=value("probs", ["N", 4]),
                    source="logits",
                ),
                activation=activation,
                task="multilabel" if op == "Sigmoid" else "multiclass",
            )


@family
def quantized_product() -> Iterator[Form]:
    """QLinearMatMul; and MatMulInteger with its scales, as dynamic quantisation writes it."""
    w = np.random.default_rng(0).integers(-100, 100, (6, 4)).astype(np.int8)
    static = [
        node("QuantizeLinear", "x x_scale x_zero", "x8"),
        node("QLinearMatMul", "x8 x_scale x_zero w w_scale w_zero z_scale z_zero", "z8"),
        node("DequantizeLinear", "z8 z_scale z_zero", "logits"),
    ]
    scales = grid("x", 0.03, 0, "int8") | grid("w", 0.02, 0, "int8")
    dynamic = [
        node("DynamicQuantizeLinear", "x", "x8 x_scale x_zero"),
        node("MatMulInteger", "x8 w x_zero w_zero", "z32"),
        node("Cast", "z32", "z_float", to=TensorProto.FLOAT),
        node("Mul", "x_scale w_scale", "scale"),
        node("Mul", "z_float scale", "logits"),
    ]
    for name, nodes, constants in (
        ("QLinearMatMul", static, scales | grid("z", Z_SCALE, 0, "int8")),
        ("MatMulInteger", dynamic, grid("w", 0.02, 0, "int8")),
    ):
        for op, activation in (("Softmax", "softmax"), (None, "none")):
            body = [*nodes, *([node(op, "logits", "probs")] if op else [])]
            output = "probs" if op else "logits"
            yield Form(
                f"{op or 'raw logits'} of a {name}",
                build(body, [value("x", ["N", 6])], [value(output, ["N", 4])], constants | {"w": w}, opset=13),
                output=output,
                activation=activation,
            )


@form(dtype="float16", steps=P_SCALE)
def half_precision_scales() -> onnx.ModelProto:
    """From opset 19 on scales may be float16, and with them what is dequantised."""
    nodes = [node("MatMul", "x w", "a"), *rounded("a", "logits", "z"), node("Softmax", "logits", "p")]
    nodes += rounded("p", "probs", "p")
    constants = {"w": weights(6, 4, dtype="float16", scale=0.3)}
    constants |= grid("z", Z_SCALE, 0, "int8", "float16") | grid("p", P_SCALE, -128, "int8", "float16")
    inputs = [value("x", ["N", 6], "float16")]
    outputs = [value("probs", ["N", 4], "float16")]
    return build(nodes, inputs, outputs, constants, opset=19, ir_version=IR_OF_OPSET[19])
