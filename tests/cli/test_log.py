"""``luthier log ...``."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.tuner.database import open_log
from luthier.tuner.model_run import ModelRun


def test_info(luthier, make_log):
    done = luthier("log", "info", make_log())
    assert done.code == 0 and done.err == ""
    assert "4 records of 1 tasks" in done.out
    assert "Some CPU, 2 threads; 1 tasks, 1 with a verified schedule" in done.out
    assert "3 ok, 1 timeout" in done.out


def test_a_name_that_the_terminal_cannot_show(make_log, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/na\xefve.db"))
    make_log().rename(path)
    command = [sys.executable, "-m", "luthier", "log", "info", str(path)]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"") and rb"na\udcefve.db: 4 records" in done.stdout


def test_info_of_an_empty_log(luthier, make_log):
    path = make_log(count=0)
    luthier("log", "prune", path)
    assert "0 records of 0 tasks" in luthier("log", "info", path).out


def test_list_and_pattern(luthier, make_log):
    path = make_log()
    assert len(luthier("log", "list", path).out.splitlines()) == 5
    assert "timeout" in luthier("log", "list", path, "--task", "conv2d*").out
    assert len(luthier("log", "list", path, "--task", "matmul*").out.splitlines()) == 1


def test_best(luthier, make_log):
    lines = luthier("log", "best", make_log()).out.splitlines()
    assert len(lines) == 3
    assert "333 us" in lines[1] and lines[2].strip() == "tile=2"


def test_stats(luthier, make_log):
    path = make_log()
    with open_log(path) as log:
        log.add_model_run(ModelRun("net.onnx", {"model": "Some CPU", "threads": 2}, 2e-3, 1e-3, "tuned"))
    out = luthier("log", "stats", path).out
    row = out.splitlines()[1].split()
    assert row[1:5] == ["conv2d_3x3", "m1", "4", "1"]
    assert "1.00 ms" in out and "333 us" in out and "3.00x" in out
    assert "m1: Some CPU, 2 threads" in out and "failed: 1 timeout" in out and "1 x timeout: ?" in out
    assert "net.onnx, Some CPU, 2 threads, -: 2.00 ms by default, 1.00 ms tuned (2.00x); kept: tuned" in out
    assert "0 records of 0 tasks" in luthier("log", "stats", path, "--task", "matmul*").out


def test_dates_that_no_calendar_has(luthier, make_log):
    path = make_log()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET created_at = 1e300 WHERE id = 1")
        connection.execute("UPDATE records SET created_at = -1e300 WHERE id = 2")
    connection.close()
    for action in ("info", "list", "best", "stats"):
        assert luthier("log", action, path).code == 0


def test_a_log_of_an_older_version(luthier, tmp_path):
    old = shutil.copy(Path(__file__).parents[1] / "tuner" / "data" / "format_1.db", tmp_path / "old.db")
    content = Path(old).read_bytes()
    for action in ("info", "list", "best", "stats", "export"):
        assert luthier("log", action, old).code == 0
    assert Path(old).read_bytes() == content
    assert "7 of 7 records were new or better" in luthier("log", "merge", "new.db", old).out
    assert luthier("log", "prune", old).code == 0
    assert luthier("log", "stats", old).out.splitlines()[1:] != []


def test_export_import(luthier, make_log, tmp_path):
    path = make_log()
    assert luthier("log", "export", path).out == f"{tmp_path / 'some.jsonl'}: 4 records\n"
    assert len((tmp_path / "some.jsonl").read_text().splitlines()) == 5
    done = luthier("log", "import", "copy.db", "some.jsonl")
    assert done.out == "copy.db: 4 of 4 records were new or better\n"
    assert luthier("log", "import", "copy.db", "some.jsonl").out == "copy.db: 0 of 4 records were new or better\n"
    assert luthier("log", "best", "copy.db").out == luthier("log", "best", path).out


def test_merge(luthier, make_log):
    a, b = make_log("a.db", 2), make_log("b.db", 4)
    assert "2 of 5 records were new or better" in luthier("log", "merge", a, b).out
    assert "is the log itself" in luthier("log", "merge", a, a).complaint


def test_prune(luthier, make_log):
    path = make_log()
    assert luthier("log", "prune", path, "--keep", "1").out == f"{path}: dropped 2 records\n"  # the default's stays
    assert "2 records" in luthier("log", "info", path).out
    assert "positive whole number" in luthier("log", "prune", path, "--keep", "0").complaint


@pytest.mark.parametrize("action", ["info", "stats", "list", "best", "export", "prune"])
def test_bad_files_are_refused_and_left_alone(luthier, tmp_path, action):
    no_log = tmp_path / "notes.txt"
    no_log.write_text("these are my notes\n")
    assert "notes.txt" in luthier("log", action, no_log).complaint
    assert no_log.read_text() == "these are my notes\n"
    assert "missing.db" in luthier("log", action, tmp_path / "missing.db").complaint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt"]


@pytest.mark.parametrize("action", ["info", "stats", "list", "best", "export", "prune"])
def test_truncated_log(luthier, make_log, action):
    path = make_log()
    path.write_bytes(path.read_bytes()[:5000])
    assert str(path.name) in luthier("log", action, path).complaint


def test_a_log_of_a_newer_version(luthier, make_log):
    path = make_log()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert "999" in luthier("log", "info", path).complaint


def test_a_bad_source_changes_nothing(luthier, make_log, tmp_path):
    luthier("log", "export", make_log())
    lines = (tmp_path / "some.jsonl").read_text().splitlines()
    (tmp_path / "cut.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:50])
    assert "cut.jsonl: line 5" in luthier("log", "import", "new.db", "some.jsonl", "cut.jsonl").complaint
    assert not (tmp_path / "new.db").exists()
    header = json.loads(lines[0])
    (tmp_path / "future.jsonl").write_text(json.dumps(header | {"version": 999}) + "\n")
    assert "update Luthier" in luthier("log", "merge", "new.db", "future.jsonl").complaint
    assert not (tmp_path / "new.db").exists()


def test_export_does_not_overwrite_its_log(luthier, make_log):
    path = make_log()
    assert "is read by this command" in luthier("log", "export", path, "-o", path).complaint
    assert "does not exist" in luthier("log", "export", path, "-o", "no/such/dir.jsonl").complaint
