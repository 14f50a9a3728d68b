"""What a log holds: records of candidates and of whole models."""

from __future__ import annotations

import json
import math

import pytest

from luthier.errors import LogError
from luthier.tuner.database import open_log
from luthier.tuner.exchange import export_records, merge_logs, read_records
from luthier.tuner.model_run import ModelRun
from luthier.tuner.record import ERROR_CHARACTERS, Record, Status, shorten


class TestRecord:
    def test_identity_does_not_depend_on_the_order_of_decisions(self, make_record):
        a = make_record(decisions={"x": 1, "y": [2]})
        b = make_record(decisions={"y": [2], "x": 1})
        assert a.identity == b.identity
        assert a.identity != make_record(decisions={"x": 1, "y": [3]}).identity
        assert a.identity != make_record(decisions={"x": 1, "y": [2]}, space="mine").identity

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"status": "splendid"}, "splendid"),
            ({"status": None}, "status"),
            ({"run_s": [0.0]}, "run_s"),
            ({"run_s": ["x"]}, "run_s"),
            ({"decisions": []}, "decisions"),
            ({"verified": 1}, "verified"),
            ({"seed": True}, "seed"),
            ({"cold": 1}, "cold"),
            ({"worker": None}, "worker"),
            ({"predicted": "high"}, "predicted"),
            ({"predicted": math.nan}, "predicted"),
            ({"noise": math.inf}, "noise"),
        ],
    )
    def test_from_json_names_the_wrong_field(self, make_record, change, message):
        with pytest.raises(LogError, match=message):
            Record.from_json(make_record().to_json() | change)

    def test_from_json_names_the_missing_field(self, make_record):
        data = make_record().to_json()
        del data["decisions"]
        with pytest.raises(LogError, match="decisions"):
            Record.from_json(data)

    def test_long_errors_are_cut_in_the_middle(self, make_record, tmp_path):
        text = "start" + "x" * 100_000 + "end"
        assert len(shorten(text)) <= ERROR_CHARACTERS
        with open_log(tmp_path / "a.db") as log:
            log.add(make_record(status=Status.BUILD_ERROR, error=text))
            (stored,) = log.records()
        assert stored.error.startswith("start") and stored.error.endswith("end")
        assert len(stored.error) <= ERROR_CHARACTERS


class TestModelRun:
    def run(self, machine) -> ModelRun:
        return ModelRun("net.onnx", machine.fingerprint(), 2e-3, 1e-3, "tuned")

    def test_round_trip(self, machine):
        run = self.run(machine)
        assert ModelRun.from_json(json.loads(json.dumps(run.to_json()))) == run

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"kept": "both"}, "'both' is unknown"), ({"tuned_s": 0.0}, "positive"), ({"model": 3}, "'model'"),
            ({"trials": True}, "'trials'"), ({"default_s": math.nan}, "'default_s'"), ({"target": None}, "'target'"),
        ],
    )  # fmt: skip
    def test_from_json_names_the_wrong_field(self, machine, change, message):
        with pytest.raises(LogError, match=message):
            ModelRun.from_json(self.run(machine).to_json() | change)
        data = self.run(machine).to_json()
        del data["kept"]
        with pytest.raises(LogError, match="lacks the field 'kept'"):
            ModelRun.from_json(data)
        with pytest.raises(LogError, match="JSON object"):
            ModelRun.from_json([])

    def test_it_is_exported_and_merged(self, tmp_path, machine, make_record):
        with open_log(tmp_path / "a.db") as log:
            log.add(make_record())
            log.add_model_run(self.run(machine))
            assert export_records(log, tmp_path / "a.jsonl") == 1
        assert list(read_records(tmp_path / "a.jsonl")) == [make_record()]
        for name, sources in (("b.db", ["a.jsonl"]), ("c.db", ["a.db", "a.jsonl"])):
            with open_log(tmp_path / name) as log:
                assert merge_logs([tmp_path / s for s in sources], log) == 1
                assert log.model_runs() == [self.run(machine)]
