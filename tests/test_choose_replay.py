"""Replays of finished studies: from a study's tables to regret against tokens."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from races import AT, ROLLOUTS, Simulated, finished, simulate

from sftrl.choose import by_predictor, cheapest, measuring, replay
from sftrl.choose import finished as read
from sftrl.choose.replays import subset
from sftrl.errors import InputError
from sftrl.figures import redraw
from sftrl.files import write_table
from sftrl.tables import SAMPLED


def tables(family: Simulated, name: str = "tiny", seeds: int = 1) -> dict[str, pd.DataFrame]:
    """Write a simulated family as a study's tables."""
    probes, results, curves = [], [], []
    for seed in range(seeds):
        one = finished(family, 8, seed)
        for i, run in enumerate(one.runs):
            about = {"family": name, "run": run, "rl_seed": seed}
            for k, step in enumerate(AT):
                counted = dict(zip((f"rl/{p}" for p in one.problems), one.counts[i, k], strict=True))
                probes.append(about | {"step": step, "samples": 8, "tokens": one.probe_tokens[i, k]} | counted)
            score = {"phase": "post_rl", "benchmark": "average", "pass@1": one.outcome[i] + 0.01 * seed}
            results.append(about | score)
            curves.append(pd.DataFrame({**about, "step": np.arange(1, AT[-1] + 1), "mean_length": family.tokens[i]}))
    return {"probes": pd.DataFrame(probes), "results": pd.DataFrame(results), "curves": pd.concat(curves)}


class TestTables:
    def test_they_become_what_a_race_could_have_seen(self):
        family = simulate("saturating", 0, runs=3)
        (found,) = read(**tables(family, seeds=2), rollouts=ROLLOUTS)
        expected = finished(family, 8, 0)
        assert found.runs == ["r0/0", "r1/0", "r2/0", "r0/1", "r1/1", "r2/1"]
        assert (found.counts[:3] == expected.counts).all()
        assert found.outcome == pytest.approx([*family.end, *(family.end + 0.01)])
        assert found.rl_tokens[:3] == pytest.approx(expected.rl_tokens)
        assert found.probe_tokens[:3] == pytest.approx(expected.probe_tokens)

    def test_without_results_and_curves_the_probes_stand_for_them(self):
        family = simulate("saturating", 0, runs=3)
        (found,) = read(tables(family)["probes"], rollouts=ROLLOUTS)
        expected = finished(family, 8, 0)
        assert found.outcome == pytest.approx(expected.score[:, -1])
        assert found.rl_tokens == pytest.approx(expected.rl_tokens)

    def test_the_base_is_no_candidate(self):
        made = tables(simulate("saturating", 0, runs=3))
        made["probes"]["run"] = made["probes"]["run"].replace("r1", "base")
        (found,) = read(made["probes"], rollouts=ROLLOUTS)
        assert found.runs == ["r0/0", "r2/0"]

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda t: t["probes"].pop("tokens"), "rl_probes: no column 'tokens'"),
            (lambda t: t["probes"].drop(index=3, inplace=True), "tiny r0 seed 0: probes at .* not"),
            (lambda t: t["probes"].__setitem__("rl/p7", np.nan), "tiny r0 seed 0: nothing for problem rl/p7"),
            (lambda t: t["results"].drop(index=1, inplace=True), "r1 seed 0: 0 rows of the score after RL"),
            (lambda t: t.update(curves=t["curves"].query("step < 50")), "tiny r0 seed 0: no row of step 120"),
            (lambda t: t["probes"].loc.__setitem__((2, "samples"), 4), "probes of .* samples: take one"),
        ],
    )
    def test_what_is_missing_is_named(self, spoil, message):
        made = tables(simulate("saturating", 0, runs=3))
        spoil(made)
        with pytest.raises(InputError, match=message):
            read(**made, rollouts=ROLLOUTS)

    def test_a_subset_has_one_seed_of_each_run_and_fewer_samples(self):
        (whole,) = read(**tables(simulate("late", 1, runs=6), seeds=2), rollouts=ROLLOUTS)
        one = subset(whole, 4, 2, np.random.default_rng(0))
        assert len({name.partition("/")[0] for name in one.runs}) == 4
        assert one.counts.max() <= 2
        kept = [whole.runs.index(name) for name in one.runs]
        assert one.probe_tokens == pytest.approx(whole.probe_tokens[kept] / 4)
        assert one.score.mean() == pytest.approx(whole.score[kept].mean(), abs=0.02)


