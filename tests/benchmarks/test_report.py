"""Which engines count, and what the ratios are made of."""

import math

import pytest

from benchmarks.report import TUNED, UNTUNED, best, chart, counts, median, ratios, report, summary


def _entry(engine, median_s, error=1e-6):
    return {"engine": engine, "median_s": median_s, "min_s": median_s * 0.9, "run_s": [median_s], "error": error}


def _result(name, *entries):
    return {"model": name, "threads": 1, "builds": {UNTUNED: "31 kernels"}, "engines": list(entries)}


@pytest.fixture
def two():
    ours = _entry(UNTUNED, 4e-3), _entry(TUNED, 2e-3)
    a = _result("light_a", *ours, _entry("onnxruntime", 6e-3), _entry("openvino", 8e-3), _entry("ncnn", 3e-3))
    b = _result(
        "light_b",
        *ours,
        _entry("onnxruntime", 16e-3),
        _entry("ncnn", 1e-3, error=0.5),
        {"engine": "mnn", "failed": "mnn cannot load the model: no layer Foo"},
    )
    return [a, b]


def test_what_counts():
    assert counts(_entry("mnn", 1.0, 1e-2)) and not counts(_entry("mnn", 1.0, 1.1e-2))
    assert not counts(_entry("mnn", 1.0, math.inf)) and not counts(_entry("mnn", 1.0, math.nan))
    assert not counts({"engine": "mnn", "failed": "no"})


def test_ratios(two):
    a, b = two
    assert ratios(a) == pytest.approx(
        {"ort+ov/untuned": 1.5, "ort+ov/tuned": 3.0, "all/untuned": 0.75, "all/tuned": 1.5}
    )
    assert ratios(b) == pytest.approx(
        {"ort+ov/untuned": 4.0, "ort+ov/tuned": 8.0, "all/untuned": 4.0, "all/tuned": 8.0}
    )
    assert best(b) == 16e-3 and math.isinf(median(b, "ncnn")) and math.isinf(median(b, "mnn"))


def test_a_wrong_build_of_ours_has_no_ratio():
    r = _result("light_a", _entry(UNTUNED, 1e-3, error=1.0), _entry("onnxruntime", 2e-3))
    assert ratios(r) == {} and "WRONG" in report(r)
    assert "light_a" in summary([r])


def test_the_table_shows_what_does_not_count(two):
    text = report(two[1])
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith(("ncnn", "mnn", "onnxr"))}
    assert rows["ncnn"][-1] == "WRONG" and rows["ncnn"][-3] == "-" and rows["mnn"][1] == "failed"
    assert rows["onnxruntime"][-2] == "8.00x" and "no layer Foo" in text


def test_means_and_minima(two):
    lines = {line.split("  ")[0]: line.split() for line in summary(two).splitlines()}
    assert lines["geometric mean"][2:] == ["2.45x", "4.90x", "1.73x", "3.46x"]
    assert lines["minimum"][1:] == ["1.50x", "3.00x", "0.75x", "1.50x"]
    assert lines["models"][1:] == ["2"] * 4


def test_the_chart_is_drawn(two, tmp_path):
    pytest.importorskip("matplotlib")
    chart(two, str(tmp_path / "c.png"))
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
