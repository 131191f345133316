"""Local functions, looked into: a view of the main graph in which their bodies stand where they are called.

For finding heads only: what is found is said in terms of the main graph, which stays as it is. A call can be patched
where all that reads the logits inside it is part of the activation; then the call itself reads calibrated logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import onnx

from onnxcal.graph.head import Complemented, Fed, Head, Selected, Transposed
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.tails.registry import Unclear
from onnxcal.graph.view import GraphView

_DEEPEST = 8
_INLINE = "inline it first: import onnx.inliner; onnx.inliner.inline_local_functions(model)"


class InlinedView(GraphView):
    """A main graph with the bodies of local functions in the place of their calls."""

    def __init__(self, model: ModelFile) -> None:
        self._functions = {(f.domain, f.name, f.overload): f for f in model.skeleton.functions}
        self._default_opset = model.opset()
        self.origin: list[int] = []
        """For each node here the position of the main graph's node that it stands for."""
        super().__init__(model)
        self._main = GraphView(model)

    def _make_graph(self, model: ModelFile) -> onnx.GraphProto:
        graph = onnx.GraphProto()
        graph.CopyFrom(model.graph)
        del graph.node[:]
        for index, node in enumerate(model.graph.node):
            for inner in self._expanded(node, f"{index}", _DEEPEST):
                graph.node.append(inner)
                self.origin.append(index)
        return graph

    def in_main_graph(self, head: Head) -> Head:
        """A head that was found here, with positions of the main graph.

        Raises
        ------
        Unclear
            Something that a patch needs is inside a function.
        """
        shaped = (step for step in head.trail if isinstance(step, (Transposed, Selected, Complemented)))
        names = [head.logits, *(step.tensor for step in shaped if step.tensor is not None)]
        inside = [name for name in names if name not in self._main.names()]
        if isinstance(head.site, Fed):
            readers = tuple(sorted({self.origin[reader] for reader in head.site.readers}))
            all_readers = [i for i in self.readers(head.logits) if self.origin[i] in readers]
            if inside:
                raise self._hidden(head, head.site.readers[0])
            if set(all_readers) != set(head.site.readers):
                name = self.model.graph.node[readers[0]].op_type
                raise Unclear(
                    f"is made by the local function {name}, which reads its logits '{head.logits}' for something else "
                    "as well",
                    _INLINE,
                    spills=True,
                )
            is_call = any(self._is_call(reader) for reader in readers)
            made = self._main.producer(head.site.activated)
            single = head.site.single and not is_call
            place = head.site.activated if made is not None else self._result_of(head)
            return replace(head, site=replace(head.site, readers=readers, single=single, activated=place))
        node = None if head.site.node is None else self.origin[head.site.node]
        if inside or head.site.target not in self._main.producers or (node is not None and self._is_call(node)):
            raise self._hidden(head, self.producers[head.site.target])
        return replace(head, site=replace(head.site, node=node))

    def calls_function(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a call that was not looked into."""
        return self._function(node) is not None

    def _result_of(self, head: Head) -> str:
        """The main graph's tensor that holds what the activation inside a call makes, or comes of it."""
        assert isinstance(head.site, Fed)
        call = self.model.graph.node[self.origin[head.site.readers[-1]]]
        return str(next(iter(call.output), head.output))

    def _hidden(self, head: Head, node: int) -> Unclear:
        name = self.model.graph.node[self.origin[node]].op_type
        return Unclear(
            f"has its logits inside the local function {name}",
            _INLINE,
        )

    def _is_call(self, index: int) -> bool:
        return self._function(self.model.graph.node[index]) is not None

    def _function(self, node: onnx.NodeProto) -> onnx.FunctionProto | None:
        return self._functions.get((node.domain, node.op_type, node.overload))

    def _expanded(self, node: onnx.NodeProto, prefix: str, depth: int) -> Iterator[onnx.NodeProto]:
        function = self._function(node)
        if function is None or depth == 0 or not self._same_opset(function) or _has_subgraphs(function):
            yield node
            return
        names = dict(zip(function.input, node.input, strict=False)) | dict(
            zip(function.output, node.output, strict=False)
        )
        given = {attribute.name: attribute for attribute in node.attribute}
        defaults = {attribute.name: attribute for attribute in function.attribute_proto}
        for number, inner in enumerate(function.node):
            copy = onnx.NodeProto()
            copy.CopyFrom(inner)
            copy.input[:] = [names.get(name, f"{prefix}/{name}") if name else "" for name in inner.input]
            copy.output[:] = [names.get(name, f"{prefix}/{name}") if name else "" for name in inner.output]
            for attribute in list(copy.attribute):
                if attribute.ref_attr_name:
                    value = given.get(attribute.ref_attr_name, defaults.get(attribute.ref_attr_name))
                    name = attribute.name
                    copy.attribute.remove(attribute)
                    if value is not None:
                        copy.attribute.add().CopyFrom(value)
                        copy.attribute[-1].name = name
            yield from self._expanded(copy, f"{prefix}.{number}", depth - 1)

    def _same_opset(self, function: onnx.FunctionProto) -> bool:
        versions = {entry.version for entry in function.opset_import if entry.domain in ("", "ai.onnx")}
        return versions <= {self._default_opset}


def _has_subgraphs(function: onnx.FunctionProto) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for node in function.node for attribute in node.attribute)
