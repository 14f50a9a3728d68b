"""bench --profile, its trace and its JSON."""

import json

import onnx
import pytest
from onnx import TensorProto, helper

from luthier import api, cli_profile, peers
from luthier.runtime.container import read_container, write_container
from luthier.runtime.profile import Peaks

PEAKS = Peaks(1e11, 1e10)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Measuring a machine's peaks takes a second and is tested elsewhere."""
    monkeypatch.setattr(cli_profile.peak, "measure", lambda target: PEAKS)


@pytest.fixture
def bench(luthier, tiny):
    return lambda *options, model=tiny: luthier("bench", model, "--threads", 1, "--rounds", 3, *options)


@pytest.mark.parametrize("threads", [1, 2])
def test_every_kernel_is_listed_with_its_algorithm_and_its_nodes(luthier, tiny, threads):
    done = luthier("bench", tiny, "--profile", "--threads", threads, "--rounds", 3)
    assert done.code == 0, done.err
    header = next(line for line in done.out.splitlines() if line.startswith("#"))
    for column in ("kernel", "algorithm, tile", "ONNX nodes", "time", "share", "GFLOP/s", "GB/s", "of roof", "of own"):
        assert column in header
    assert ("waits" in header) == (threads > 1)
    assert ("threads wait for one another" in done.out) == (threads > 1)
    kernels = api.compile(str(tiny), threads=threads).profile(1).kernels
    assert len(kernels) == 2
    for number, kernel in enumerate(kernels):
        (line,) = (x for x in done.out.splitlines() if x.startswith(f"{number} ") and kernel.name in x)
        assert "+".join(kernel.nodes) in line and cli_profile.how(kernel) in line
    assert "conv+relu" in done.out and " fc " in done.out
    assert "outside of kernels" in done.out and "% of it" in done.out
    assert "100.0 GFLOP/s, reading memory 10.0 GB/s" in done.out and "of the algorithms chosen" in done.out
    assert max(map(len, done.out.splitlines()[1:])) <= 160


def test_the_slowest_kernel_can_come_first(bench, monkeypatch):
    monkeypatch.setattr(cli_profile, "summary", lambda profile: "")
    ordered, sorted_ = (bench("--profile", *sort).out for sort in ([], ["--sort", "time"]))
    assert [line[0] for line in ordered.splitlines()[2:4]] == ["0", "1"]
    shares = [float(line.split("%")[0].split()[-1]) for line in sorted_.splitlines()[2:4]]
    assert shares == sorted(shares, reverse=True)


def test_the_profile_as_json(bench, tmp_path):
    done = bench("--profile", "--json", "p.json")
    data = json.loads((tmp_path / "p.json").read_text())
    assert done.code == 0 and "wrote p.json" in done.out
    assert [k["nodes"] for k in data["kernels"]] == [["conv", "relu"], ["fc"]]
    assert sum(k["share"] for k in data["kernels"]) + data["outside_s"] / (
        data["kernels_s"] + data["outside_s"]
    ) == pytest.approx(1)
    assert data["kernels_s"] == pytest.approx(sum(k["median_s"] for k in data["kernels"]))
    assert data["roofline_s"] == pytest.approx(sum(k["roofline_s"] for k in data["kernels"])) and data["roofline_s"] > 0
    conv, fc = data["kernels"]
    assert fc["flops"] == 2 * 5 * 16 * 8 * 8
    weights = 4 * 5 * 1024
    assert fc["algorithm_bytes"] >= weights and fc["roofline_s"] == pytest.approx(fc["bytes_moved"] / PEAKS.bytes_per_s)
    assert conv["algorithm"] in ("direct", "winograd2", "winograd4") and "tile" in str(conv["decisions"])
    assert data["views"] == ["flatten"] and data["rounds"] == 3 and data["peers"] == []


@pytest.mark.parametrize("threads", [1, 2])
def test_the_trace_is_what_chrome_reads(luthier, tiny, tmp_path, threads):
    done = luthier("bench", tiny, "--threads", threads, "--rounds", 3, "--trace", "t.json")
    assert done.code == 0 and "wrote t.json" in done.out
    trace = json.loads((tmp_path / "t.json").read_text())
    events = trace["traceEvents"]
    assert {e["ph"] for e in events} == {"M", "X"}
    named = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    tracks = {e["tid"] for e in events if e["ph"] == "X"}
    assert tracks and set(named) == tracks and named[0] == "thread 0" and len(tracks) <= threads
    for thread in tracks:
        track = [e for e in events if e["ph"] == "X" and e["tid"] == thread]
        kernels = [e for e in track if e["cat"] != "barrier"]
        assert [e["args"]["nodes"] for e in kernels] == [["conv", "relu"], ["fc"]]
        assert all(isinstance(e["ts"], float) and isinstance(e["dur"], float) and e["dur"] >= 0 for e in track)
        assert {"decisions", "flops", "bytes_moved", "algorithm", "origin"} <= kernels[0]["args"].keys()
        for before, after in zip(track, track[1:], strict=False):  # a thread does one thing at a time
            assert after["ts"] >= before["ts"] + before["dur"] - 0.002


