"""From a log to schedules: tuned, reused, transferred or default, and why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from luthier import build, te
from luthier.errors import Error, ScheduleError
from luthier.schedule.decide import Adapt, Default, Replay
from luthier.schedule.space import enumerate_space, instantiate
from luthier.tuner import search_evolutionary
from luthier.tuner.cost_model import make_cost_model
from luthier.tuner.database import MemoryDatabase, open_log
from luthier.tuner.features import extract
from luthier.tuner.lookup import best_schedule, schedules_from_log
from luthier.tuner.record import Record, Status, target_hash
from luthier.tuner.search import Observation, SearchContext, make_searcher
from luthier.tuner.search_descent import Around
from luthier.tuner.task import TuningTask
from luthier.tuner.transfer import hints


@pytest.fixture(params=["memory", "sqlite"])
def log(request, tmp_path):
    with MemoryDatabase() if request.param == "memory" else open_log(tmp_path / "log.db") as database:
        yield database


def product(m=24, n=48, k=64) -> TuningTask:
    a, b = te.placeholder((m, k), name="a"), te.placeholder((k, n), name="b", constant=True)
    r = te.reduce_axis(k, "k")
    attrs = {"batch": 1, "m": m, "n": n, "k": k, "trans_a": False, "trans_b": False}
    out = te.compute((m, n), lambda i, j: te.sum(a[i, r] * b[r, j], r), "product", tag="matmul", attrs=attrs)
    return TuningTask(te.workload(out, [a, b]), f"matmul_{m}x{n}x{k}")


def default_of(task, target):
    return task.instantiate(Default(), target).decisions


def record(task, target, run_s=1e-3, trial=0, **changes) -> Record:
    """A record of the default schedule; ``changes`` may change its decisions."""
    values = {
        "decisions": default_of(task, target) | changes.pop("changed", {}),
        "status": Status.OK,
        "run_s": (run_s, run_s * 1.001, run_s * 1.002),
        "verified": True,
    } | changes
    return Record(task.key, task.workload.text, task.name, target.fingerprint(), trial=trial, **values)


def tuned(log, task, target, gain=1.5, **changed):
    """Put a default and a better schedule of ``task`` into the log."""
    log.add(record(task, target))
    log.add(record(task, target, 1e-3 / gain, 1, changed=changed))


def flip(task, target):
    """A decision of the default that has another option at all sizes: the order of loops."""
    return {"panels": "rows", "rows": "panels"}[default_of(task, target)["order"]]


class TestExact:
    def test_counts(self, log, matmul, tiny, host):
        log.add(record(matmul, host))
        lookup = schedules_from_log(log)
        assert lookup(matmul.workload, host).origin == "tuned"
        assert lookup(tiny.workload, host).origin == "default"
        assert str(lookup) == "1 tuned, 0 reused, 0 transferred, 1 default"

    def test_the_fastest_is_taken_and_the_gain_is_told(self, log, host):
        task = product()
        tuned(log, task, host, order=flip(task, host))
        found = schedules_from_log(log)(task.workload, host)
        assert found.decisions["order"] == flip(task, host)
        assert "1.50x as fast as its default" in found.why and "trial 1" in found.why

    def test_a_similar_machine_is_second_best(self, log, matmul, host):
        log.add(record(matmul, host.with_threads(7)))
        found = schedules_from_log(log)(matmul.workload, host)
        assert found.origin == "reused" and "other threads" in found.why
        assert schedules_from_log(log, reuse=False)(matmul.workload, host).decisions is None
        assert target_hash(host) != target_hash(host.with_threads(7))

    def test_the_most_similar_machine_comes_first(self, log, matmul, host):
        near, far = host.with_threads(8), replace(host, threads=64, l2_bytes=123, model="Another")
        log.add(record(matmul, far, 1e-4, changed={"order": "rows"}))
        log.add(record(matmul, near, 2e-4, changed={"order": "panels"}))
        assert schedules_from_log(log)(matmul.workload, host.with_threads(4)).decisions["order"] == "panels"

    def test_cores_allowed_by_affinity_do_not_matter(self, log, matmul, host):
        log.add(record(matmul, replace(host, cores=64)))
        assert schedules_from_log(log)(matmul.workload, replace(host, cores=1)).origin == "tuned"

    def test_records_that_no_longer_fit_are_counted(self, log, matmul, host):
        log.add(record(matmul, host, decisions={"tile": "of another age"}))
        lookup = schedules_from_log(log)
        found = lookup(matmul.workload, host)
        assert (found.origin, found.stale) == ("default", 1)
        assert "1 stale record passed over" in found.why and "of another age" in found.why
        assert (lookup.counts["stale"], lookup.counts["default"]) == (1, 1)
        assert "1 of the records from another version" in str(lookup)
        log.add(record(matmul, host, run_s=2e-3))  # slower, but it can be built
        assert lookup(matmul.workload, host).origin == "tuned"

    def test_a_record_that_is_older_than_a_decision_gets_its_default(self, log, host):
        task = product()
        old = default_of(task, host) | {"order": flip(task, host)}
        missing = old.pop("prefetch")
        log.add(record(task, host, trial=1, decisions=old))
        lookup = schedules_from_log(log)
        found = lookup(task.workload, host)
        assert (found.origin, found.completed) == ("tuned", ("prefetch",))
        assert found.decisions == old | {"prefetch": missing}
        assert task.instantiate(Replay(found.decisions), host).decisions == found.decisions
        assert "older than prefetch" in found.why
        assert "1 completed with defaults" in str(lookup)

    def test_a_record_that_is_older_than_a_decision_may_say_what_was_done_before(self, log, host):
        """Weights were read at one place before there was a choice."""
        task = product(m=1, n=256)
        old = default_of(task, host)
        assert old.pop("streams") == 1
        log.add(record(task, host, trial=1, decisions=old))
        found = schedules_from_log(log)(task.workload, host)
        assert (found.origin, found.completed) == ("tuned", ())
        assert found.decisions == old | {"streams": 1}

    def test_an_incomplete_record_says_nothing_where_the_default_rule_has_changed(self, log, host):
        """It was better than another default: a record of a direct convolution where Winograd is the default now."""
        task = product()
        old = {n: v for n, v in default_of(task, host).items() if n != "prefetch"}
        log.add(record(task, host, decisions=old | {"order": flip(task, host)}))
        log.add(record(task, host, 5e-4, 1, decisions=old | {"unroll_k": 8}))
        found = schedules_from_log(log)(task.workload, host)
        assert (found.origin, found.stale) == ("default", 2)
        assert "older than prefetch, and the default rule has changed since in order" in found.why
        log.add(record(task, host, 9e-4, decisions=old))  # the default of its day is today's
        log.add(record(task, host, decisions=old | {"order": flip(task, host)}, status=Status.CRASHED), replace=True)
        found = schedules_from_log(log)(task.workload, host)
        assert (found.origin, found.completed, found.decisions["unroll_k"]) == ("tuned", ("prefetch",), 8)

    def test_a_record_of_which_nothing_is_left_is_stale(self, log, host):
        task = product()
        log.add(record(task, host, decisions={"of": "another", "age": 1}))
        found = schedules_from_log(log)(task.workload, host)
        assert (found.origin, found.stale) == ("default", 1)
        assert "nothing is left of its decisions (age, of)" in found.why

    def test_no_target(self, matmul):
        with pytest.raises(Error, match="no target"):
            schedules_from_log(MemoryDatabase())(matmul.workload)

    def test_no_schedule(self, matmul, host):
        assert best_schedule(MemoryDatabase(), matmul.workload, host) is None


class TestNearestShape:
    def test_what_tuning_changed_is_taken_over(self, log, host):
        known, wanted = product(n=48), product(n=64)
        tuned(log, known, host, order=flip(known, host))
        lookup = schedules_from_log(log)
        found = lookup(wanted.workload, host)
        assert found.origin == "transferred"
        assert found.decisions == default_of(wanted, host) | {"order": flip(known, host)}
        assert "matmul_24x48x64 at distance 0.42" in found.why and "1.50x" in found.why
        assert str(lookup) == "0 tuned, 0 reused, 1 transferred, 0 default"
        assert schedules_from_log(log, transfer=False)(wanted.workload, host).origin == "default"

    def test_its_own_record_goes_first(self, log, host):
        known, wanted = product(n=48), product(n=64)
        tuned(log, known, host, order=flip(known, host))
        log.add(record(wanted, host))
        assert schedules_from_log(log)(wanted.workload, host).origin == "tuned"

    def test_the_nearest_decides(self, log, host):
        wanted, near, far = product(n=64), product(n=80), product(n=160)
        tuned(log, far, host, order=flip(far, host))
        assert schedules_from_log(log)(wanted.workload, host).origin == "transferred"
        tuned(log, near, host, gain=1.02, order=flip(near, host))
        found = schedules_from_log(log)(wanted.workload, host)
        assert found.origin == "default"
        assert "matmul_24x80x64" in found.why and "its default is good" in found.why

    def test_too_far(self, log, host):
        known = product(n=48)
        tuned(log, known, host, order=flip(known, host))
        found = schedules_from_log(log)(product(n=480).workload, host)
        assert found.origin == "default" and "is farther than" in found.why

    def test_a_gain_within_the_noise_is_none(self, log, host):
        known, wanted = product(n=48), product(n=64)
        log.add(record(known, host))
        better = record(known, host, trial=1, changed={"order": flip(known, host)})
        log.add(replace(better, run_s=(1e-3 / 1.5, 1e-3, 2e-3), noise=-1.0))  # less than the default's, once
        found = schedules_from_log(log)(wanted.workload, host)
        assert found.origin == "default" and "its default is good" in found.why

    def test_nothing_is_known_of_the_default_there(self, log, host):
        known, wanted = product(n=48), product(n=64)
        log.add(record(known, host, 1e-4, 1, changed={"order": flip(known, host)}))
        found = schedules_from_log(log)(wanted.workload, host)
        assert found.origin == "default" and "its default schedule was not measured" in found.why

    def test_a_size_that_is_no_option_gives_way_to_the_nearest(self, log, host):
        known, wanted = product(m=4, n=48), product(m=3, n=48)
        tile = default_of(known, host)["tile"]
        other = [4, 1] if tile != [4, 1] else [4, 2]
        tuned(log, known, host, gain=3.0, tile=other)
        found = schedules_from_log(log)(wanted.workload, host)
        assert found.decisions is not None, found.why
        assert found.decisions["tile"][0] <= 3 and found.decisions["tile"][1] == other[1]
        assert f"tile {other} became" in found.why

    def test_tiles_that_waste_more_than_was_gained_are_not_taken(self, log, host):
        known, wanted = product(m=8), product(m=9)
        tuned(log, known, host, gain=1.2, tile=[8, 1])
        found = schedules_from_log(log)(wanted.workload, host)
        assert found.origin == "default" and "times what the default's do here" in found.why

    def test_a_neighbour_of_an_older_space_says_nothing_about_this_default(self, log, host):
        known, wanted = product(n=48), product(n=64)
        old = {name: v for name, v in default_of(known, host).items() if name != "prefetch"}
        log.add(record(known, host, decisions=old))
        log.add(record(known, host, 5e-4, 1, decisions=old | {"order": flip(known, host)}))
        found = schedules_from_log(log)(wanted.workload, host)
        assert found.origin == "default" and "before there was a choice of prefetch" in found.why

    def test_another_algorithm_by_default(self, log, host):
        known, wanted = product(n=48), product(n=64)
        log.add(record(known, host, changed={"algorithm": "another"}))
        log.add(record(known, host, 5e-4, 1, changed={"algorithm": "another", "order": flip(known, host)}))
        found = schedules_from_log(log)(wanted.workload, host)
        assert found.origin == "default" and "the default is None here, not another" in found.why

    def test_another_name_is_not_replaced(self, log, host):
        known, wanted = product(n=48), product(n=64)
        tuned(log, known, host, order="diagonal")
        found = schedules_from_log(log)(wanted.workload, host)
        assert found.origin == "default" and "'diagonal' is not among the options" in found.why

    def test_another_machine_serves_if_wanted(self, log, host):
        known, wanted = product(n=48), product(n=64)
        tuned(log, known, replace(host, model="Another"), order=flip(known, host))
        found = schedules_from_log(log)(wanted.workload, host)
        assert found.origin == "transferred" and "of a machine with other model" in found.why
        assert schedules_from_log(log, reuse=False)(wanted.workload, host).origin == "default"
        other_code = MemoryDatabase()
        tuned(other_code, known, replace(host, vector_bits=64), order=flip(known, host))
        assert schedules_from_log(other_code)(wanted.workload, host).origin == "default"

    def test_another_space_is_not_asked(self, log, host):
        known, wanted = product(n=48), product(n=64)
        log.add(record(known, host, space="mine"))
        log.add(record(known, host, 1e-4, 1, space="mine", changed={"order": flip(known, host)}))
        assert schedules_from_log(log)(wanted.workload, host).origin == "default"


@pytest.fixture
def search_hinting(host, monkeypatch):
    """Make a search with hints that takes nothing at random."""
    monkeypatch.setattr(search_evolutionary, "RANDOM_SHARE", 0.0)

    def make(task, model, hints, seed=0):
        return make_searcher("evolutionary", SearchContext(task, host, seed, cost_model=model, hints=hints))

    return make


class TestHints:
    def test_the_best_of_neighbours_nearest_first(self, log, host):
        near, far, other = product(24, 48, 96), product(24, 96, 128), product(8, 48, 64)
        for task, gain in ((far, 1.5), (near, 1.01)):  # a trial is cheap: small gains count
            tuned(log, task, host, gain, order=flip(task, host))
        log.add(record(other, host))
        made = hints(log, product().workload, host)
        assert made and made[0]["order"] == flip(product(), host)
        assert default_of(product(), host) not in made and len({str(d) for d in made}) == len(made) <= 12
        for decisions in made:
            assert product().instantiate(Replay(decisions), host).decisions == decisions
        assert hints(log, product().workload, host, most=1) == made[:1]

    def test_several_schedules_of_a_neighbour(self, log, host):
        """Checked or not: of a few fast ones that are near each other, none is known to be the fastest."""
        known = product(24, 48, 96)
        seen = Around({})
        known.instantiate(seen, host)
        several = [v for v in seen.options["tile"] if v != default_of(known, host)["tile"]][:4]
        log.add(record(known, host))
        for trial, tile in enumerate(several, 1):
            log.add(record(known, host, 1e-4 * trial, trial, changed={"tile": tile}, verified=False))
        tiles = [made["tile"] for made in hints(log, product().workload, host)]
        assert [t for i, t in enumerate(tiles) if t not in tiles[:i]] == several[:3]

    def test_the_task_itself_with_another_number_of_threads(self, log, host):
        tuned(log, product(), host.with_threads(host.threads + 1), order=flip(product(), host))
        assert hints(log, product().workload, host)[0]["order"] == flip(product(), host)

    def test_a_neighbour_of_which_only_the_default_was_measured_tells_nothing(self, log, host):
        log.add(record(product(24, 48, 96), host, changed={"order": flip(product(), host)}))
        assert hints(log, product().workload, host) == []

    def test_none_without_neighbours(self, log, host):
        assert hints(log, product().workload, host) == []
        tuned(log, product(), host, order=flip(product(), host))
        assert hints(log, product().workload, host) == []  # a task is no neighbour of its own

    @pytest.mark.parametrize("knowing", [False, True], ids=["no model yet", "a model to which all are alike"])
    def test_the_search_tries_them_first(self, host, search_hinting, knowing):
        task, asked = product(48, 480), []
        advice = default_of(task, host) | {"order": flip(task, host)}

        def advise():
            asked.append(1)
            return [advice]

        model = make_cost_model("xgboost-local", target=host)
        if knowing:
            model.ready, model.predict = lambda key: True, lambda key, features: np.zeros(len(features))
        searcher = search_hinting(task, model, advise)
        (first,) = searcher.propose(1)
        assert first.decisions == default_of(task, host) and not asked
        (second,) = searcher.propose(1)
        assert second.decisions == advice and searcher.propose(3) and asked == [1]

    @pytest.mark.parametrize(("lead", "first"), [(0.02, True), (0.5, False)])
    def test_the_model_has_its_say(self, host, search_hinting, lead, first):
        """What the model likes better by little comes after them, what it likes better by much before."""
        task = product(48, 480)
        advice = default_of(task, host) | {"order": flip(task, host)}
        disliked = extract(task.instantiate(Replay(advice), host), host)
        model = make_cost_model("random", target=host)
        model.predict = lambda key, features: np.where((features == disliked).all(axis=1), 0.0, lead)
        searcher = search_hinting(task, model, lambda: [advice])
        searcher.propose(1)
        (second,) = searcher.propose(1)
        assert (second.decisions == advice) is first

    @pytest.mark.parametrize(("good", "tried"), [(False, 2), (True, 6)])
    def test_those_that_disappoint_leave_the_rest_to_the_model(self, host, search_hinting, good, tried):
        """The model likes all else a little better; of six hints the first two are tried all the same."""
        task = product(48, 480)
        schedules = [s for s in enumerate_space(task.workload, host) if s.decisions != default_of(task, host)]
        advice = [s.decisions for s in schedules[:: len(schedules) // 6][:6]]
        disliked = {extract(s, host).tobytes() for s in schedules if s.decisions in advice}
        model = make_cost_model("random", target=host)
        model.predict = lambda key, features: np.array([0.03 * (f.tobytes() not in disliked) for f in features])
        for seed in range(10):
            searcher = search_hinting(task, model, lambda: advice, seed)
            searcher.observe([Observation(c, 1e-3) for c in searcher.propose(1)])
            hinted = []
            for n in range(1, 7):
                (candidate,) = searcher.propose(1)
                hinted.append(candidate.decisions in advice)
                searcher.observe([Observation(candidate, 1e-3 / (1 + n) if hinted[-1] and good else 2e-3)])
            assert sum(hinted) == tried


class TestAdapt:
    def space(self, decider):
        size = decider.choose("size", [1, 2, 4, 8], 4)
        tile = decider.choose("tile", [[1, 4], [2, 2], [2, 14]], [2, 2])
        how = decider.choose("how", ["a", "b"], "a")
        return size, tile, how

    @pytest.mark.parametrize("nearest", [False, True])
    def test_what_is_not_recorded_is_filled(self, nearest):
        decider = Adapt({"tile": [1, 4], "gone": 3}, nearest=nearest)
        assert self.space(decider) == (4, [1, 4], "a")
        assert decider.filled == ["size", "how"] and decider.moved == {}

    def test_nearest_sizes(self):
        decider = Adapt({"size": 7, "tile": [2, 13], "how": "b"}, nearest=True)
        assert self.space(decider) == (8, [2, 14], "b")
        assert decider.moved == {"size": (7, 8), "tile": ([2, 13], [2, 14])}

    @pytest.mark.parametrize("recorded", [{"size": 64}, {"tile": [2]}, {"how": "c"}, {"size": "4"}])
    def test_what_cannot_be_moved(self, recorded):
        with pytest.raises(ScheduleError, match="not among the options"):
            self.space(Adapt(recorded, nearest=True))

    def test_without_nearest_a_size_must_be_legal(self):
        with pytest.raises(ScheduleError, match="not among the options"):
            self.space(Adapt({"size": 7}))


def test_a_transferred_schedule_computes_the_right_thing(host):
    log, known, wanted = MemoryDatabase(), product(n=48), product(n=64)
    tuned(log, known, host, order=flip(known, host))
    found = schedules_from_log(log)(wanted.workload, host)
    function = build(instantiate(wanted.workload, Replay(found.decisions), host), host)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(t.shape).astype(np.float32) for t in wanted.workload.inputs)
    np.testing.assert_allclose(function(a, b), a @ b, rtol=1e-4, atol=1e-4)
