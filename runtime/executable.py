"""A model that can run: one native program, its constants, and what it takes and gives.

Comes in: a :class:`~luthier.codegen.program.Program` with object code and constants, from graph/compile.py or from an
artifact (:mod:`.artifact`). Goes out: arrays. One inference is one foreign call::

    model = luthier.compile("resnet50.onnx")
    (scores,) = model.run(None, {"data": image})

An Executable is immutable and may be called by several Python threads at once: each call in flight has an arena of
its own from a pool. Nothing but the output arrays is allocated once the pool is warm.
"""

from __future__ import annotations

import ctypes
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ..codegen.detect import can_run
from ..codegen.program import Program
from ..errors import InputError, TargetError
from ..target import Target
from ..te import dtype as dt
from . import openmp
from .arrays import ALIGNMENT, Array, address_of, empty_aligned, empty_pages, new_aligned
from .loader import LoadedProgram, load_objects
from .report import BuildReport

if TYPE_CHECKING:
    from .profile import Peaks, Profile

Run = Callable[[LoadedProgram, int, int | None], int]
"""Runs a program so many times in a row and returns nanoseconds; the last argument is the address of a timed program's
stamps (see :mod:`luthier.codegen.program`), or None."""

_ONNX_TYPES = {"float32": "float", "float64": "double"}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output: as ONNX Runtime's ``NodeArg``, with the element type as ``dtype`` too."""

    name: str
    dtype: str
    dims: tuple[int, ...]

    @property
    def shape(self) -> list[int]:
        return list(self.dims)

    @property
    def type(self) -> str:
        """ONNX Runtime's spelling: ``tensor(float)``."""
        return f"tensor({_ONNX_TYPES.get(self.dtype, self.dtype)})"

    @property
    def size_bytes(self) -> int:
        return int(np.prod(self.dims, dtype=np.int64)) * dt.size_bytes(self.dtype)

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{self.shape}"


class _Context:
    """What one call in flight needs: an arena, aligned copies of inputs that are not, and two tables of pointers.

    The table of inputs has room for one more pointer, to the stamps of a timed program.
    """

    __slots__ = ("addresses", "arena", "inputs", "outputs", "staging")

    def __init__(self, program: Program) -> None:
        self.arena = empty_pages(program.arena_bytes)
        self.inputs = (ctypes.c_void_p * (program.inputs + 1))()
        self.outputs = (ctypes.c_void_p * max(program.outputs, 1))()
        self.addresses = ctypes.addressof(self.inputs), ctypes.addressof(self.outputs), address_of(self.arena)
        self.staging: list[tuple[Array, int] | None] = [None] * program.inputs

    def stage(self, position: int, array: Array, dtype: np.dtype[Any]) -> int:
        """Copy an input to aligned memory that stays with this context; return its address."""
        copy = self.staging[position]
        if copy is None:
            copy = self.staging[position] = new_aligned(array.shape, dtype)
        np.copyto(copy[0], array)
        return copy[1]


