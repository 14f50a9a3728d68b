"""Engines by name, and making several of them for one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .converted import Mnn, Ncnn
from .engine import Feed, Model, Peer, PeerError, PeerMissing
from .runtimes import OnnxRuntime, OpenVino

ENGINES: dict[str, type[Peer]] = {engine.name: engine for engine in (OnnxRuntime, OpenVino, Mnn, Ncnn)}


def engines_named(names: str) -> list[type[Peer]]:
    """Look up a comma-separated list; raises PeerError for a name that is not in :data:`ENGINES`."""
    wanted = [name for name in (part.strip() for part in names.split(",")) if name]
    for name in wanted:
        if name not in ENGINES:
            raise PeerError(f"engine {name!r} is unknown; the engines are {', '.join(ENGINES)}")
    return [ENGINES[name] for name in dict.fromkeys(wanted)]


def prepare(
    peers: Sequence[type[Peer]], model: Model, threads: int, shapes: Mapping[str, Sequence[int]], feed: Feed
) -> tuple[list[Peer], dict[str, str]]:
    """Make engines and run each once on ``feed``; returns those that can, and the reason of each that cannot.

    Raises PeerMissing for one that is not installed: that is for the user to mend.
    """
    ready: list[Peer] = []
    failed: dict[str, str] = {}
    for peer in peers:
        try:
            engine = peer(model, threads, shapes)
            engine.run(feed)
        except PeerMissing:
            raise
        except PeerError as error:
            failed[peer.name] = str(error)
        except Exception as error:  # whatever an engine raises for a model that it loads, and cannot run
            failed[peer.name] = f"{peer.name} cannot run the model: {error}"
        else:
            ready.append(engine)
    return ready, failed
