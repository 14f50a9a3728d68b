"""What is refused before any work starts, and what happens to errors."""

import subprocess
import sys

import pytest

from luthier import __version__, cli, errors

COMMANDS = ("tune", "worker", "build", "run", "bench", "tasks", "show", "log", "cache")


def test_version_and_help(luthier):
    assert luthier("--version").out == f"luthier {__version__}\n"
    text = luthier("--help").out
    assert all(command in text for command in COMMANDS)
    for command in COMMANDS:
        assert luthier(command, "--help").code == 0


def test_help_loads_no_heavy_module():
    script = (
        "import sys; from luthier.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in ('numpy', 'onnx', 'llvmlite', 'xgboost', 'sqlite3') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["tune"], "required: MODEL"),
        (["tune", "m.onnx", "--budget", "0s"], "leaves no time"),
        (["tune", "m.onnx", "--budget", "soon"], "is not a time"),
        (["tune", "m.onnx", "--budget", "-5s"], "'-5s' is not a time; write it as 90s"),
        (["tune", "m.onnx", "--threads", "-2"], "'-2' is not a positive whole number"),
        (["tune", "m.onnx", "--trials", "0"], "positive whole number"),
        (["tune", "m.onnx", "--trials", "5", "--budget", "5s"], "not allowed with"),
        (["tune", "m.onnx", "--threads", "-1"], "positive whole number"),
        (["tune", "m.onnx", "--shape", "x"], "write data=1,3,224,224"),
        (["run", "m.onnx", "--input", "x.npy"], "write data=image.npy"),
        (["tune", "m.onnx", "--seed", "-1"], "'-1' is not a whole number from 0"),
        (["run", "m.onnx", "--seed", "9223372036854775808"], "is not a whole number from 0"),
        (["worker"], "required: dask://HOST:PORT"),
        (["worker", "dask://host", "--threads", "0"], "positive whole number"),
        (["show", "m.onnx"], "required: --task"),
        (["show", "m.onnx", "--task", "1", "--level", "c"], "invalid choice: 'c'"),
        (["log"], "required: ACTION"),
        (["log", "info"], "required: FILE"),
    ],
)
def test_refused(luthier, arguments, message, tmp_path):
    complaint = luthier(*arguments).complaint
    assert message in complaint and "--help" in complaint
    assert not list(tmp_path.iterdir())


@pytest.fixture
def failing(monkeypatch):
    """Let ``luthier log info`` raise."""

    def arrange(error: BaseException) -> None:
        from luthier import cli_log

        def fail(arguments: object) -> None:
            raise error

        monkeypatch.setattr(cli_log, "log_info", fail)

    return arrange


def test_a_defect_says_how_to_report_it(luthier, failing):
    failing(errors.InternalError("pass unroll: no such loop"))
    done = luthier("log", "info", "x")
    assert done.code == 1 and "pass unroll: no such loop" in done.err
    assert "please report" in done.err and __version__ in done.err and "LUTHIER_DUMP" in done.err


def test_an_unexpected_exception_shows_where_it_came_from(luthier, failing):
    failing(ZeroDivisionError("surprise"))
    done = luthier("log", "info", "x")
    assert done.code == 1 and "Traceback" in done.err and "surprise" in done.err
    assert "please report" in done.err.splitlines()[-1]


def test_system_errors_are_one_line(luthier, failing):
    failing(OSError(28, "No space left on device", "model.luthier"))
    assert luthier("log", "info", "x").complaint == "luthier: error: model.luthier: No space left on device"
    failing(errors.LogError("line one\n  line two"))
    assert luthier("log", "info", "x").complaint == "luthier: error: line one line two"
    failing(MemoryError())
    assert "out of memory" in luthier("log", "info", "x").complaint


def test_interrupt(luthier, failing):
    failing(KeyboardInterrupt())
    done = luthier("log", "info", "x")
    assert done.code == cli.INTERRUPTED and done.err == "luthier: error: interrupted\n"


def test_a_reader_that_goes_away(make_log):
    """``luthier log list some.db | head -1`` ends quietly."""
    command = f"'{sys.executable}' -m luthier log list '{make_log(count=2000)}' | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1


def test_cache_info_and_clear(luthier, tmp_path):
    from luthier import config

    assert "turned off" in luthier("cache", "info").out
    with config.override(cache=str(tmp_path / "objects"), cache_mb=5):
        from luthier.codegen.cache import configured

        configured().put("key", {}, b"code")
        assert luthier("cache", "info").out == f"{tmp_path / 'objects'}: 1 entries, 0.0 MB of at most 5 MB\n"
        assert luthier("cache", "clear").out == f"{tmp_path / 'objects'}: removed 1 entries, 0.0 MB\n"
        assert "0 entries" in luthier("cache", "info").out
