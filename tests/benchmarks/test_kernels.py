"""The benchmark of single layers: each row is computed by the algorithm that it names, and compared with float64."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def kernels(*options):
    command = [sys.executable, "-m", "benchmarks.kernels", "--alone", "--rounds", "1", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_rows_hold_to_their_algorithm_and_a_log_is_used_again(tmp_path):
    log, first, second = (str(tmp_path / name) for name in ("layers.db", "first.json", "second.json"))
    done = kernels("--layers", "*3x3 s1 64->64 @56", "--log", log, "--tune", "1s", "--json", first)
    assert done.returncode == 0, done.stderr
    again = kernels("--layers", "*3x3 s1 64->64 @56", "--log", log, "--json", second)
    assert again.returncode == 0, again.stderr
    for path in (first, second):
        layers = json.loads(Path(path).read_text())["layers"]
        algorithms = [layer["decisions"]["algorithm"] for layer in layers]
        assert algorithms == ["direct", "winograd2", "winograd4"]
        assert all(0 < layer["error"] <= layer["tolerance"] for layer in layers)
    origins = [[layer["schedule"] for layer in json.loads(Path(p).read_text())["layers"]] for p in (first, second)]
    assert origins[0] == origins[1]
    assert "of prototype" in done.stdout


def test_another_target_and_what_is_refused():
    done = kernels("--layers", "matmul 128x768x768", "--target", "x86-64-v2")
    assert done.returncode == 0 and "128-bit vectors" in done.stdout, done.stderr
    assert "matches none of direct 3x3" in kernels("--layers", "nothing*").stderr
    assert "--tune needs --log" in kernels("--tune", "1s").stderr
