"""What a convolution with the taps of a row of the filter as channels costs (:mod:`luthier.te.ops.row_taps`)."""

from __future__ import annotations

from math import prod
from typing import cast

from ...target import Target
from ...te.ops import row_taps
from ...te.tensor import Compute
from .images import windows
from .traffic import l3_rate


def row_taps_cycles(anchor: Compute, direct: float, target: Target) -> float:
    """Estimated cycles of a convolution whose direct products take ``direct`` of them on one core.

    The products are in fuller vectors, and for columns on padding too; each tap of a sum is a load and an addition.
    """
    kernel, pads = (cast(tuple[int, ...], anchor.attrs[name]) for name in ("kernel", "pads"))
    _, window_x = windows(anchor)
    blocks, columns = row_taps.blocks_of_taps(anchor), window_x.inputs + pads[1] + pads[3]
    taken = columns / (window_x.outputs * window_x.share_inside())
    sums = prod(anchor.shape[:4]) * kernel[1]
    stored_bytes = 2 * prod(anchor.shape[:3]) * columns * blocks * anchor.shape[4] * 4
    return (direct * taken * blocks / kernel[1] + 1.5 * sums + stored_bytes / l3_rate(target)) / target.threads
