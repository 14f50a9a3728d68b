"""Eviction: data stays as it is, also where the CPU has no instruction for it, whatever its size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from luthier.runtime.arrays import address_of
from luthier.tuner.evict import _displace, _flush, evict


@pytest.mark.parametrize("count", [0, 1, 15, 17, 100_003])
def test_data_stays(count):
    array = np.arange(count, dtype=np.float32)
    array += 1  # in the cache and not in memory
    evict(array)
    assert (array == np.arange(1, count + 1)).all()


def test_every_way_of_eviction_keeps_data(host):
    ways = [_displace(host)]
    if host.triple.startswith("x86_64"):
        others = ",".join(f for f in host.features.split(",") if f != "+clflushopt")
        ways += [_flush(host), _flush(replace(host, features=others))]
    for way in ways:
        array = np.arange(1000)
        way(address_of(array), array.nbytes)
        assert (array == np.arange(1000)).all()