def test_an_artifact_is_profiled_like_its_model(luthier, tiny, bench, tmp_path):
    assert luthier("build", tiny, "--threads", 1).code == 0
    bench("--profile", "--json", "model.json")
    done = luthier("bench", "tiny.luthier", "--profile", "--rounds", 3, "--json", "file.json")
    assert done.code == 0 and "of the algorithms chosen" in done.out
    fixed = ("name", "nodes", "algorithm", "decisions", "flops", "bytes_moved", "algorithm_flops", "algorithm_bytes")
    model, file = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("model", "file"))
    assert [[k[f] for f in fixed] for k in model["kernels"]] == [[k[f] for f in fixed] for k in file["kernels"]]
    assert model["views"] == file["views"]


def test_an_artifact_of_format_1_has_times_but_no_rooflines(luthier, tiny):
    assert luthier("build", tiny, "--threads", 1).code == 0
    manifest, sections = read_container("tiny.luthier")
    del manifest["report"]["call_nodes"], manifest["report"]["view_nodes"]
    old = ("key", "symbol", "origin", "uses", "nodes", "flops")
    manifest["report"]["tasks"] = [{name: t[name] for name in old} for t in manifest["report"]["tasks"]]
    write_container("old.luthier", manifest, sections)
    done = luthier("bench", "old.luthier", "--profile", "--rounds", 2)
    assert done.code == 0 and "conv+relu" in done.out
    assert "no rooflines: the file does not say what its kernels compute and move; build it again" in done.out


def test_beside_another_engine(bench, tmp_path):
    pytest.importorskip("onnxruntime")
    done = bench("--profile", "--against", "onnxruntime", "--json", "p.json", "--trace", "t.json")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("layer "))
    conv, fc = (next(line for line in lines[start:] if nodes in line) for nodes in ("conv+relu", " fc"))
    assert conv.endswith("x") and fc.endswith("x")
    assert any(line.startswith("latency  ") for line in lines[start:])
    assert "between and around the layers" in done.out and "of 2 layers that both run" in done.out
    (peer,) = json.loads((tmp_path / "p.json").read_text())["peers"]
    assert peer["engine"] == "onnxruntime" and {"conv", "relu"} in [set(x["nodes"]) for x in peer["layers"]]
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert [e["args"]["name"] for e in events if e["name"] == "process_name"] == ["luthier: tiny", "onnxruntime"]
    assert len([e for e in events if e["ph"] == "X" and e["pid"] == 2]) == len(peer["layers"])


def test_what_is_refused(bench, luthier, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.setitem(peers.ENGINES, "slowest", type("Slowest", (peers.OnnxRuntime,), {"name": "slowest"}))
    for options, message in {
        ("--json", "p.json"): "--json: is about a profile; add --profile",
        ("--sort", "time"): "--sort: is about a profile; add --profile",
        ("--trace", "folder"): "--trace folder: is a directory",
        ("--trace", "no/t.json"): "--trace no/t.json: the directory no does not exist",
        ("--profile", "--json", "no/p.json"): "--json no/p.json: the directory no does not exist",
        ("--profile", "--against", "slowest"): "slowest cannot be profiled layer by layer, only onnxruntime, openvino",
    }.items():
        assert message in bench(*options).complaint
    assert "--sort" in bench("--profile", "--sort", "size").complaint
    assert luthier("build", "tiny.onnx", "--target", "aarch64", "--threads", 1, "-o", "arm.luthier").code == 0
    assert "made for aarch64" in luthier("bench", "arm.luthier", "--trace", "t.json").complaint
    assert not (tmp_path / "t.json").exists()


def test_a_model_without_kernels(luthier, tmp_path):
    """The output is the input: a copy, which stands for no node of its own."""
    nodes = [helper.make_node("Identity", ["x"], ["y"], "same")]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy")
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, tmp_path / "same.onnx")
    done = luthier("bench", "same.onnx", "--profile", "--rounds", 2, "--threads", 1)
    assert done.code == 0 and "copy" in done.out and "outside of kernels" in done.out
