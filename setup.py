"""Packaging. The packages lie at the top of the checkout and are installed under ``luthier`` only.

``luthier/te`` and its neighbours are links to ``te`` and so on; ``find_packages`` follows them, and the ``include``
keeps the top-level names (PyPI has another project called ``schedule``) out of the installation.
"""

import ast
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    """Read ``__version__`` without importing the package, whose dependencies may not be installed yet."""
    for statement in ast.parse((ROOT / "luthier" / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__version__":
            return str(ast.literal_eval(statement.value))
    raise SystemExit("luthier/__init__.py does not set __version__")


BENCH = ["onnxruntime>=1.17", "openvino>=2024.0", "MNN>=3.6", "ncnn>=1.0.20261020", "pnnx>=20261020", "matplotlib>=3.8"]
FLEET = ["distributed>=2024.1"]
TEST = ["setuptools>=65", "pytest>=8.0", "pytest-xdist>=3.5", "hypothesis>=6.100", "onnxruntime>=1.17", *FLEET]
DEV = [*TEST, "mypy>=1.13", "ruff>=0.8", "import-linter>=2.1", "build>=1.0", "playwright>=1.40"]

setup(
    name="luthier",
    version=version(),
    description="Compile ONNX models to native CPU code, tuned on the machine that runs it",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["luthier", "luthier.*"]),
    package_data={
        "luthier": ["py.typed"],
        "luthier.page": ["page.css", "page.js"],
        "luthier.tuner.pretrained": ["*/model.ubj", "*/provenance.json"],
    },
    python_requires=">=3.11",
    install_requires=["numpy>=1.26", "xgboost>=2.0", "llvmlite>=0.50", "onnx>=1.19", "tqdm>=4.60"],
    extras_require={"bench": BENCH, "fleet": FLEET, "test": TEST, "dev": DEV},
    entry_points={"console_scripts": ["luthier = luthier.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Software Development :: Compilers",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
