"""Figures from tables: every study draws, nothing runs out of the picture, and what is drawn is what the tables say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image
from simulated import KS, curves, study

from sftrl.errors import InputError
from sftrl.figures import (
    bars,
    decision,
    k_sweep,
    ladders,
    one_run,
    passk_curves,
    redraw,
    rl_curves,
    save,
    scatter,
    strength,
    summary,
)
from sftrl.figures.curves import crossing_k
from sftrl.figures.style import BEST_RED, RL_BLUE, SAME, looks_like
from sftrl.files import read_tables, write_table
from sftrl.predict import analyse, decide, judge, pools, replay, runs_table
from sftrl.recipes import Judging

ROOT = Path(__file__).resolve().parent.parent
ALL = {"bars", "bars_loss", "passk_curves", "scatter", "strength", "k_sweep", "regrets", "summary", "decision"}


def fill(folder: Path, **kwargs) -> Path:
    """Write the tables of a simulated study, as the study's notebook would."""
    results, predictors = study(**kwargs)
    rl, sft = curves(results)
    tables = analyse(results, predictors, judging=Judging(resamples=50), splits=10, per_benchmark=False)
    tables |= {"results": results, "predictors": predictors, "rl_curves": rl, "sft_curves": sft}
    for name, table in tables.items():
        if name != "runs" and table is not None:
            write_table(table, folder / f"{name}.csv")
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """Collect the figures that `redraw` saves, and do not write them."""
    figures = {}
    monkeypatch.setattr("sftrl.figures.save", lambda figure, folder, name: figures.setdefault(name, figure))
    return figures


