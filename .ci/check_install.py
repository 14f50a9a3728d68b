"""Check an installation from outside of the checkout: the names that must be importable, and those that must not."""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

PACKAGES = ("te", "te.ops", "schedule", "codegen", "runtime", "graph", "tuner", "page")
TOP_LEVEL = ("te", "schedule", "codegen", "runtime", "graph", "tuner", "benchmarks", "tests")


def main() -> None:
    luthier = importlib.import_module("luthier")
    for name in PACKAGES:
        importlib.import_module(f"luthier.{name}")
    leaked = [name for name in TOP_LEVEL if importlib.util.find_spec(name) is not None]
    if leaked:
        raise SystemExit(f"installed at the top level, and should not be: {', '.join(leaked)}")
    marker = Path(str(luthier.__file__)).with_name("py.typed")
    if not marker.exists():
        raise SystemExit(f"{marker.name} is not installed: type checkers would ignore the annotations")
    for name in ("page.css", "page.js"):
        if not marker.with_name("page").joinpath(name).exists():
            raise SystemExit(f"page/{name} is not installed: luthier report could not write its page")
    for command in ([str(Path(sys.executable).with_name("luthier"))], [sys.executable, "-m", "luthier"]):
        printed = subprocess.run([*command, "--version"], check=True, capture_output=True, text=True).stdout.split()
        if printed != ["luthier", luthier.__version__]:
            raise SystemExit(f"{' '.join(command)} --version printed {printed}")
    print(f"luthier {luthier.__version__} imports from {Path(str(luthier.__file__)).parent}")


if __name__ == "__main__":
    main()
