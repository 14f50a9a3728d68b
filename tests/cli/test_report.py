"""``luthier report``: the page says what the log says, whatever that is, and is whole without a network."""

import base64
import hashlib
import math
import re
import sqlite3
from dataclasses import replace

import pytest
from html_pages import NASTY, parse

from luthier.page import charts, figures
from luthier.page.markup import h
from luthier.runtime.profile import Peaks
from luthier.tuner.database import open_log
from luthier.tuner.model_run import ModelRun
from luthier.tuner.model_tasks import model_tasks
from luthier.tuner.record import Status


@pytest.fixture(autouse=True)
def peaks(monkeypatch):
    monkeypatch.setattr("luthier.peak.measure", lambda target: Peaks(1e11, 1e10))


@pytest.fixture
def page(luthier, tmp_path):
    """``page(log, ...)`` runs the command and reads the page back."""

    def make(log, *options):
        done = luthier("report", log, "-o", "page.html", *options)
        assert (done.code, done.err) == (0, ""), done
        assert done.out.startswith("page.html: ")
        return parse((tmp_path / "page.html").read_text(encoding="utf-8"))

    return make


def _rows(table):
    return [[cell.text for cell in row.all("td")] for row in table.one("tbody").all("tr")]


# ------------------------------------------------------------------------------------------ the page as a document


def test_the_page_is_whole_and_asks_for_nothing(page, tuned, tiny):
    found = page(tuned(), "--model", tiny)
    for node in found.all():
        for name, value in node.attrs.items():
            assert not name.startswith("on"), node
            assert "://" not in (value or ""), node
            if name in ("src", "href"):
                assert value.startswith("#") or value == "data:,", node
    policy = found.one("meta", http_equiv="Content-Security-Policy").attrs["content"]
    for tag in ("script", "style"):
        text = found.one(tag).text
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
        assert "url(" not in text and "@import" not in text and "fetch" not in text
    assert "default-src 'none'" in policy


def test_links_lead_somewhere_and_everything_has_a_name(page, tuned):
    found = page(tuned())
    ids = [n.attrs["id"] for n in found.all() if "id" in n.attrs]
    assert len(set(ids)) == len(ids)
    links = {n.attrs["href"][1:] for n in found.all("a")}
    assert links <= set(ids)
    assert {"summary", "tasks", "roofline", "noise", "predictions", "failures", "machine", "details"} <= links
    assert {n.attrs["aria-labelledby"] for n in found.all("section")} <= set(ids)
    drawn = found.all("svg", class_="chart")
    assert len(drawn) >= 5
    for svg in drawn:
        assert svg.attrs["role"] == "img" and svg.attrs["aria-label"] and svg.one("desc").text
    for table in found.all("table"):
        (around,) = [n for n in table.within("div") if "scroll" in n.attrs.get("class", "")]
        assert around.attrs["tabindex"] == "0" and around.attrs["aria-label"]
        assert table.one("caption").text
    assert all(p.attrs["tabindex"] == "0" for p in found.all("pre") if p.within("details"))
    assert found.one("html").attrs["lang"] == "en"


def test_details_are_folded(page, tuned):
    found = page(tuned())
    assert not any("open" in d.attrs for d in found.all("details"))
    for pre in found.all("pre"):
        assert pre.within("details")


# ------------------------------------------------------------------------------------------------ what it says


def test_times_before_and_after(page, tuned, tiny, machine):
    found = page(tuned(), "--model", tiny)
    kernels = sum(t.uses for t in model_tasks(tiny, machine))
    tiles = dict(zip((x.text for x in found.all("dt")), (x.text for x in found.all("dd")), strict=True))
    assert tiles["default schedules"] == f"{kernels:.2f} ms"
    assert tiles["gain"] == "6.00x"
    rows = _rows(found.one("table", id="tasks-table"))
    assert len(rows) == len(model_tasks(tiny, machine))
    assert rows[0][3:6] == ["1.00 ms", "167 us", "6.00x"]
    assert rows[0][9:11] == ["7", "1"]
    assert found.one("head").one("title").text == "Tuning report: tiny"


def test_uses_weigh_tasks(page, tuned, tiny, machine, monkeypatch):
    twice = [replace(t, uses=2) for t in model_tasks(tiny, machine)]
    monkeypatch.setattr("luthier.cli_report.model_tasks", lambda *a: twice)
    found = page(tuned(), "--model", tiny)
    assert f"{2 * len(twice):.2f} ms" in [d.text for d in found.all("dd")]
    assert f"as often as tiny runs it ({2 * len(twice)} kernels)" in found.one("section", id="summary").text


