"""Thresholds of boosted trees in float32: rounded down, so that no sample changes sides.

LightGBM's and histogram gradient boosting's thresholds are float64 midpoints, which on data with few decimals are
values of other samples. Converters round them to the nearest float32, often up; for a float32 x, x ≤ t is x ≤ t rounded
down.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx

from onnxcal.sklearn.estimators import name_of, parts

Threshold = tuple[int, float]
"""Feature and value: a sample goes left where it is not larger."""


def round_thresholds_down(model: onnx.ModelProto, estimator: Any) -> None:
    """Mend the float32 thresholds of a converted model in place.

    Parameters
    ----------
    model : with `TreeEnsembleClassifier`s whose thresholds were rounded to the nearest.
    estimator : what it was converted from.
    """
    known: dict[tuple[int, np.float32], np.float32] = {}
    for feature, threshold in (pair for part in parts(estimator) for pair in _thresholds(part)):
        nearest = np.float32(threshold)
        above = float(nearest) > threshold  # numpy would compare in float32
        known[feature, nearest] = np.nextafter(nearest, np.float32(-np.inf)) if above else nearest
    for node in model.graph.node if known else ():
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type != "TreeEnsembleClassifier" or not attributes["nodes_values"].floats:
            continue
        modes, features = attributes["nodes_modes"].strings, attributes["nodes_featureids"].ints
        values = attributes["nodes_values"].floats
        for index, (mode, feature, value) in enumerate(zip(modes, features, values, strict=True)):
            if mode == b"BRANCH_LEQ":
                values[index] = float(known.get((feature, np.float32(value)), value))


def _thresholds(part: Any) -> Iterator[Threshold]:
    if name_of(part) == "LGBMClassifier" and hasattr(part, "booster_"):
        nodes = [tree["tree_structure"] for tree in part.booster_.dump_model()["tree_info"]]
        while nodes:
            node = nodes.pop()
            nodes += [node[side] for side in ("left_child", "right_child") if side in node]
            if node.get("decision_type") == "<=":
                yield node["split_feature"], float(node["threshold"])
    elif name_of(part) == "HistGradientBoostingClassifier":
        for tree in (tree for trees in part._predictors for tree in trees):
            splits = tree.nodes[tree.nodes["is_leaf"] == 0]
            yield from zip(splits["feature_idx"].tolist(), splits["num_threshold"].tolist(), strict=True)