def cut_off(figure) -> list[str]:
    """List the words of a figure that reach out of it, after laying it out."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    unseen = set()  # matplotlib keeps ticks beyond the view; it does not draw them
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            unseen |= {t.label1 for t in axis.majorTicks if not low <= t.get_loc() <= high or not axes.get_visible()}
    found = []
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in unseen:
            box = text.get_window_extent(renderer)
            if box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1:
                found.append(text.get_text())
    return found


CASES = [
    # two families and repeated RL seeds: the usual study
    ({"runs": 5, "families": ("llama", "qwen3")}, ALL),
    # many runs with long names, one RL seed
    ({"runs": 30, "seeds": 1, "suffix": "-lr3e-4-long-responses"}, ALL),
    # no loss measured
    ({"runs": 5, "loss": False}, ALL - {"bars_loss"}),
    # two families of three runs: too few to replay the decision, and pools in which nothing can be judged
    ({"runs": 3, "families": ("llama", "qwen3")}, ALL - {"decision"}),
    # too few runs to judge anything
    ({"runs": 2}, {"bars", "bars_loss", "passk_curves"}),
    # no RL yet: a ranking
    ({"runs": 5, "seeds": 0}, {"bars", "bars_loss", "passk_curves", "decision"}),
]


@pytest.mark.parametrize(
    ("kind", "expected"), CASES, ids=["two-families", "many-runs", "no-loss", "three-runs", "two-runs", "no-rl"]
)
def test_every_study_draws_and_no_word_is_cut_off(tmp_path, drawn, kind, expected):
    assert set(redraw(fill(tmp_path, **kind))) == expected | {"sft_curves"} | (
        {"rl_curves"} if kind.get("seeds", 2) else set()
    )
    assert {name: words for name, figure in drawn.items() if (words := cut_off(figure))} == {}


def test_bars_mark_the_best_sft_run_and_say_its_number():
    results, _ = study(6)
    results.loc[results["run"] == "base", "pass@1"] += 0.5  # the base is a reference, not one of the choices
    rows = results[(results["benchmark"] == "average") & (results["run"] != "base")]
    drawn = bars(results).findobj(Text)
    for phase, mark in (("post_sft", "best SFT"), ("post_rl", "best RL")):
        best = 100 * rows[rows["phase"] == phase].groupby("run")["pass@1"].mean().max()
        assert [t.get_weight() for t in drawn if t.get_text() == f"{best:.1f}"] == ["bold"]
        assert sum(mark in t.get_text() for t in drawn) == 1


def test_ties_share_the_best():
    results, _ = study(3)
    results.loc[results["phase"] == "post_sft", "pass@1"] = 0.4
    results.loc[(results["phase"] == "post_sft") & (results["run"] == results["run"].iloc[-1]), "pass@1"] = 0.3
    words = [t.get_text() for t in bars(results).findobj(Text)]
    assert sum("best SFT" in w for w in words) == 2


def test_a_base_with_a_huge_loss_dwarfs_nothing():
    results, predictors = study(6)
    predictors.loc[predictors["run"] == "base", "generalization_loss"] = 7.8
    figure = bars(results, predictors, loss=True)
    panel = figure.axes[1]
    figure.draw_without_rendering()
    x = np.sort(
        panel.transAxes.inverted().transform(panel.lines[0].get_transform().transform(panel.lines[0].get_xydata()))[
            :, 0
        ]
    )
    assert panel.get_xscale() == "log"
    assert x[-2] - x[0] > 0.1  # the others are spread over more than a tenth of the panel
    assert len(panel.get_xticks()) >= 2


def test_k_sweep_leaves_out_what_cannot_be_judged():
    results, predictors = study(3, ("llama", "qwen3"))
    found = pools(runs_table(results, predictors)).items()
    ks = [f"pass@{k}" for k in KS]
    judged = pd.concat([judge(runs, ks, pool=name, resamples=20, splits=5) for name, runs in found])
    figure = k_sweep(judged)
    assert len(figure.axes) > 0
    for axes in figure.axes:
        ticks = axes.get_xticks()
        assert len(axes.lines[-1].get_xdata()) or len(axes.lines) > 1
        places = axes.transData.transform([(t, 0) for t in ticks])[:, 0]
        assert np.diff(places).min() > 5  # pixels: no tick on another
    with pytest.raises(InputError, match="no pool in which"):
        k_sweep(judged[judged["pool"] == "all/llama"])


def test_a_negative_leave_one_out_is_marked():
    results, predictors = study(8)
    judged = judge(runs_table(results, predictors), ["pass@1", "pass@64"], resamples=20, splits=5)
    figure = strength(judged.assign(loo_cod=[-0.4, 0.9]))
    marks = {line.get_marker(): line.get_xdata() for line in figure.axes[0].lines}
    assert np.isnan(marks["D"]).tolist() == [True, False]
    assert marks["<"][0] < 0
    assert np.isnan(marks["<"][1])
    assert "below 0" in [t.get_text() for t in figure.findobj(Text)]


def test_the_same_intervals_are_drawn_as_are_written():
    results, predictors = study(8, seeds=1, seed_sd=0.1)
    judged = judge(runs_table(results, predictors), ["pass@1", "generalization_loss"], resamples=20, splits=5)
    rows = judged.set_index("predictor")
    panel = strength(judged, predictors=["pass@1", "generalization_loss"]).axes[1]
    drawn = panel.collections[0].get_segments()
    expected = [(rows.loc["pass@1", "spearman_low"], rows.loc["pass@1", "spearman_high"])]
    expected += [tuple(-rows.loc["generalization_loss", ["spearman_high", "spearman_low"]])]  # its sign is flipped
    assert [tuple(segment[:, 0]) for segment in drawn] == [pytest.approx(ends) for ends in expected]


def test_scatter_shows_shares_in_percent():
    results, predictors = study(8)
    runs = runs_table(results, predictors)
    figure = scatter(runs, judge(runs, ["pass@1", "entropy"], resamples=20, splits=5))
    share, plain = figure.axes
    assert share.get_xlabel() == "Pass@1, %"
    assert plain.get_xlabel() == "entropy, nats/token"
    assert np.allclose(np.sort(share.lines[1].get_xdata()), np.sort(100 * runs["pass@1"]))
    assert np.allclose(np.sort(plain.lines[1].get_xdata()), np.sort(runs["entropy"]))


@pytest.mark.parametrize(("study", "families"), [("cpu", 4), ("controls", 15)])
def test_no_word_of_the_committed_ladders_is_cut_off(study, families):
    tables = read_tables(ROOT / "figures" / study)
    assert tables["pairs"]["family"].nunique() == families
    assert cut_off(ladders(tables["pairs"], tables["sharpened"])) == []


def test_the_families_of_a_summary_are_named_beside_the_panel_where_they_are_many():
    tables = read_tables(ROOT / "figures" / "choices")
    runs = runs_table(tables["results"], tables["predictors"])
    figure = summary(runs, tables["judged"], tables["regret"], tables["ceiling"])
    assert cut_off(figure) == []
    figure.draw_without_rendering()
    scores, legend = figure.axes[0], figure.axes[0].get_legend()
    assert len(legend.get_texts()) == 2 + 8
    assert legend.get_window_extent().x0 >= scores.get_window_extent().x1


def test_rl_steps_are_whole_numbers_and_curves_are_means_beside_each_seed():
    results, _ = study(2, seeds=2)
    figure = rl_curves(curves(results, steps=2)[0])
    figure.draw_without_rendering()
    assert all(float(t).is_integer() for t in figure.axes[0].get_xticks())
    mean, *_, one, other = figure.axes[0].lines
    assert np.allclose(mean.get_ydata(), (one.get_ydata() + other.get_ydata()) / 2)
    assert not np.allclose(one.get_ydata(), other.get_ydata())
    assert rl_curves(curves(results, steps=120)[0]).axes[0].lines[0].get_xdata()[-1] == 120
    alone = rl_curves(curves(study(2, seeds=1)[0], steps=2)[0]).axes[0]
    assert len(alone.lines) == len(figure.axes[0].lines) - 2


@pytest.mark.parametrize("steps", [3, 200])
def test_one_run_has_a_panel_for_each_quantity_that_was_logged(steps):
    step = np.arange(1, steps + 1)
    log = pd.DataFrame(
        {"step": step, "reward": 0.5, "entropy": 1 / step, "mean_length": 40.0 + step, "grad_norm": np.nan}
    )
    figure = one_run(pd.DataFrame(log))
    shown = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert shown == ["mean reward", "entropy, nats/token", "response length, tokens"]
    assert cut_off(figure) == []


def test_decision_shows_chances_and_who_cannot_be_told_apart():
    runs = runs_table(*study(12))
    decided = decide(runs[:6], runs[6:], draws=2000)
    rows = decided[decided["predictor"] == "combined"]
    figure = decision(decided)
    words = [t.get_text() for t in figure.findobj(Text)]
    assert f"{rows['p_best'].iloc[0]:.0%}" in words
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == rows["run"].tolist()
    colours = [
        line.get_color() for line in figure.findobj(Line2D) if line.get_marker() == "o" and len(line.get_xdata()) == 1
    ]
    assert colours[0] == BEST_RED
    assert [c == RL_BLUE for c in colours[1:]] == (~rows["apart"].iloc[1:]).tolist()


def test_a_replay_shows_what_was_predicted_and_what_came_of_it_and_recommends_nothing():
    runs = runs_table(*study(12))
    replayed = replay(runs, draws=2000)
    rows = replayed[replayed["predictor"] == "combined"]
    figure = decision(replayed)
    lines = figure.axes[0].get_lines()
    assert lines[-1].get_xdata() == pytest.approx(100 * rows["post_rl"])
    assert BEST_RED not in {line.get_color() for line in lines}
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "predicted from the others",
        "after RL, as measured",
    ]
    both = decision(pd.concat([replayed, decide(runs.assign(family="another"))]))
    assert len(both.legends[0].get_texts()) == 4


def test_bars_without_intervals_or_rl_and_with_a_missing_loss():
    results, predictors = study(4)
    plain = results[["family", "run", "phase", "benchmark", "pass@1"]]
    assert cut_off(bars(plain[plain["phase"] == "post_sft"])) == []
    predictors.loc[2, "generalization_loss"] = np.nan
    assert "not measured" in [t.get_text() for t in bars(plain, predictors, loss=True).findobj(Text)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([0.1, 0.5, 0.9], [0.3, 0.5, 0.6], 4),  # meet exactly at a k
        ([0.1, 0.4, 0.9], [0.3, 0.6, 0.7], 8),  # half way between 4 and 16 on the log scale
        ([0.1, 0.2, 0.3], [0.2, 0.3, 0.4], None),  # RL stays ahead
        ([0.2, 0.3, 0.4], [0.1, 0.2, 0.3], None),  # RL never was
    ],
)
def test_crossing_of_curves(before, after, expected):
    assert crossing_k([1, 4, 16], np.array(before), np.array(after)) == (expected and pytest.approx(expected))


def test_absent_tables_and_columns_are_refused(tmp_path):
    results, _ = study(4)
    with pytest.raises(InputError, match="no table"):
        redraw(tmp_path)
    with pytest.raises(InputError, match="no benchmark 'aime'"):
        bars(results, benchmark="aime")
    with pytest.raises(InputError, match="generalization_loss"):
        bars(results, loss=True)
    with pytest.raises(InputError, match="'pass@1'"):
        passk_curves(results.drop(columns="pass@1"))


def test_a_picture_that_looks_the_same_is_left_as_it_is(tmp_path):
    results, _ = study(4)
    png, pdf = save(bars(results), tmp_path, "bars")
    first = png.read_bytes(), pdf.read_bytes()
    results["pass@1"] *= 1 + 1e-12  # as another machine would have it
    save(bars(results), tmp_path, "bars")
    assert (png.read_bytes(), pdf.read_bytes()) == first
    results["pass@1"] *= 1.01
    save(bars(results), tmp_path, "bars")
    assert png.read_bytes() != first[0]
    assert pdf.read_bytes() != first[1]


@pytest.mark.parametrize("shift", [0, SAME, SAME + 1])
def test_pictures_are_compared_pixel_by_pixel(shift):
    one = np.full((20, 30, 3), 100, np.uint8)
    other = one.copy()
    other[3, 4, 1] += shift
    assert looks_like(Image.fromarray(one), Image.fromarray(other)) == (shift <= SAME)
    assert not looks_like(Image.fromarray(one), Image.fromarray(one[:-1]))


@pytest.mark.parametrize("name", ["paper", "quick"])
def test_committed_figures_are_those_of_the_committed_tables(tmp_path, name, monkeypatch):
    """Within a tolerance: last digits, which differ between machines, may move an edge by a pixel, and no more."""
    folder = ROOT / "figures" / name
    figures = {}
    monkeypatch.setattr("sftrl.figures.save", lambda figure, folder, name: figures.setdefault(name, figure))
    redraw(folder)
    for drawn, figure in figures.items():
        png, _ = save(figure, tmp_path, drawn)
        one, other = (np.asarray(Image.open(p).convert("RGB"), int) for p in (png, folder / png.name))
        assert one.shape == other.shape, drawn
        assert np.mean(np.abs(one - other).max(axis=2) > SAME) < 2e-4, drawn
    figures.clear()
    redraw(folder)  # anew, since a figure that was saved is laid out for good
    assert {drawn: words for drawn, figure in figures.items() if (words := cut_off(figure))} == {}


def test_saved_figures_hold_no_date(tmp_path):
    for path in save(bars(study(4)[0]), tmp_path, "bars"):
        assert b"Date" not in path.read_bytes()
        assert b"matplotlib" not in path.read_bytes().lower()