def test_tasks_of_other_models_are_left_out(page, tuned, tiny):
    path = tuned()
    with open_log(path) as log:
        log.add(replace(next(iter(log.records())), key="v1-other", task="other"))
    whole, one = page(path), page(path, "--model", tiny)
    assert "other" in [r[1] for r in _rows(whole.one("table", id="tasks-table"))]
    assert "each counted once" in whole.one("section", id="summary").text
    assert "other" not in [r[1] for r in _rows(one.one("table", id="tasks-table"))]
    assert "1 other tasks of the log are left out" in one.one("section", id="summary").text


def test_code_of_the_best_schedule(page, tuned):
    found = page(tuned(), "--code", "1")
    tasks = found.all("details", class_="task")
    text = tasks[0].text
    assert re.search(r"Loop nest \(schedule\), \d+ lines", text) and "for " in text
    assert re.search(r"Assembly, \d+ lines", text) and "retq" in text
    assert "left out to keep the page small" in tasks[1].text and "retq" not in tasks[1].text


def test_long_code_is_cut(page, tuned, monkeypatch):
    monkeypatch.setattr("luthier.page.code.MOST_CHARACTERS", 600)
    found = page(tuned())
    assert re.search(r"Assembly, \d+ lines, \d+ of them left out", found.text)
    assert max(len(p.text) for p in found.all("pre")) < 3000


def test_a_record_that_this_version_does_not_understand(page, tuned):
    """Its trace still says what the schedule was."""
    text = page(tuned(decisions={"no": "such decision"}, trials=1)).one("section", id="details").text
    assert "this version does not build from the record" in text and "retq" in text


def test_a_trace_that_this_version_does_not_understand(page, tuned):
    trace = {"names": [], "steps": [["no_such_primitive", {}]]}
    text = page(tuned(decisions={"no": "such decision"}, trace=trace, trials=1)).one("section", id="details").text
    assert "the best schedule cannot be made again by this version" in text and "retq" not in text


def test_a_log_that_says_little(page, make_log):
    found = page(make_log())
    text = found.text
    assert "the log's text of it cannot be read" in text
    assert "The log is about another machine" in text or "No task's arithmetic is known." in text
    assert "No trial has more than one timing." in text
    assert "No trial in the log has a prediction" in text
    assert "The log holds no measurement of a whole model." in text


def test_failures_only(page, tuned):
    found = page(tuned(status=Status.CRASHED, run_s=(), verified=False, error="signal 11"))
    assert "tasks have no verified schedule" in found.one("section", id="summary").text
    assert found.all("section", id="failures")


def test_failures_are_grouped_by_cause(page, tuned, tiny, machine):
    tasks = len(model_tasks(tiny, machine))
    section = page(tuned()).one("section", id="failures")
    assert f"{tasks} of {7 * tasks} trials: {tasks} timeout." in section.text
    ((status, cause, count, _),) = _rows(section.one("table"))
    assert (status, count) == ("timeout", str(tasks))
    assert cause.startswith("took N s") and "took 1.5 s" in cause


def test_roofline_of_this_machine(page, tuned):
    section = page(tuned()).one("section", id="roofline")
    assert "Peak 100.0 GFLOP/s" in section.text and "10.0 GB/s" in section.text
    assert section.one("path", class_="roof")
    assert len(section.all("circle", class_="tuned")) == len(section.all("circle", class_="default"))


def test_roofline_of_another_machine(page, tuned, machine):
    section = page(tuned(target=replace(machine, model="Elsewhere").fingerprint())).one("section", id="roofline")
    assert "another machine" in section.text and not section.all("path", class_="roof")


def test_predictions(page, tuned):
    path = tuned()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET predicted = -best_s WHERE trial > 0")
    connection.close()
    found = page(path)
    section = found.one("section", id="predictions")
    assert "Rank correlation (Spearman)" in section.text and "1.00 in the median" in section.text
    assert section.one("svg").one("path", class_="dots")
    assert {r[-1] for r in _rows(found.one("table", id="tasks-table"))} == {"1.00"}


