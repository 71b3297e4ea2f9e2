"""Ensembles of trees as plain arrays: isolation forests and gradient boosting, scored without scikit-learn.

All trees of an ensemble stand in the same arrays, one entry per node; `root` says where each begins.
Scores equal scikit-learn's to 1e-9 (tests/unit/test_learned_scoring.py).
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, I32, U8

_EULER: Final = 0.5772156649015329


class Trees(NamedTuple):
    """Nodes of all trees; a leaf has feature -1."""

    root: I32  # (trees,): first node of each tree
    feature: I32  # (nodes,)
    threshold: F64  # (nodes,): a value up to this goes left
    left: I32
    right: I32
    missing_left: U8  # where NaN goes
    value: F64  # of leaves: depth (isolation) or step (boosting)


@kernel
def sum_of_leaves(trees: Trees, x: Any) -> float:
    """Return the sum over all trees of the value of the leaf that x, shape (features,), falls into."""
    total = 0.0
    for k in range(len(trees.root)):
        node = trees.root[k]
        feature = trees.feature[node]
        while feature >= 0:
            value = x[feature]
            if value == value:
                left = value <= trees.threshold[node]
            else:
                left = trees.missing_left[node] != 0
            node = trees.left[node] if left else trees.right[node]
            feature = trees.feature[node]
        total += trees.value[node]
    return total


@kernel
def isolation_scores(trees: Trees, scale: float, x: F64, out: F64) -> None:
    """Write to `out`, shape (n,), how isolated each row of `x`, shape (n, features), is: 0 to 1.

    `x` holds single-precision values, as scikit-learn compares them; `scale` is the number of trees times
    the mean depth of a tree of as many samples as each was grown from.
    """
    for i in range(len(x)):
        out[i] = 2.0 ** (-sum_of_leaves(trees, x[i]) / scale)


@kernel
def boosted_values(trees: Trees, base: float, x: F64, out: F64) -> None:
    """Write to `out`, shape (n,), the prediction for each row of `x`, shape (n, features), NaN = missing."""
    for i in range(len(x)):
        out[i] = base + sum_of_leaves(trees, x[i])


def mean_depth(n: int) -> float:
    """Return the mean depth at which a random tree isolates one of n samples (Liu et al. 2008)."""
    if n <= 1:
        return 0.0
    if n == 2:
        return 1.0
    return 2.0 * (math.log(n - 1.0) + _EULER) - 2.0 * (n - 1.0) / n


def of_isolation_forest(forest: Any) -> tuple[Trees, float]:
    """Return a fitted ``IsolationForest`` as arrays, and the scale of its scores."""
    parts = []
    for estimator, features in zip(forest.estimators_, forest.estimators_features_, strict=True):
        tree = estimator.tree_
        depth = np.ones(tree.node_count)
        for node in range(tree.node_count):  # parents stand before their children
            for child in (tree.children_left[node], tree.children_right[node]):
                if child >= 0:
                    depth[child] = depth[node] + 1
        leaf = tree.children_left < 0
        rest = np.array([mean_depth(int(n)) for n in tree.n_node_samples])
        parts.append(
            (
                np.where(leaf, -1, np.asarray(features)[np.maximum(tree.feature, 0)]),
                tree.threshold,
                tree.children_left,
                tree.children_right,
                np.zeros(tree.node_count),
                np.where(leaf, depth + rest - 1.0, 0.0),
            )
        )
    return _joined(parts), len(parts) * mean_depth(int(forest.max_samples_))


def of_gradient_boosting(model: Any) -> tuple[Trees, float]:
    """Return a fitted ``HistGradientBoostingRegressor`` with identity link as arrays, and its base value."""
    parts = []
    for (predictor,) in model._predictors:
        nodes = predictor.nodes
        leaf = nodes["is_leaf"] != 0
        parts.append(
            (
                np.where(leaf, -1, nodes["feature_idx"]),
                nodes["num_threshold"],
                nodes["left"],
                nodes["right"],
                nodes["missing_go_to_left"],
                np.where(leaf, nodes["value"], 0.0),
            )
        )
    return _joined(parts), float(np.ravel(model._baseline_prediction)[0])


def _joined(parts: list[tuple[Any, ...]]) -> Trees:
    sizes = [len(part[0]) for part in parts]
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    feature, threshold, left, right, missing, value = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    shift = np.repeat(first, sizes)
    inner = feature >= 0
    return Trees(
        first.astype(np.int32),
        feature.astype(np.int32),
        np.where(inner, threshold, 0.0).astype(np.float64),
        np.where(inner, left.astype(np.int64) + shift, -1).astype(np.int32),
        np.where(inner, right.astype(np.int64) + shift, -1).astype(np.int32),
        missing.astype(np.uint8),
        value.astype(np.float64),
    )
