"""Builder and runner as functions in this process, the inputs that they get, and how results are compared."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from schedules import candidates

from luthier import te
from luthier.errors import TuningError
from luthier.runtime.single import single_program
from luthier.te.evaluate import evaluate
from luthier.te.ops.conv import conv
from luthier.tuner.builder import Builder, _scratch_room
from luthier.tuner.inputs import differences, random_inputs
from luthier.tuner.jobs import BuildBatch, BuildJob, LoadJob, OutputsJob, TimeJob, reference_job
from luthier.tuner.measure import Measurer
from luthier.tuner.reference import reference_schedule
from luthier.tuner.runner import Runner, _Loaded, _sums


class TestRoles:
    """Builder and runner as functions, in this process."""

    def test_naive_reference_agrees_with_the_evaluator(self, matmul, host):
        built = Builder().handle(matmul.workload, reference_job(host))
        (actual,) = Runner().handle(matmul.workload, OutputsJob(built, 1))
        inputs = random_inputs(matmul.workload)
        expected = evaluate(matmul.workload, inputs)
        assert differences(matmul.workload.outputs, expected, [actual]) == ""
        assert actual.std() > 0.1

    @pytest.mark.parametrize("shape", [(1, 2, 9, 9, 8), (1, 1, 5, 7, 4)])
    def test_the_reference_of_a_convolution_is_in_vectors_and_right_at_borders(self, host, shape):
        from luthier.te.ops.conv import conv

        n, blocks, *image, block = shape
        data = te.placeholder((n, blocks, *image, block), name="x")
        weight = te.placeholder((24, blocks * block, 3, 3), name="w", constant=True)
        options = {"in_channels": blocks * block, "out_channels": 24, "in_block": block, "out_block": 24}
        task = te.workload(conv(data, weight, pads=[1, 1, 1, 1], strides=[2, 1], **options), [data, weight])
        schedule = reference_schedule(task, host)
        (stage,) = schedule.live_stages()
        assert [a.annotation for a in stage.leaves][-1] == "vectorize" and weight in schedule.layouts
        (actual,) = Runner().handle(task, OutputsJob(Builder().handle(task, reference_job(host)), 1))
        assert differences(task.outputs, evaluate(task, random_inputs(task)), [actual]) == ""

    def test_candidates_with_other_layouts_compute_the_same(self, matmul, host):
        builder, runner = Builder(), Runner()
        expected = evaluate(matmul.workload, random_inputs(matmul.workload))
        for c in candidates(matmul, host, 4):
            built = builder.handle(matmul.workload, BuildJob(host, c.decisions))
            actual = runner.handle(matmul.workload, OutputsJob(built))
            assert differences(matmul.workload.outputs, expected, actual) == ""

    def test_trace_and_decisions_build_the_same_code(self, matmul, host):
        (c,) = candidates(matmul, host, 1)
        by_decisions = Builder().handle(matmul.workload, BuildJob(host, c.decisions))
        by_trace = Builder().handle(matmul.workload, BuildJob(host, c.decisions, c.trace))
        assert by_decisions.objects == by_trace.objects

    def test_timings(self, matmul, host):
        builder = Builder()
        built = [builder.handle(matmul.workload, BuildJob(host, c.decisions)) for c in candidates(matmul, host, 2)]
        job = TimeJob(tuple(built), total_s=0.002, sample_s=0.0002, max_samples=7)
        timings = Runner().handle(matmul.workload, replace(job, race=math.inf, contend=math.inf, incumbent=built[0]))
        assert len(timings.candidates) == 2
        for t in (*timings.candidates, timings.incumbent):
            assert 5 <= len(t) <= 7
            assert all(1e-8 < x < 0.1 for x in t)

    def test_each_sample_finds_the_caches_as_its_own_candidate_left_them(self, matmul, host, monkeypatch):
        builder = Builder()
        built = tuple(builder.handle(matmul.workload, BuildJob(host, c.decisions)) for c in candidates(matmul, host, 2))
        runs = []
        monkeypatch.setattr(_Loaded, "run", lambda self, repeats, cold=False: runs.append((self, cold)) or 1e-3)
        job = TimeJob(built, race=math.inf, contend=math.inf, min_samples=6, max_samples=6)
        timings = Runner().handle(matmul.workload, job)
        assert [len(t) for t in timings.candidates] == [6, 6]
        in_turns = [candidate for candidate, _ in runs[-24:]]
        assert in_turns[::2] == in_turns[1::2] and in_turns[0] is not in_turns[2]
        runs.clear()
        Runner().handle(matmul.workload, replace(job, cold=True))
        in_turns = runs[-12:]
        assert all(cold for _, cold in in_turns) and len({id(c) for c, _ in in_turns[:2]}) == 2

    def test_the_race_is_lost_after_one_timing(self, matmul, host):
        built = Builder().handle(matmul.workload, BuildJob(host, candidates(matmul, host, 1)[0].decisions))
        timings = Runner().handle(matmul.workload, TimeJob((built,), best_s=1e-12))
        ((only,),) = timings.candidates
        assert only > 0 and timings.incumbent == ()

    def test_the_race_is_against_the_incumbent_as_fast_as_it_is_now(self, matmul, host):
        built = Builder().handle(matmul.workload, BuildJob(host, candidates(matmul, host, 1)[0].decisions))
        timings = Runner().handle(matmul.workload, TimeJob((built,), best_s=1e-12, incumbent=built, race=5.0))
        assert len(timings.candidates[0]) > 1 and len(timings.incumbent) > 1

    def test_what_was_loaded_ahead_is_not_loaded_again(self, matmul, host, monkeypatch):
        built = Builder().handle(matmul.workload, BuildJob(host, candidates(matmul, host, 1)[0].decisions))
        runner = Runner()
        assert runner.handle(matmul.workload, LoadJob((built,))) is None
        monkeypatch.setattr("luthier.tuner.runner.load_objects", None)
        assert len(runner.handle(matmul.workload, TimeJob((built,), best_s=1e-12)).candidates) == 1

    def test_what_was_loaded_for_one_task_is_not_taken_for_another(self, matmul, host):
        built = Builder().handle(matmul.workload, BuildJob(host, candidates(matmul, host, 1)[0].decisions))
        runner = Runner()
        runner.handle(matmul.workload, LoadJob((built,)))
        data = runner._task_data(matmul.workload)
        other = SimpleNamespace(key="other")
        assert runner._of(matmul.workload, data, built) is runner._of(matmul.workload, data, built)
        assert runner._of(other, data, built) is not runner._of(matmul.workload, data, built)

    def test_constants_are_evicted_before_each_cold_run(self, matmul, host, monkeypatch):
        built = Builder().handle(matmul.workload, BuildJob(host, candidates(matmul, host, 1)[0].decisions))
        evicted = []
        monkeypatch.setattr("luthier.tuner.runner.evict", lambda array: evicted.append(array))
        loaded = _Loaded(built, Runner()._task_data(matmul.workload))
        assert loaded.run(3) > 0 and not evicted
        assert loaded.run(3, cold=True) > 0
        assert evicted == [*loaded.constants] * 3

    def test_constants_are_cold_where_the_model_exceeds_the_caches(self, matmul, host):
        with Measurer(host, builders=1) as m:
            for constants, cold in ((0, False), (host.l3_bytes // 8, False), (host.l3_bytes, True)):
                assert m._bench._is_cold(replace(matmul, constants_bytes=constants)) == cold

    def test_a_batch_is_built_as_one_by_one(self, matmul, host):
        jobs = [BuildJob(host, c.decisions) for c in candidates(matmul, host, 3)]
        wrong = BuildJob(host, {}, {"names": [], "steps": [["explode", {}]]})
        *good, bad = Builder().handle(matmul.workload, BuildBatch((*jobs, wrong)))
        assert [b.objects for b in good] == [Builder().handle(matmul.workload, j).objects for j in jobs]
        assert "other stages" in bad.error

    @pytest.mark.parametrize(("shared", "thread"), [(0, 0), (100, 0), (0, 5000), (40_000, 300_000)])
    def test_programs_of_candidates_have_room_of_few_sizes_and_end_where_their_scratch_does(self, shared, thread):
        kernel = SimpleNamespace(params=[None] * 3, outputs=1, symbol="k", shared_bytes=shared, thread_bytes=thread)
        program = single_program(kernel, 2, _scratch_room)
        (call,) = program.calls
        assert {call.thread, call.thread_bytes} <= {0, 1 << 15, 1 << 18, 1 << 21}
        assert shared <= call.thread and thread <= call.thread_bytes
        last_thread = call.thread + call.thread_bytes if thread else 0
        assert 0 <= program.arena_bytes - last_thread - (thread or shared) < 64

    def test_writes_past_the_end_are_found(self, matmul, host):
        built = Builder().handle(matmul.workload, reference_job(host))
        params = (*built.params[:-1], replace(built.params[-1], size_bytes=24 * 48 * 4 - 64, shape=(24 * 48 - 16,)))
        with pytest.raises(TuningError, match="past the end"):
            Runner().handle(matmul.workload, OutputsJob(replace(built, params=params)))

    @pytest.mark.parametrize("size", [1, 8, 1023, 1024, 5000])
    def test_a_change_of_an_input_shows(self, size):
        array = np.random.default_rng(0).standard_normal(size).astype(np.float32)
        before = _sums(array)
        assert np.array_equal(_sums(array), before)
        for place in (0, size // 2, size - 1):
            changed = array.copy()
            changed[place] = np.nextafter(changed[place], 9.0, dtype=np.float32)
            assert not np.array_equal(_sums(changed), before)

    def test_inputs_are_the_same_every_time_and_fit_the_operation(self):
        data, where = te.placeholder((9, 4)), te.placeholder(6, "int64", "where")
        gather = te.workload(te.compute((6, 4), lambda i, j: data[where[i], j]), [data, where])
        first, second = random_inputs(gather), random_inputs(gather)
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
        assert first[0].min() < 0 < first[0].max()
        assert first[1].min() >= 0 and first[1].max() < 9
        x = te.placeholder(100)
        root = te.workload(te.compute(100, lambda i: te.call("sqrt", x[i])))
        assert random_inputs(root)[0].min() > 0

    def test_channels_that_only_fill_a_block_have_no_weights(self):
        x, w = te.placeholder((1, 1, 4, 4, 16), name="x"), te.placeholder((16, 16, 3, 3), name="w", constant=True)
        work = te.workload(conv(x, w, in_channels=16, out_channels=3, in_block=16, out_block=16), [x, w])
        weights = random_inputs(work)[1]
        assert weights[:3].all() and not weights[3:].any()


class TestDifferences:
    out = (te.compute(4, lambda i: te.const(0.0), "y"),)
    integers = (te.compute(4, lambda i: te.const(0), "n"),)

    @pytest.mark.parametrize(
        ("expected", "actual", "message"),
        [
            ([1, 2, 3, 4], [1, 2, 3, 4.0001], ""),
            ([1, 2, 3, 4], [1, 2, 3, 4.1], "1 of 4 values differ"),
            ([1, 2, np.nan, 4], [1, 2, np.nan, 4], ""),
            ([1, 2, 3, 4], [1, 2, np.nan, 4], "nan instead of 3"),
            ([1, 2, np.nan, 4], [1, 2, 3, 4], "3 instead of nan"),
            ([1, 2, np.inf, 4], [1, 2, np.inf, 4], ""),
            ([1, 2, np.inf, 4], [1, 2, -np.inf, 4], "-inf instead of inf"),
            ([0, 0, 0, 0], [0, 0, 0, 1e-30], "differ"),
        ],
    )
    def test_floats(self, expected, actual, message):
        found = differences(self.out, [np.array(expected, np.float32)], [np.array(actual, np.float32)])
        assert message in found and bool(message) == bool(found)

    def test_integers(self):
        assert differences(self.integers, [np.arange(4)], [np.arange(4)]) == ""
        assert "first at [3]" in differences(self.integers, [np.arange(4)], [np.array([0, 1, 2, 2])])

    def test_shape(self):
        assert "shape" in differences(self.out, [np.zeros(4)], [np.zeros(5)])
