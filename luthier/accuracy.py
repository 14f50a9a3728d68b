"""How near results must come to those of exact arithmetic: the choice between speed and rounding.

fast   algorithms may round differently: Winograd convolution, whose largest error is about ten times that of a plain
       sum (1e-6 to 2e-5 of the largest value of a layer), and Strassen's algorithm for 1x1 convolutions (up to twice)
exact  every sum is the operator's own, in any order; what differs from another engine is reassociation alone
"""

from __future__ import annotations

from typing import Literal, TypeAlias, cast, get_args

from .errors import Error

Accuracy: TypeAlias = Literal["fast", "exact"]
ACCURACIES: tuple[str, ...] = get_args(Accuracy)


def check_accuracy(value: str) -> Accuracy:
    """Return ``value`` if it is one of :data:`ACCURACIES`; raise Error where it is not."""
    if value not in ACCURACIES:
        raise Error(
            f"accuracy is {value!r}; it must be 'fast' (allows algorithms that round differently, such as "
            "Winograd's) or 'exact' (allows none)"
        )
    return cast(Accuracy, value)