def test_whole_models(page, tuned, machine):
    path = tuned()
    run = ModelRun(
        f"tiny {NASTY}",
        machine.fingerprint(),
        2e-3,
        1e-3,
        "tuned",
        0.01,
        0.02,
        trials=7,
        elapsed_s=60.0,
        created_at=1.7e9,
    )
    with open_log(path) as log:
        log.add_model_run(run)
        log.add_model_run(replace(run, target=replace(machine, model="Elsewhere").fingerprint()))
    section = page(path).one("section", id="summary")
    ((model, before, after, gain, noise, kept, trials, *_),) = _rows(section.one("table"))
    assert model.startswith("tiny") and (before, after, gain) == ("2.00 ms", "1.00 ms", "2.00x")
    assert (noise, kept, trials) == ("2.0%", "tuned", "7")


# --------------------------------------------------------------------------------------------- text from anywhere


def test_text_of_the_log_is_never_markup(page, tuned, machine):
    path = tuned(
        task=f"name {NASTY}", error="", search=NASTY, luthier_version=NASTY, llvm_version=NASTY,
        target=machine.fingerprint() | {"model": NASTY},
    )  # fmt: skip
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET error = ? WHERE status = 'timeout'", (NASTY,))
    connection.close()
    for options in ((), ("--code", "1")):
        found = page(path, *options)
        assert len(found.all("script")) == 1 and not found.all("img")
        assert found.one("script").text.lstrip().startswith('"use strict"')
        for node in found.all():
            assert not any(name.startswith("on") for name in node.attrs), node
        text = found.text
        assert "<script>alert(1)</script>" in text
        assert not re.search("[\x00-\x08\x1b\u202e]", text)


def test_long_texts_are_cut(page, tuned, tmp_path, machine):
    long = "x" * 1_000_000
    path = tuned(
        task=long, search=long, luthier_version=long, decisions={"a": long}, key=f"k{long}", trials=1, trace=None,
        target=machine.fingerprint() | {"model": long},
    )  # fmt: skip
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET error = ?", (long,))
    connection.close()
    page(path)
    assert (tmp_path / "page.html").stat().st_size < 200_000


@pytest.mark.parametrize("text", ["t0 = placeholder(float32[4])\n", NASTY, "t1" * 100_000, ""])
def test_workloads_that_are_none(page, tuned, text):
    found = page(tuned(workload=text))
    assert "the log's text of it cannot be read" in found.text


def test_a_workload_under_a_wrong_key(page, tuned, machine, tiny):
    other = model_tasks(tiny, machine)[-1].workload.text
    found = page(tuned(workload=other))
    assert "does not belong to its key" in found.text


@pytest.mark.parametrize(
    "changes",
    [
        {"vector_bits": "wide"},
        {"threads": -1},
        {"more": 1},
        {"triple": "no-such-machine"},
        {"cpu": "z80"},
        {"threads": []},
    ],
)
def test_machines_that_are_none(page, tuned, machine, changes):
    page(tuned(target=machine.fingerprint() | changes, trials=1))


# ---------------------------------------------------------------------------------------------------- the command


def test_the_page_is_named_after_the_log(luthier, tuned, tmp_path):
    assert luthier("report", tuned("net.tuning.db")).code == 0
    assert (tmp_path / "net.tuning.html").exists()


def test_patterns_choose_tasks(luthier, page, tuned, tiny):
    path = tuned()
    names = [r[1] for r in _rows(page(path, "--task", "conv2d*").one("table", id="tasks-table"))]
    assert names and all(n.startswith("conv2d") for n in names)
    assert "--task lstm*: matches none of the" in luthier("report", path, "--task", "lstm*").complaint
    assert "matches none" in luthier("report", path, "--model", tiny, "--task", "lstm*").complaint


def test_one_page_is_about_one_machine(luthier, page, tuned, machine):
    path = tuned()
    tuned(target=replace(machine, model="Elsewhere 9000").fingerprint(), trials=2)
    whole = page(path)
    assert "The log also has records of: Elsewhere 9000" in whole.one("section", id="machine").text
    assert "Elsewhere 9000" in page(path, "--target", "elsewhere*").one("header").text
    complaint = luthier("report", path, "--target", "m68k").complaint
    assert "no such machine" in complaint and "Elsewhere 9000" in complaint


def test_a_model_that_the_log_does_not_know(luthier, make_log, tuned, tiny, machine):
    with open_log(tiny.parent / "else.db") as log:
        with open_log(tuned()) as known:
            record = next(iter(known.records()))
        log.add(replace(record, key="v1-other", task="other"))
    assert "knows none of the" in luthier("report", "else.db", "--model", tiny).complaint
    assert "describes its machine incompletely" in luthier("report", make_log(), "--model", tiny).complaint


