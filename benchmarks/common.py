"""What the benchmarks share: where they ran, how they write results."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import luthier
from luthier.target import Target
from luthier.whole_file import whole_file

PACKAGES = ("numpy", "llvmlite", "xgboost", "onnx", "onnxruntime", "openvino", "MNN", "ncnn", "pnnx")


def environment(target: Target) -> dict[str, Any]:
    """The machine and the versions that a result belongs to, as JSON data."""
    versions = {"luthier": luthier.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "target": target.fingerprint(),
        "system": platform.platform(),
        "versions": versions,
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of this checkout, with ``-dirty`` after it where files differ; None outside of one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def write_json(path: str | None, data: dict[str, Any]) -> None:
    """Write ``data`` if a path was asked for."""
    if path:
        with whole_file(path) as file:
            file.write(json.dumps(data, indent=1).encode() + b"\n")
        print(f"wrote {path}")
