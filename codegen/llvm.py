"""From LLVM IR text to object code, by a short list of passes.

The emitter hoists index arithmetic and removes common subexpressions itself, so promotion of variables to registers
(SROA), peephole rewriting and branch cleanup are all that is left: the full -O3 pipeline doubles the time of a
build for no steady gain. Neither does loop strength reduction, a quarter of the time of code generation, find anything
to do; and of the levels of code generation, the first makes code as fast as the second's in six sevenths of its time.
Functions here may be called from several threads at once.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import llvmlite.binding as binding

from .. import config
from ..errors import InternalError
from ..target import Target
from .mathlib import PREFIX

_ready = threading.Lock()
_lean = threading.Lock()
_lean_users = 0


def compile_object(ir_text: str, target: Target) -> bytes:
    """Compile a module to a relocatable object file.

    Raises InternalError, with the path of a dump, when LLVM rejects the text.
    """
    machine = _machine(target)
    module = _optimize(ir_text, machine)
    with _lean_codegen():
        return bytes(machine.emit_object(module))


def assembly(ir_text: str, target: Target) -> str:
    """The assembly that :func:`compile_object` would encode."""
    machine = _machine(target)
    module = _optimize(ir_text, machine)
    with _lean_codegen():
        return str(machine.emit_assembly(module))


def optimized_ir(ir_text: str, target: Target) -> str:
    """The module after the passes, as LLVM prints it."""
    return str(_optimize(ir_text, _machine(target)))


@lru_cache(maxsize=1)
def _initialize() -> None:
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()


@contextmanager
def _lean_codegen() -> Iterator[None]:
    """Generate code without loop strength reduction.

    LLVM has the switch for the whole process only, where others (Numba, say) may use LLVM too: it is set back.
    """
    global _lean_users
    with _lean:
        _lean_users += 1
        binding.set_option("luthier", "-disable-lsr=true")
    try:
        yield
    finally:
        with _lean:
            _lean_users -= 1
            if not _lean_users:
                binding.set_option("luthier", "-disable-lsr=false")


class _Machines(threading.local):
    """Target machines of one thread: they are not safe to share between threads."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str, str], binding.TargetMachine] = {}


_machines = _Machines()


def _machine(target: Target) -> binding.TargetMachine:
    """This thread's machine for a target; it is kept, as it and what it makes for its first module take 2 to 3 ms."""
    identity = target.triple, target.cpu, target.features
    found = _machines.known.get(identity)
    if found is None:
        found = _machines.known[identity] = _new_machine(target)
    return found


def _new_machine(target: Target) -> binding.TargetMachine:
    with _ready:
        _initialize()
    try:
        llvm_target = binding.Target.from_triple(target.triple)
    except RuntimeError as e:
        raise InternalError(f"llvm: triple {target.triple!r} of target {target.name!r} is unknown: {e}") from None
    return llvm_target.create_target_machine(
        cpu=target.cpu, features=target.features, opt=1, reloc="pic", codemodel="small"
    )


def _optimize(ir_text: str, machine: binding.TargetMachine) -> binding.ModuleRef:
    context = binding.create_context()
    try:
        module = binding.parse_assembly(ir_text, context)
        module.verify()
    except RuntimeError as e:
        raise InternalError(f"llvm: the IR was rejected: {e}; it is in {_dump(ir_text)}") from None
    options = binding.create_pipeline_tuning_options(speed_level=2)
    builder = binding.create_pass_builder(machine, options)
    passes = binding.create_new_module_pass_manager()
    if f"@{PREFIX}" in ir_text:
        passes.add_always_inliner_pass()
        passes.add_global_dead_code_eliminate_pass()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, builder)
    return module


def _dump(ir_text: str) -> str:
    directory = config.get().dump or None
    if directory:
        os.makedirs(directory, exist_ok=True)
    handle, path = tempfile.mkstemp(prefix="luthier_rejected_", suffix=".ll", dir=directory)
    with os.fdopen(handle, "w") as f:
        f.write(ir_text)
    return path
