"""The command line: ``luthier tune|build|run|bench|tasks|log|show``."""

from __future__ import annotations


def main() -> int:
    from . import __version__

    print(f"luthier {__version__}")
    return 0
