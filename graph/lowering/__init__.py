"""From nodes to tensor expressions: each group of the graph becomes one workload.

Comes in: a :class:`~luthier.graph.ir.Group` and its graph. Goes out: :class:`LoweredGroup`. :mod:`.context` holds
what all rules share (how constants and layouts are read), :mod:`.registry` the table from operators to rules; the
rules are in :mod:`.windows` (convolution, pooling), :mod:`.dense`, :mod:`.elementwise`, :mod:`.normalization`,
:mod:`.movement` and :mod:`.reductions`.
"""

from .group import LoweredGroup, lower_group
from .registry import supports

__all__ = ["LoweredGroup", "lower_group", "supports"]
