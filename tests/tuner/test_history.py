"""What is stored of a measurement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luthier.tuner.candidate import Candidate
from luthier.tuner.history import make_record
from luthier.tuner.measure import MeasureResult
from luthier.tuner.record import Record, Status


def test_a_measurement_becomes_a_record(tiny, host):
    candidate = Candidate({"factor": 8, "how": "unroll"}, None, tiny.space_name, None, 5)
    result = MeasureResult(tiny, candidate, Status.OK, (2e-6, 1e-6, 2e-6, 2e-6), True, compile_s=0.1, worker="node-1")
    record = make_record(result, host, "random", 3, predicted=0.75, cold=True)
    assert (record.key, record.trial, record.search, record.seed) == (tiny.key, 5, "random", 3)
    assert (record.predicted, record.cold, record.worker) == (0.75, True, "node-1")
    assert record.noise == pytest.approx(0.125)
    assert record.created_at > 1.7e9 and record.luthier_version and record.llvm_version
    assert Record.from_json(record.to_json()) == record
    plain = make_record(replace(result, worker=""), host, "random", 3)
    assert (plain.predicted, plain.cold, plain.worker) == (None, False, "")
