"""A mixture of Gaussians as plain arrays, scored without scikit-learn."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64


class Mixture(NamedTuple):
    """Components with full covariance; f features, k components."""

    constant: F64  # (k,): log of the weight and of the density's factor
    mean: F64  # (k, f): mean times `root`
    root: F64  # (k, f, f): Cholesky factor of the precision, upper triangle


@kernel
def surprises(mixture: Mixture, x: F64, out: F64) -> None:
    """Write to `out`, shape (n,), minus the log density at each row of `x`, shape (n, f)."""
    k, f = mixture.mean.shape
    for i in range(len(x)):
        top, total = -np.inf, 0.0
        for c in range(k):
            square = 0.0
            for b in range(f):
                y = -mixture.mean[c, b]
                for a in range(b + 1):
                    y += x[i, a] * mixture.root[c, a, b]
                square += y * y
            term = mixture.constant[c] - 0.5 * square
            if term > top:  # the sum of exponentials is kept relative to its greatest term
                total = total * math.exp(top - term) + 1.0
                top = term
            else:
                total += math.exp(term - top)
        out[i] = -(top + math.log(total))


def of_gaussian_mixture(model: Any) -> Mixture:
    """Return a fitted ``GaussianMixture`` with full covariances as arrays."""
    root = np.ascontiguousarray(model.precisions_cholesky_, np.float64)
    f = root.shape[1]
    log_det = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    constant = np.log(model.weights_) + log_det - 0.5 * f * math.log(2 * math.pi)
    mean = np.einsum("ka,kab->kb", model.means_, root)
    return Mixture(np.ascontiguousarray(constant), np.ascontiguousarray(mean), root)
