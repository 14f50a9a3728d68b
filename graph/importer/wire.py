"""Take the weights out of a serialised model before it is parsed, so that they are never copied.

Comes in: a file's bytes, mapped. Goes out: the bytes of the same model without the raw data of its large initialisers,
and, for each of these, the part of the file that holds it. Protobuf would copy such data twice, and takes no message
above 2 GB. Only what it takes to find those fields is read here (the wire format is specified at
https://protobuf.dev/programming-guides/encoding/); wherever anything is unusual, the model is left whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_GRAPH, _FUNCTIONS = 7, 25  # fields of ModelProto
_INITIALIZER = 5  # of GraphProto
_RAW_DATA = 9  # of TensorProto
_BYTES = 2  # the wire type of strings, bytes and messages
_FIXED = {1: 8, 5: 4}
_LEAST = 4096  # smaller tensors are not worth it
_MOST_FIELDS = 64  # a tensor with more of them has its numbers one by one


@dataclass(frozen=True, slots=True)
class _Field:
    """number and wire type; [start, end) with the tag, content from ``content`` on."""

    number: int
    wire: int
    start: int
    content: int
    end: int


class _Unusual(Exception):
    """Not what this module understands."""


def detach_weights(data: memoryview) -> tuple[bytes, Mapping[int, memoryview]] | None:
    """Return the model without the raw data of large initialisers, and these data by the initialiser's position.

    None where there is nothing to gain, or the bytes are not plainly a model: then parse them whole.
    """
    try:
        return _detach(data)
    except _Unusual:
        return None


def _detach(data: memoryview) -> tuple[bytes, Mapping[int, memoryview]] | None:
    fields = list(_fields(data, 0, len(data)))
    graphs = [f for f in fields if f.number == _GRAPH]
    if len(graphs) != 1 or graphs[0].wire != _BYTES or any(f.number == _FUNCTIONS for f in fields):
        return None
    weights: dict[int, memoryview] = {}
    parts: list[bytes | memoryview] = []
    position = 0
    for field in _fields(data, graphs[0].content, graphs[0].end):
        part: bytes | memoryview = data[field.start : field.end]
        if field.number == _INITIALIZER and field.wire == _BYTES:
            raw = _raw_data(data, field)
            if raw is not None:
                weights[position] = data[raw.content : raw.end]
                part = _message(_INITIALIZER, [data[field.content : raw.start], data[raw.end : field.end]])
            position += 1
        parts.append(part)
    if not weights:
        return None
    graph = graphs[0]
    return b"".join([data[: graph.start], _message(_GRAPH, parts), data[graph.end :]]), weights


def _raw_data(data: memoryview, tensor: _Field) -> _Field | None:
    """The raw data of a tensor, if it is large, and there once."""
    if tensor.end - tensor.content < _LEAST:
        return None
    found = None
    for count, field in enumerate(_fields(data, tensor.content, tensor.end)):
        if count == _MOST_FIELDS:
            return None
        if field.number == _RAW_DATA:
            if found is not None or field.wire != _BYTES or field.end - field.content < _LEAST:
                return None
            found = field
    return found


def _fields(data: memoryview, at: int, end: int) -> Iterator[_Field]:
    """The fields of the message in [at, end)."""
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        content = at
        if wire == _BYTES:
            size, content = _varint(data, at, end)
            at = content + size
        elif wire in _FIXED:
            at += _FIXED[wire]
        elif wire == 0:
            _, at = _varint(data, at, end)
        else:
            raise _Unusual
        if at > end or not number:
            raise _Unusual
        yield _Field(number, wire, start, content, at)


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """An integer and the position after it."""
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise _Unusual


def _message(number: int, parts: list[bytes | memoryview]) -> bytes:
    """A field that holds a message."""
    return b"".join([_encoded(number << 3 | _BYTES), _encoded(sum(map(len, parts))), *parts])


def _encoded(value: int) -> bytes:
    result = bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    result.append(value)
    return bytes(result)
