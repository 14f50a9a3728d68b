"""The spaces that ship, by operator family. Importing this package registers them.

* :mod:`.conv`     direct convolution with a register tile; depthwise convolution and pooling share its outer loops
* :mod:`.matmul`   matrix products with a packed right-hand side
* :mod:`.general`  everything else: vectorised and parallel by rule, whatever the expression
"""

from . import conv, general, matmul

__all__ = ["conv", "general", "matmul"]
