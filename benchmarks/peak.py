"""What the machine can do at most: ``python -m benchmarks.peak [--threads N] [--target NAME]``."""

from __future__ import annotations

import argparse

from luthier.codegen.detect import named_target
from luthier.peak import fma_peak, read_peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", default="host", help="host, x86-64-v3, ...")
    arguments = parser.parse_args()
    target = named_target(arguments.target, arguments.threads)
    print(f"{target.model or target.cpu}, {target.vector_bits}-bit vectors, {target.threads} thread(s)")
    print(f"fused multiply-add, f32: {fma_peak(target) / 1e9:.1f} GFLOP/s")
    print(f"reading memory: {read_peak(target) / 1e9:.1f} GB/s")


if __name__ == "__main__":
    main()
