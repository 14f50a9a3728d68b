"""Text on the command line becomes values, or one clear message."""

import argparse
import shlex

import pytest

from luthier.cli_table import percent, ratio, seconds, shorten, table
from luthier.cli_values import (
    UsageError,
    count,
    duration,
    fraction,
    input_file,
    model_name,
    output_path,
    seed,
    shape,
    shape_options,
    shapes_of,
)


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [("60s", 60), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("1h2m3s", 3723), ("0.5s", 0.5)],
)
def test_duration(text, expected_s):
    assert duration(text) == expected_s


@pytest.mark.parametrize("text", ["", "10", "s", "-5m", "5x", "1m1h", "nan", "inf", "1e3s", " 5m", "5 m"])
def test_duration_that_is_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match="write it as 90s, 10m or 1h30m"):
        duration(text)


@pytest.mark.parametrize("text", ["0s", "0m", "0h0m0s", "0.0s"])
def test_no_time_at_all(text):
    with pytest.raises(argparse.ArgumentTypeError, match="leaves no time"):
        duration(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "two", "0x10", "²"])
def test_count_must_be_a_positive_integer(text):
    with pytest.raises(argparse.ArgumentTypeError, match="positive whole number"):
        count(text)


@pytest.mark.parametrize("text", ["-0.1", "1.5", "nan", "", "1%", "little"])
def test_a_fraction_lies_between_0_and_1(text):
    assert fraction("0") == 0.0 and fraction("0.01") == 0.01 and fraction("1") == 1.0
    with pytest.raises(argparse.ArgumentTypeError, match="not a number from 0 to 1"):
        fraction(text)


def test_shape():
    assert shape("data=1,3,224,224") == ("data", (1, 3, 224, 224))
    assert shape("a=b=2") == ("a=b", (2,))
    for text in ("data", "=1,2", "data=", "data=1,,2", "data=1,x", "data=-1"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"write data=1,3,224,224"):
            shape(text)


def test_one_shape_for_each_input():
    assert shapes_of([]) is None
    assert shapes_of([("a", (1,)), ("b", (2, 3))]) == {"a": (1,), "b": (2, 3)}
    with pytest.raises(UsageError, match=r"--shape a=.*twice"):
        shapes_of([("a", (1,)), ("a", (2,))])


def test_input_file(tmp_path):
    name, path = input_file("data=x.npy")
    assert (name, str(path)) == ("data", "x.npy")
    archive = tmp_path / "all.npz"
    archive.touch()
    assert input_file(str(archive)) == ("", archive)
    for text in ("x.npy", "=x.npy", "data=", str(tmp_path / "missing.npz")):
        with pytest.raises(argparse.ArgumentTypeError, match=r"data=image\.npy"):
            input_file(text)


def test_output_path(tmp_path):
    assert output_path(str(tmp_path / "x.npz")) == tmp_path / "x.npz"
    with pytest.raises(UsageError, match="is a directory"):
        output_path(str(tmp_path))
    with pytest.raises(UsageError, match="does not exist; create it first"):
        output_path(str(tmp_path / "no" / "x.npz"))


def test_an_output_is_written_over_nothing_that_is_read(tmp_path):
    model, link = tmp_path / "net.onnx", tmp_path / "link"
    model.touch()
    link.symlink_to(model)
    for path in (model, link):
        with pytest.raises(UsageError, match="is read by this command"):
            output_path(path, reads=(None, model))
    assert output_path(tmp_path / "net.luthier", reads=(None, model)).name == "net.luthier"


def test_shapes_are_written_as_they_are_read():
    text = shape_options({"an image": (1, 3), "a$": (2,)})
    assert [shape(word) for word in shlex.split(text)[1::2]] == [("an image", (1, 3)), ("a$", (2,))]
    assert shape_options(None) == ""


def test_seed():
    assert (seed("0"), seed(str(2**63 - 1))) == (0, 2**63 - 1)
    for text in ("-1", str(2**63), "x", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number from 0 to 9223372036854775807"):
            seed(text)


def test_model_name():
    assert [model_name(m) for m in ("a/b/net.onnx", "light_vgg19", ".onnx")] == ["net", "light_vgg19", "model"]


@pytest.mark.parametrize(
    ("value_s", "text"),
    [
        (2.5, "2.50 s"), (123.4, "123 s"), (0.0123, "12.3 ms"), (0.9999, "1.00 s"), (4.2e-5, "42.0 us"),
        (3e-8, "0.03 us"), (float("inf"), "-"), (float("nan"), "-"), (0.0, "0 us"),
    ],
)  # fmt: skip
def test_seconds(value_s, text):
    assert seconds(value_s) == text


def test_table_and_ratios():
    assert table(["a", "b"], [["x", "10"], ["long", "9"]]) == "a      b\nx     10\nlong   9"
    assert ratio(2.0, 1.0) == "2.00x" and ratio(float("inf"), 1.0) == "-"
    assert percent(1.0, 4.0) == "25%" and percent(float("inf"), 1.0) == "-" and percent(1.0, 0.0) == "-"
    assert shorten("short", 6) == "short"
    cut = shorten("abcdefghij", 6)
    assert len(cut) == 6 and cut.startswith("ab") and cut.endswith("ij")
