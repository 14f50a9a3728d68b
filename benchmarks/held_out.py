"""The layers that nothing was fitted to: they judge the cost model and the search.

They are in none of the models that the ``onnx`` package bundles and not among the layers of :mod:`.pretrain`
(tests/benchmarks/test_held_out.py holds that), and no rule, constant or trained model was chosen by what they measure.
"""

from __future__ import annotations

from benchmarks.tuning_layers import Conv, Layer, Product

HELD_OUT: tuple[Layer, ...] = (
    Conv(96, 192, 56, 3),
    Conv(160, 160, 20, 3),
    Conv(320, 320, 10, 3),
    Conv(48, 96, 64, 3, stride=2),
    Conv(3, 32, 192, 3, stride=2),
    Conv(64, 96, 20, 5),
    Conv(96, 576, 14, 1),
    Conv(960, 160, 7, 1),
    Conv(192, 384, 32, 1, stride=2),
    Conv(192, 192, 28, 3, groups=192),
    Product(197, 768, 768),
    Product(64, 1024, 256),
)
