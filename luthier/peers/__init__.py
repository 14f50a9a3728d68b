"""Other inference engines behind one interface, for comparisons in one process: same model, inputs and threads.

    ours = Luthier(luthier.compile(model, threads=1))
    theirs, failed = prepare(engines_named("onnxruntime,ncnn"), model, 1, shapes, feed)
    timings = race([ours, *theirs], feed, rounds=20)

An engine is a class with a ``name`` and a ``run``; :data:`ENGINES` finds one by name. The engines themselves are
optional (``pip install 'luthier[bench]'``) and imported when they are made. Start reading at :mod:`.engine`.
"""

from .engine import Array, Engine, Feed, Luthier, Model, Peer, PeerError, PeerMissing
from .prepared import explicit_defaults
from .race import Timing, output_error, race, settle
from .registry import ENGINES, engines_named, prepare
from .runtimes import OnnxRuntime

__all__ = [
    "ENGINES",
    "Array",
    "Engine",
    "Feed",
    "Luthier",
    "Model",
    "OnnxRuntime",
    "Peer",
    "PeerError",
    "PeerMissing",
    "Timing",
    "engines_named",
    "explicit_defaults",
    "output_error",
    "prepare",
    "race",
    "settle",
]
