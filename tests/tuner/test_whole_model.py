"""The whole model, built and measured twice."""

from __future__ import annotations

from luthier.tuner.whole_model import LEAST_ROUNDS, ModelCheck, ModelTimes, _better, _enough


def test_the_better_build_is_kept_and_few_runs_conclude_nothing():
    slow, fast = (1.2,) * LEAST_ROUNDS, (1.0,) * LEAST_ROUNDS
    assert (_better(slow, fast), _better(fast, slow), _better(fast, fast)) == ("tuned", "default", "tuned")
    assert _better(fast[:2], slow[:2]) == "tuned"
    disturbed = (1.0, 1.0, 1.0, 5.0, 9.0)
    assert _better((1.05,) * LEAST_ROUNDS, disturbed) == "tuned"


def test_rounds_end_with_the_time():
    assert not _enough(LEAST_ROUNDS, wanted=True, in_time=True)
    assert _enough(LEAST_ROUNDS, wanted=False, in_time=True) and not _enough(1, wanted=False, in_time=True)
    assert _enough(2, wanted=False, in_time=False) and not _enough(1, wanted=False, in_time=False)


def test_time_for_builds_grows_with_what_is_built(host):
    check = ModelCheck("light_resnet50", host, import_s=0.5)
    nothing_s = check.build_s(0.0, 0)
    assert nothing_s >= 2 * 0.5
    assert check.build_s(10.0, 10**9) > check.build_s(1.0, 10**9) > check.build_s(1.0, 0) > nothing_s


def test_the_report_says_what_stays():
    times = ModelTimes((0.002,) * 5, (0.001,) * 5, "tuned")
    assert "2.000 ms" in str(times) and "2.00x" in str(times) and "stay" not in str(times)
    assert "the default schedules stay" in str(ModelTimes((0.001,) * 5, (0.002,) * 5, "default"))
