"""Figures from tables: every study draws, nothing runs out of the picture, the same tables give the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from simulated import curves, study

from sftrl.errors import InputError
from sftrl.figures import bars, passk_curves, redraw, save
from sftrl.figures.curves import crossing_k
from sftrl.files import write_table
from sftrl.predict import analyse
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
        if name != "runs":
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
    # too few runs to judge anything
    ({"runs": 2}, {"bars", "bars_loss", "passk_curves"}),
]


@pytest.mark.parametrize(("kind", "expected"), CASES, ids=["two-families", "many-runs", "no-loss", "two-runs"])
def test_every_study_draws_and_no_word_is_cut_off(tmp_path, drawn, kind, expected):
    assert set(redraw(fill(tmp_path, **kind))) == expected | {"rl_curves", "sft_curves"}
    assert {name: words for name, figure in drawn.items() if (words := cut_off(figure))} == {}


def test_bars_mark_the_best_and_say_its_number():
    results, _ = study(6)
    rows = results[results["benchmark"] == "average"]
    words = [t.get_text() for t in bars(results).findobj(Text)]
    for phase, mark in (("post_sft", "best SFT"), ("post_rl", "best RL")):
        best = 100 * rows[rows["phase"] == phase].groupby("run")["pass@1"].mean().max()
        assert f"{best:.1f}" in words
        assert any(mark in w for w in words)


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


def test_the_same_tables_give_the_same_bytes_in_another_process(tmp_path):
    fill(tmp_path, runs=4)
    redraw(tmp_path)
    first = {p.name: p.read_bytes() for p in tmp_path.glob("*.p[nd]*")}
    assert len(first) == 2 * (len(ALL) + 2)
    environment = os.environ | {"PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1"}
    command = [sys.executable, "-m", "sftrl.figures", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True)
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.p[nd]*")} == first


def test_every_figure_of_the_paper_is_committed_and_whole(drawn):
    folder = ROOT / "figures" / "paper"
    for name in redraw(folder):
        assert (folder / f"{name}.png").exists(), f"{name} is not committed"
        assert cut_off(drawn[name]) == []


def test_saved_figures_hold_no_date(tmp_path):
    for path in save(bars(study(4)[0]), tmp_path, "bars"):
        assert b"Date" not in path.read_bytes()
        assert b"matplotlib" not in path.read_bytes().lower()
