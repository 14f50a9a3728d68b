"""Exported logs: there and back, old ones, damaged ones."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from luthier.errors import LogError
from luthier.tuner.database import open_log
from luthier.tuner.exchange import export_records, import_records, merge_logs, read_records
from luthier.tuner.record import Status


class TestExchange:
    def test_round_trip(self, tmp_path, make_record):
        records = [make_record(1, error='quo"te\nline'), make_record(2, status=Status.CRASHED, trace=None)]
        with open_log(tmp_path / "a.db") as log:
            log.merge(records)
            assert export_records(log, tmp_path / "a.jsonl") == 2
        assert list(read_records(tmp_path / "a.jsonl")) == records

    def test_merge_logs_takes_both_kinds(self, tmp_path, make_record):
        with open_log(tmp_path / "a.db") as a:
            a.merge([make_record(1, 2e-3), make_record(2, 2e-3)])
        export_records([make_record(1, 1e-3), make_record(3, 3e-3)], tmp_path / "b.jsonl")
        with open_log(tmp_path / "all.db") as log:
            assert merge_logs([tmp_path / "a.db", tmp_path / "b.jsonl"], log) == 4
            assert {r.decisions["tile"]: r.best_s for r in log.records()} == {1: 1e-3, 2: 2e-3, 3: 3e-3}
            assert merge_logs([tmp_path / "a.db", tmp_path / "b.jsonl"], log) == 0

    def test_a_cut_off_export_changes_nothing(self, tmp_path, make_record):
        path = tmp_path / "a.jsonl"
        export_records([make_record(1), make_record(2)], path)
        path.write_text(path.read_text()[:-20])
        with open_log(tmp_path / "a.db") as log:
            with pytest.raises(LogError, match="line 3 is cut off"):
                import_records(path, log)
            assert list(log.records()) == []

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ("", "line 1"),
            ("[]\n", "not an exported Luthier log"),
            ('{"format": "luthier-log", "version": 7}\n', "format 7"),
            ('{"format": "luthier-log", "version": 1}\n{"key": 1}\n', "line 2: .*key"),
            ('{"format": "luthier-log", "version": 1}\n\nnonsense\n', "line 3 is not JSON"),
            ('{"format": "luthier-log", "version": 2}\n{"key": NaN}\n', "line 2 is not JSON"),
            ('{"format": "luthier-log", "version": 2}\n{"model_run": {}}\n', "line 2: .*lacks the field 'model'"),
        ],
    )
    def test_bad_files(self, tmp_path, lines, message):
        path = tmp_path / "a.jsonl"
        path.write_text(lines)
        with pytest.raises(LogError, match=message):
            list(read_records(path))

    def test_missing_paths(self, tmp_path, make_record):
        with pytest.raises(LogError, match="cannot be read"):
            list(read_records(tmp_path / "none.jsonl"))
        with pytest.raises(LogError, match="does not exist"):
            export_records([make_record()], tmp_path / "none" / "a.jsonl")
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00" * 50)
        with pytest.raises(LogError, match="binary file"):
            list(read_records(tmp_path / "binary"))

    def test_no_nan_can_enter(self, tmp_path, make_record):
        with pytest.raises(LogError), open_log(tmp_path / "a.db") as log:
            log.add(dataclasses.replace(make_record(), decisions={"x": math.nan}))

    def test_old_log_can_still_be_read(self, make_record, tmp_path):
        stored = Path(__file__).parent / "data" / "format_1.jsonl"
        records = list(read_records(stored))
        assert [r.status for r in records] == [Status.OK, Status.TIMEOUT]
        assert records[0].best_s == 0.00025 and records[0].verified
        with open_log(tmp_path / "a.db") as log:
            assert import_records(stored, log) == 2
            assert list(log.records()) == records
