"""ONNX protobuf to graph IR; the entry is :func:`luthier.graph.onnx_import.load_model`.

:mod:`.read` finds and parses the file, :mod:`.proto` decodes tensors and attributes, :mod:`.build` walks the nodes and
infers shapes, :mod:`.normalize` and :mod:`.windows` bring every operator into one form, whatever its opset.
"""