class Executable:
    """A compiled model or operator, with the interface of ONNX Runtime's ``InferenceSession``."""

    def __init__(
        self,
        program: Program,
        objects: Sequence[bytes],
        constants: Array,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        target: Target,
        report: BuildReport | None = None,
        loaded: LoadedProgram | None = None,
    ) -> None:
        """constants: uint8, aligned to 64 bytes. loaded: the objects' entry; default: they are linked on first use."""
        self.program = program
        self.objects = tuple(objects)
        self.constants = constants
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.target = target
        self.report = report
        self.threads = openmp.usable_threads(program.threads)
        self._loaded = loaded
        self._loading = Lock()
        self._constants_address = address_of(constants) if constants.size else None
        self._input_types = [dt.to_numpy(s.dtype) for s in self.inputs]
        self._output_types = [dt.to_numpy(s.dtype) for s in self.outputs]
        self._positions = {s.name: i for i, s in enumerate(self.inputs)}
        self._idle: deque[_Context] = deque()  # append and pop are atomic

    def get_inputs(self) -> list[TensorSpec]:
        """The inputs in order; each has ``name``, ``shape`` and ``type``."""
        return list(self.inputs)

    def get_outputs(self) -> list[TensorSpec]:
        """The outputs in order; each has ``name``, ``shape`` and ``type``."""
        return list(self.outputs)

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any]) -> list[Array]:
        """Compute the outputs called ``output_names`` (None: all) from ``{input name: array}``.

        The arrays are new; inputs are never written. An input that is C-contiguous and aligned to 64 bytes (see
        :meth:`empty_input`) is read where it is, another is copied first. Raises InputError.
        """
        wanted = self._select(output_names)
        arrays = self._check(input_feed)
        results = self._empty_outputs()
        context = self._acquire()
        try:
            self._call(context, arrays, results, self.native(), 1)
        finally:
            self._idle.append(context)
        return [array for array, _ in results] if wanted is None else [results[i][0] for i in wanted]

    def run_into(self, outputs: Sequence[Array], input_feed: Mapping[str, Any]) -> None:
        """As :meth:`run`, into arrays of the caller's: all outputs in order, C-contiguous and aligned to 64 bytes.

        Raises InputError where an array is not of its output's shape and dtype, or cannot be written in place.
        """
        arrays = self._check(input_feed)
        results = [(array, address_of(array)) for array in outputs]
        specs = list(zip(self.outputs, self._output_types, strict=False))
        if len(results) != len(specs):
            raise InputError(f"{len(results)} arrays were given for {len(specs)} outputs")
        for (array, address), (spec, dtype) in zip(results, specs, strict=True):
            fits = array.shape == spec.dims and array.dtype == dtype and array.flags.c_contiguous
            if not fits or address % ALIGNMENT or not array.flags.writeable:
                raise InputError(
                    f"output {spec.name!r} needs a writeable C-contiguous {spec.dtype}{spec.shape} at a multiple of "
                    f"{ALIGNMENT} bytes, not {array.dtype}{list(array.shape)}: allocate it with empty_aligned"
                )
        context = self._acquire()
        try:
            self._call(context, arrays, results, self.native(), 1)
        finally:
            self._idle.append(context)

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """Run with inputs by position or name; return the output, or a tuple when there are several."""
        if len(arrays) > len(self.inputs):
            raise InputError(f"{len(arrays)} arrays were given; the model takes {len(self.inputs)}: {self._expected()}")
        feed = {s.name: a for s, a in zip(self.inputs, arrays, strict=False)}
        twice = sorted(feed.keys() & named.keys())
        if twice:
            raise InputError(f"input {twice[0]!r} was given by position and by name; give it once")
        results = self.run(None, {**feed, **named})
        return results[0] if len(results) == 1 else tuple(results)

    def time(
        self, repeats: int = 10, *, inputs: Mapping[str, Any] | None = None, number: int = 1, warmup: int = 1
    ) -> list[float]:
        """Measure: return ``repeats`` latencies in seconds, each the mean over ``number`` native runs in a row.

        ``inputs`` default to seeded random floats and zero integers. Outside of the clock: checks, copies and
        allocation of outputs, and ``warmup`` runs.
        """
        for name, value, least in (("repeats", repeats, 1), ("number", number, 1), ("warmup", warmup, 0)):
            if value < least:
                raise InputError(f"time: {name} is {value}; it must be at least {least}")
        with self.bound(inputs) as call:
            native = self.native()
            if warmup:
                call(native, warmup, None)
            return [call(native, number, None) / 1e9 / number for _ in range(repeats)]

    def profile(
        self, rounds: int | None = None, *, inputs: Mapping[str, Any] | None = None, peaks: Peaks | None = None
    ) -> Profile:
        """Measure where an inference spends its time, kernel by kernel; print the result, or ask it for ``to_json()``.

        rounds  inferences to take medians over; default: as many as fit into some seconds
        inputs  as for :meth:`time`
        peaks   what the machine can do at most (:func:`luthier.peak.measure`); default: unknown, no rooflines

        See :mod:`.profile` for how it is done. Raises InputError, and TargetError for code of another machine.
        """
        from .profile import profile

        return profile(self, rounds, inputs, peaks)

    @contextmanager
    def bound(self, inputs: Mapping[str, Any] | None) -> Iterator[Run]:
        """Check inputs (None: example ones) and give a function that runs a program on them; see :data:`Run`."""
        arrays = self._check(self.example_inputs() if inputs is None else inputs)
        results = self._empty_outputs()
        context = self._acquire()
        try:
            yield lambda program, repeats, stamps: self._call(context, arrays, results, program, repeats, stamps)
        finally:
            self._idle.append(context)

    def native(self) -> LoadedProgram:
        """The program, linked into this process. Raises TargetError where it is for another machine."""
        if self._loaded is None:
            with self._loading:
                self._loaded = self._loaded or self._link()
        return self._loaded

    def check_host(self) -> None:
        """Raise TargetError unless this machine can run the code."""
        if not can_run(self.target):
            raise TargetError(
                f"the code is for {self.target.name} ({self.target.triple}, {self.target.cpu}), which this machine "
                f"cannot run; save it and load it there"
            )

    def empty_input(self, name: str) -> Array:
        """Return a new array for the input ``name`` that :meth:`run` will read in place, without a copy."""
        if name not in self._positions:
            raise InputError(f"input {name!r} does not exist; the model takes {self._expected()}")
        position = self._positions[name]
        return empty_aligned(self.inputs[position].dims, self._input_types[position])

    def example_inputs(self, seed: int = 0) -> dict[str, Array]:
        """Arrays of the right names, shapes and dtypes: normal floats, zero integers."""
        rng = np.random.default_rng(seed)
        feed = {}
        for spec, dtype in zip(self.inputs, self._input_types, strict=True):
            array = self.empty_input(spec.name)
            array[...] = rng.standard_normal(spec.dims).astype(dtype) if dt.is_float(spec.dtype) else 0
            feed[spec.name] = array
        return feed

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything into one file for :func:`luthier.load`; see :mod:`.artifact`. Raises ArtifactError."""
        from .artifact import save

        save(self, path)

    def __repr__(self) -> str:
        ins, outs = (", ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"Executable({ins} -> {outs}; {self.threads} threads)"

    # -------------------------------------------------------------------------------------- inside

    def _link(self) -> LoadedProgram:
        self.check_host()
        return load_objects(self.objects)

    def _empty_outputs(self) -> list[tuple[Array, int]]:
        return [new_aligned(s.dims, t) for s, t in zip(self.outputs, self._output_types, strict=True)]

    def _acquire(self) -> _Context:
        try:
            return self._idle.pop()
        except IndexError:
            return _Context(self.program)

    def _call(
        self,
        context: _Context,
        arrays: Sequence[Array],
        results: Sequence[tuple[Array, int]],
        program: LoadedProgram,
        repeats: int,
        stamps: int | None = None,
    ) -> int:
        """Run the program and return how long it took, in nanoseconds. The caller keeps the arrays alive."""
        for i, array in enumerate(arrays):
            address, dtype = address_of(array), self._input_types[i]
            if address % ALIGNMENT or not array.flags.c_contiguous or array.dtype != dtype:
                address = context.stage(i, array, dtype)
            context.inputs[i] = address
        for i, (_, address) in enumerate(results):
            context.outputs[i] = address
        context.inputs[len(arrays)] = stamps
        inputs, outputs, arena = context.addresses
        start_ns = time.perf_counter_ns()
        program(inputs, outputs, self._constants_address, arena, self.threads, repeats)
        return time.perf_counter_ns() - start_ns

    def _select(self, output_names: Sequence[str] | None) -> list[int] | None:
        if output_names is None:
            return None
        if isinstance(output_names, str):
            raise InputError(f"output_names is the string {output_names!r}; pass a list of names, or None for all")
        positions = {s.name: i for i, s in enumerate(self.outputs)}
        for name in output_names:
            if name not in positions:
                raise InputError(f"output {name!r} does not exist; the model gives {', '.join(positions)}")
        return [positions[name] for name in output_names]

    def _check(self, feed: Mapping[str, Any]) -> list[Array]:
        """Return the input arrays in order, each of the right shape and element type."""
        if not isinstance(feed, Mapping):
            raise InputError(f"input_feed is a {type(feed).__name__}; pass a dictionary {{name: array}}")
        unknown = [name for name in feed if name not in self._positions]
        missing = [s.name for s in self.inputs if s.name not in feed]
        if unknown or missing:
            what = f"input {unknown[0]!r} does not exist" if unknown else f"input {missing[0]!r} is missing"
            raise InputError(f"{what}; the model takes {self._expected()}")
        return [_as_array(s, t, feed[s.name]) for s, t in zip(self.inputs, self._input_types, strict=True)]

    def _expected(self) -> str:
        return ", ".join(map(str, self.inputs)) or "no inputs"


def _as_array(spec: TensorSpec, dtype: np.dtype[Any], value: Any) -> Array:
    """Return ``value`` as an array that fits ``spec`` but for byte order and strides; convert lists and scalars."""
    if isinstance(value, np.ndarray):
        array = value
    else:
        try:
            array = np.asarray(value) if hasattr(value, "__array__") else np.asarray(value, dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"input {spec.name!r}: {type(value).__name__} is not a {spec.dtype} array: {error}"
            ) from None
    if array.dtype != dtype and array.dtype.newbyteorder("=") != dtype:
        raise InputError(
            f"input {spec.name!r} is {array.dtype}; the model takes {spec.dtype}: convert it with "
            f".astype({spec.dtype!r})"
        )
    if array.shape != spec.dims:
        raise InputError(
            f"input {spec.name!r} has shape {list(array.shape)}; the model was built for {spec.shape}: "
            f"reshape the array, or build the model with shapes={{{spec.name!r}: {tuple(array.shape)}}}"
        )
    return array
