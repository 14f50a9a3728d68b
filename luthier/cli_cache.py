"""``luthier cache ...``: look at the cache of object code, and empty it."""

from __future__ import annotations

from argparse import Namespace

from . import config
from .codegen.cache import Cache, Usage, configured


def cache_info(arguments: Namespace) -> None:
    """Print where the cache is, what it holds and how large it may grow."""
    cache = _cache()
    if cache is not None:
        limit_mb = config.get().cache_mb
        print(f"{cache.directory}: {_said(cache.usage())} of at most {limit_mb} MB")


def cache_clear(arguments: Namespace) -> None:
    """Remove everything that is in the cache."""
    cache = _cache()
    if cache is not None:
        print(f"{cache.directory}: removed {_said(cache.clear())}")


def _cache() -> Cache | None:
    cache = configured()
    if cache is None:
        print("the cache is turned off: LUTHIER_CACHE is empty")
    return cache


def _said(usage: Usage) -> str:
    return f"{usage.entries} entries, {usage.size_bytes / 2**20:.1f} MB"