def test_requests_that_are_refused_write_nothing(luthier, make_log, tmp_path, monkeypatch):
    path = make_log()
    before = sorted(p.name for p in tmp_path.iterdir())
    assert "there is no such file" in luthier("report", "no.db").complaint
    assert "does not exist" in luthier("report", path, "-o", "no/page.html").complaint
    assert "is a directory" in luthier("report", path, "-o", tmp_path).complaint
    assert "is read by this command" in luthier("report", path, "-o", path).complaint
    (tmp_path / "notes.txt").write_text("my notes")
    assert "not a Luthier log" in luthier("report", "notes.txt").complaint
    monkeypatch.setattr("os.access", lambda *a: False)
    assert "no permission" in luthier("report", path).complaint
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "notes.txt") == before


def test_an_empty_log(luthier, make_log):
    path = make_log(count=0)
    luthier("log", "prune", path)
    assert "holds no records; run luthier tune first" in luthier("report", path).complaint


def test_a_log_of_a_newer_version(luthier, make_log):
    path = make_log()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert "999" in luthier("report", path).complaint


def test_a_page_that_cannot_be_written_leaves_nothing(luthier, make_log, tmp_path, monkeypatch):
    path = make_log()
    (tmp_path / "page.html").write_text("before")

    def full(*_):
        raise OSError(28, "No space left on device", "page.html")

    monkeypatch.setattr("luthier.cli_report.Path.replace", full)
    assert "No space left" in luthier("report", path, "-o", "page.html").complaint
    assert (tmp_path / "page.html").read_text() == "before"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".page")]


# ----------------------------------------------------------------------------------------------------- the parts


def test_many_trials_are_sampled(tuned):
    with open_log(tuned(trials=1)) as log:
        trial = next(iter(log.outlines()))
    times = [1.0 / (1 + (i * 7919) % 10_000) for i in range(50_000)]
    trials = [trial._replace(run_s=(t,), best_s=t, trial=i) for i, t in enumerate(times)]
    from luthier.page.collect import TaskView

    view = TaskView("k", "many", 1, trials, None, None)
    drawn = figures.convergence(view, 400)
    assert len(drawn) < 20_000
    assert "of 50000 measured trials are drawn" in drawn
    assert view.best_so_far_s[-1] == min(times)
    assert view.best_so_far_s == sorted(view.best_so_far_s, reverse=True)


def test_samples_keep_the_ends_and_what_matters():
    assert charts.sample(5, 10) == [0, 1, 2, 3, 4]
    found = charts.sample(1000, 10, keep=[77])
    assert found == sorted(set(found)) and {0, 77, 999} <= set(found) and len(found) <= 12


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("low", "high"), [(1e-6, 1e-6), (3e-6, 4e-6), (1e-6, 1.0), (0.5, 70.0), (1e-12, 1e12)])
def test_axes_have_a_few_ticks_inside(low, high, log):
    ends = charts.span([low, high], log)
    scale = charts.Scale(*ends, 0.0, 100.0, log)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 12
    assert all(ends[0] <= t <= ends[1] for t in ticks)
    places = [scale(t) for t in ticks]
    assert places == sorted(places) and places[0] >= 0 and places[-1] <= 100


def test_words_beside_points_do_not_cover_each_other():
    assert charts.apart([(0, 0), (10, 5), (40, 0), (0, 20)]) == [0, 2, 3]


def test_rank_correlation():
    assert figures.rank_correlation([(1, 10), (2, 20), (3, 25), (4, 100)]) == pytest.approx(1.0)
    assert figures.rank_correlation([(1, 3), (2, 2), (3, 1)]) == pytest.approx(-1.0)
    assert figures.rank_correlation([(1, 1), (1, 2), (2, 2), (2, 1)]) == pytest.approx(0.0)
    assert math.isnan(figures.rank_correlation([(1, 1), (1, 2), (1, 3)]))
    assert math.isnan(figures.rank_correlation([(1, 1), (2, 2)]))


def test_markup_escapes_what_is_not_markup():
    made = h("a", "<b>&", ["\x07", h("i", "x"), None, 1.5], href='"><script>', class_="c", data_x=True, hidden=False)
    assert made == '<a href="&quot;&gt;&lt;script&gt;" class="c" data-x>&lt;b&gt;&amp;\ufffd<i>x</i>1.5</a>'