class TestReplay:
    def test_policies_meet_the_same_subsets(self):
        families = [read(**tables(simulate("dead", s), f"f{s}"), rollouts=ROLLOUTS)[0] for s in (0, 1)]
        table = replay(families, budgets=(0.1,), subsets=6, candidates=4)
        assert len(table) == 2 * 7
        by = table.set_index(["family", "policy"])
        for name in ("f0", "f1"):
            assert by.loc[(name, "Pass@1"), "better_than_pass1"] == 0
            gap = by.loc[(name, "Pass@1"), "regret"] - by.loc[(name, "race"), "regret"]
            assert by.loc[(name, "race"), "better_than_pass1"] == pytest.approx(gap, abs=1e-7)
            assert 0 < by.loc[(name, "race"), "p_best"] <= 1
        assert (table["regret"] >= 0).all()
        again = replay(families, budgets=(0.1,), subsets=6, candidates=4, policies=("halving", "Pass@1"))
        both = again.merge(table, on=["family", "policy"], suffixes=("", "_then"))
        assert both["regret"].tolist() == both["regret_then"].tolist()

    def test_more_measuring_costs_more_and_errs_less(self):
        families = [finished(simulate("saturating", s, runs=12), 16, s) for s in (0, 3)]
        table = measuring(families, samples=(1, 16), problems=(5, 60), subsets=200)
        mean = table.groupby(["problems", "samples"])[["regret", "spent"]].mean()
        assert mean.loc[(5, 1), "regret"] > mean.loc[(60, 16), "regret"]
        assert mean.loc[(60, 16), "spent"] == pytest.approx(mean.loc[(5, 1), "spent"] * 12 * 16, rel=1e-4)
        enough = cheapest(table, regret=table["regret"].max())
        assert enough["spent"].tolist() == table.groupby("family", sort=False)["spent"].min().tolist()
        assert cheapest(table, regret=-1.0).empty


def test_choosing_by_a_metric_costs_what_measuring_it_did():
    families = [finished(simulate("saturating", s, runs=12), 16, s) for s in (0, 3)]
    families = [replace(one, family=f"f{i}") for i, one in enumerate(families)]
    runs = pd.concat([
        pd.DataFrame({"family": one.family, "run": one.runs, "pass@1": one.outcome, "pass@64": -one.outcome})
        for one in families
    ])  # fmt: skip
    runs = runs.assign(**{SAMPLED: 5e3, "generalization_loss": 1.0, "entropy": 1.0})
    table = by_predictor(families, runs, subsets=20).set_index(["family", "predictor"])
    assert set(table.index.get_level_values("predictor")) == {"pass@1", "pass@64", "generalization_loss"}
    for one in families:
        assert table.loc[(one.family, "pass@1"), "regret"] == 0  # it is the outcome
        assert table.loc[(one.family, "pass@64"), "regret"] > 0.01  # and this its opposite
        spent = 5e3 / one.rl_tokens[:, -1].mean()
        assert table.loc[(one.family, "pass@1"), "spent"] == pytest.approx(spent, rel=1e-6)
        assert np.isnan(table.loc[(one.family, "generalization_loss"), "spent"])


def test_the_figure_is_drawn_from_the_tables(tmp_path):
    families = [replace(finished(simulate("mixed", s), 8, s), family=f"f{s}") for s in (0, 1, 2)]
    write_table(replay(families, budgets=(0.05, 0.1), subsets=2), tmp_path / "choose.csv")
    write_table(measuring(families, subsets=5), tmp_path / "measuring.csv")
    assert redraw(tmp_path) == ["frontier"]
    assert (tmp_path / "frontier.png").stat().st_size > 10_000
