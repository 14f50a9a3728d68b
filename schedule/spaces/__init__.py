"""The spaces that ship, by operator family. Importing this package registers them.

* :mod:`.conv`     direct convolution with a register tile, and the other algorithms that compute the same
* :mod:`.window`   depthwise convolution and pooling
* :mod:`.matmul`   matrix products with a packed right-hand side
* :mod:`.general`  everything else: vectorised and parallel by rule, whatever the expression
"""

from . import conv, general, matmul, window

__all__ = ["conv", "general", "matmul", "window"]
