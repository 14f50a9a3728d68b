"""The operator library: tensors in, computes out, each with the tag and attrs that a space function needs.

Operators take :class:`~.operand.Operand`, a tensor seen through its logical shape, so that one definition serves
plain and channel-blocked layouts. A bare tensor is one in plain layout. Read :mod:`.operand` first. The families:

    conv, conv_transpose   convolution of any rank, grouped, dilated, depthwise
    pool, window           sliding maxima, means and norms; where their taps fall
    dense                  matrix products, einsum
    elementwise, math      NumPy broadcasting; the scalar functions
    reduce, normalization  reductions, arg-extremes, running sums; softmax, LRN and the norms, in stages
    layout, indexing       moving elements; selecting and joining parts
    resize, quantize       interpolation; conversion to and from integers
    sort                   the greatest elements

Import functions from their modules: several share a name with one (``conv``).
"""
