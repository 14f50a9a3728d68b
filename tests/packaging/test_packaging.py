"""The links that make the packages importable as ``luthier.*``, and the files that CI relies on."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parents[2]
PACKAGES = ("te", "schedule", "codegen", "runtime", "graph", "tuner")


@pytest.fixture(scope="module")
def found():
    return find_packages(where=str(ROOT), include=["luthier", "luthier.*"])


def test_only_luthier_is_installed(found):
    assert all(name == "luthier" or name.startswith("luthier.") for name in found)
    assert {f"luthier.{name}" for name in PACKAGES} <= set(found)


def test_links_lead_to_the_packages():
    for name in PACKAGES:
        assert (ROOT / "luthier" / name).resolve() == ROOT / name


def test_every_directory_with_code_is_a_package(found):
    """A directory without ``__init__.py`` would be left out of the wheel without a word."""
    for name in PACKAGES:
        for file in (ROOT / name).rglob("*.py"):
            parts = file.parent.relative_to(ROOT).parts
            assert ".".join(("luthier", *parts)) in found, file


def test_imports_between_packages_are_relative():
    """An absolute ``import te`` would work in the checkout and fail, or find a stranger, once installed."""
    for name in (*PACKAGES, "luthier"):
        for file in (ROOT / name).glob("**/*.py") if name != "luthier" else (ROOT / name).glob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    modules = [node.module or ""]
                assert not {m.split(".")[0] for m in modules} & {*PACKAGES, "luthier"}, file


def test_version_is_the_same_everywhere():
    import luthier

    done = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == luthier.__version__


def _readme_command(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / ".ci" / "readme_command.py", *arguments], capture_output=True, text=True, check=False
    )


def test_readme_commands_are_found(tmp_path):
    readme = tmp_path / "R.md"
    readme.write_text("x\n<!-- ci: a -->\n```sh\none\ntwo\n```\n<!-- ci: b -->\n```sh\nthree\n```\n<!-- ci: c -->\n")
    assert _readme_command(readme, "a").stdout == "one\ntwo\n"
    assert _readme_command(readme, "b").stdout == "three\n"
    assert _readme_command(readme, "c").returncode == 1
    for name in ("quickstart", "test"):
        done = _readme_command(ROOT / "README.md", name)
        assert done.returncode == 0 and "pip install" in done.stdout


def test_links_of_the_documents_lead_somewhere():
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_glossary_points_to_files_that_exist():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    for target in re.findall(r"`((?:te|schedule|codegen|runtime|graph|tuner|luthier)/[\w/.]*)`", text):
        assert (ROOT / target).exists(), target


def test_requirements_are_importable():
    """The names in ``install_requires`` are those that the code imports."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    call = next(n for n in ast.walk(tree) if isinstance(n, ast.keyword) and n.arg == "install_requires")
    for requirement in ast.literal_eval(call.value):
        assert importlib.util.find_spec(re.split(r"[<>=]", requirement)[0]) is not None, requirement


def test_the_operator_in_the_readme_works():
    import numpy as np

    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [b for b in blocks if "te.compute" in b]
    names: dict = {}
    exec(block, names)
    np.testing.assert_allclose(names["d"], np.full((512, 256), 64.0))


def test_the_commands_in_the_readme_are_understood(capsys):
    import shlex

    from luthier.cli import _parser

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^(?:\w+=\S+ )*luthier (.*)$", text, re.MULTILINE)
    assert len(commands) >= 7
    for command in commands:
        _parser().parse_args(shlex.split(command, comments=True))
