"""Cyclic garbage is looked for less often while schedules are made, and as before afterwards."""

from __future__ import annotations

import gc

import pytest

from luthier.tuner.garbage import THRESHOLD, collecting_seldom


@pytest.mark.parametrize("before", [(700, 10, 10), (0, 10, 10), (100_000, 10, 1000)])
def test_thresholds_are_raised_and_come_back(before):
    usual = gc.get_threshold()
    try:
        gc.set_threshold(*before)
        with pytest.raises(KeyError), collecting_seldom():
            inside = gc.get_threshold()
            raise KeyError
        assert gc.get_threshold() == before
    finally:
        gc.set_threshold(*usual)
    assert inside == (before if not before[0] else tuple(max(a, b) for a, b in zip(before, THRESHOLD, strict=True)))
