"""Graph passes: functions ``Graph -> Graph`` that leave their argument as it is. ``PASSES`` lists them in order.

Operators that passes make, beside ONNX's:

    ScaleShift       x, scale (C,), shift (C,)    y = x * scale + shift, per channel (axis 1)
    ChannelShuffle   x; groups                    channel g * (C / groups) + k goes to channel k * groups + g
    PhysicalFlatten  x; block                     (N, C, *spatial) in blocks of ``block`` channels to rank 2, in the
                                                  order of memory: a view (made by :mod:`..layouts`)
    LayoutConvert    x                            the same value in its output's layout (made by :mod:`..layouts`)
"""

from .run import PASSES, run_passes

__all__ = ["PASSES", "run_passes"]
