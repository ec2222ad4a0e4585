"""The race of `sftrl.choose` and its posterior: right where the model is, cautious where it is not, resumable."""

import json
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from races import AT, KINDS, ROLLOUTS, finished, simulate

from sftrl.choose import Race, posterior
from sftrl.choose.policies import POLICIES, race
from sftrl.errors import InputError
from sftrl.predict import decide

PROBLEMS = [f"p{j}" for j in range(20)]


def candidates(n: int = 4) -> pd.DataFrame:
    return pd.DataFrame({"family": "f", "run": [f"r{i}" for i in range(n)]})


def contest(n: int = 4, **how) -> Race:
    return Race(candidates(n), 120, PROBLEMS, **({"at": AT[1:], "rollouts": ROLLOUTS} | how))


def play(one: Race, score, until: int = 10**6) -> list:
    """Answer a race's jobs by `score(run, step)`, a share; return the jobs."""
    jobs, where = [], {}
    while (job := one.ask()) and len(jobs) < until:
        right = round(score(job.run, job.until_step) * len(job.problems) * job.samples)
        counts = dict.fromkeys(job.problems, 0)
        for k in range(right):
            counts[job.problems[k % len(job.problems)]] += 1
        steps = job.until_step - where.get(job.run, 0)
        one.tell(job, counts=counts, probe_tokens=40.0 * job.samples * 20, tokens=40.0 * ROLLOUTS * steps)
        where[job.run] = job.until_step
        jobs.append(job)
    return jobs


class TestBelief:
    def family_of_the_model(self, rng, t, n=6, noise=0.15):
        """Draw a family from the model's own prior: what is seen of it, and where it ends."""
        gain, slope, spread = (grid[rng.integers(len(posterior.FAMILY[0]))] for grid in posterior.FAMILY)
        rise = rng.choice(posterior.RISE.shape[1], n, p=posterior.RISE[rng.integers(len(posterior.USUAL))])
        start = rng.normal(-1, 1, n)
        end = -1 + gain + slope * (start + 1) + spread * rng.standard_normal(n)
        flat = posterior.FLAT[rise]
        end[flat] = start[flat] + posterior.FLAT_SD * rng.standard_normal(flat.sum())
        h = posterior.rises(t)[rise]
        z = start[:, None] * (1 - h) + end[:, None] * h + noise * rng.standard_normal(h.shape)
        return [posterior.Probed(t, row, np.full(len(t), noise**2)) for row in z], 1 / (1 + np.exp(-end))

    def test_chances_and_intervals_are_right_where_the_model_is(self):
        rng, said, held = np.random.default_rng(0), [], []
        for number in range(150):
            probes, end = self.family_of_the_model(rng, np.array([0, 0.1, 0.3]))
            drawn = posterior.draw(probes, draws=400, seed=number).score
            low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
            held.append((low <= end) & (end <= high))
            chance = np.bincount(drawn.argmax(axis=1), minlength=len(end)) / len(drawn)
            regret = (drawn.max(axis=1) - drawn[:, drawn.mean(axis=0).argmax()]).mean()
            chosen = drawn.mean(axis=0).argmax()
            said.append((chance[chosen], end.argmax() == chosen, regret, end.max() - end[chosen]))
        p_best, hit, expected, regret = np.mean(said, axis=0)
        print(f"p_best {p_best:.3f}, best {hit:.3f}; regret expected {expected:.4f}, found {regret:.4f}")
        assert np.mean(held) == pytest.approx(0.90, abs=0.025)
        assert p_best == pytest.approx(hit, abs=0.08)  # two standard errors of 150 families
        assert expected == pytest.approx(regret, abs=0.008)

    def test_more_probes_leave_less_doubt_and_come_to_the_end(self):
        rng = np.random.default_rng(1)
        t = np.array([0, 0.1, 0.3, 0.6, 1.0])
        probes, end = self.family_of_the_model(rng, t, noise=0.05)
        cut = [[posterior.Probed(p.t[:k], p.z[:k], p.noise[:k]) for p in probes] for k in (1, 3, 5)]
        first, middle, last = (posterior.draw(part).score for part in cut)
        assert first.std(axis=0).mean() > middle.std(axis=0).mean() > last.std(axis=0).mean()
        assert last.mean(axis=0) == pytest.approx(end, abs=0.05)

    def test_rises_go_from_0_to_1(self):
        t = np.linspace(0, 1, 50)
        h = posterior.rises(t)
        assert h[:, 0] == pytest.approx(0)
        assert h[:, -1] == pytest.approx(1)
        assert (np.diff(h, axis=1) >= -1e-12).all()
        assert posterior.RISE.sum(axis=1) == pytest.approx(1)

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.integers(0, 8), min_size=6, max_size=6), st.integers(1, 8))
    def test_counts_become_finite_logits_that_follow_them(self, counts, samples):
        counts = np.minimum(np.array([counts, counts]), samples)
        more = counts.copy()
        more[1, 0] += 1
        one = posterior.probed(np.array([0, 0.5]), counts, samples)
        assert np.isfinite(one.z).all()
        assert (one.noise > 0).all()
        if more[1, 0] <= samples:
            assert posterior.probed(np.array([0, 0.5]), more, samples).z[1] > one.z[1]

    def test_suits_finds_what_problems_do_not_share(self):
        rng = np.random.default_rng(0)
        common = rng.normal(0, 1.5, 200)
        own = 0.8 * rng.normal(size=(6, 200))
        alike, unlike = (1 / (1 + np.exp(-(common + x * own))) for x in (0, 1))
        truth = (unlike - unlike.mean(axis=1, keepdims=True) - unlike.mean(axis=0) + unlike.mean()).var() * 6 / 5 / 200
        found = [posterior.suits(rng.binomial(8, unlike), 8) for _ in range(20)]
        assert np.mean(found) == pytest.approx(truth, rel=0.1)
        assert posterior.suits(rng.binomial(8, alike), 8) < 0.1 * truth

    def test_another_family_teaches_how_fast_they_rise(self):
        quick = [self.curve(a, 0.05) for a in (-2.0, -1.5, -1.0, -0.5)]
        prior = posterior.learn([quick])
        assert prior.sum() == pytest.approx(1)
        assert prior.sum(axis=0)[:2].sum() > posterior.UNIFORM.sum(axis=0)[:2].sum() + 0.2
        early = [posterior.Probed(p.t[:2], p.z[:2], p.noise[:2]) for p in quick]
        assert (
            posterior.draw(early, prior=prior).score.std(axis=0).mean() < posterior.draw(early).score.std(axis=0).mean()
        )

    def curve(self, start: float, tau: float) -> posterior.Probed:
        t = np.array([0, 0.1, 0.2, 0.5, 1.0])
        return posterior.Probed(t, start + 1.0 * (1 - np.exp(-t / tau)), np.full(5, 0.05**2))


class TestRace:
    def test_every_candidate_is_measured_first_and_the_best_is_found(self):
        one = contest(budget=0.3, margin=0.005)
        ends = {"r0": 0.5, "r1": 0.45, "r2": 0.7, "r3": 0.3}
        starts = {"r0": 0.4, "r1": 0.38, "r2": 0.3, "r3": 0.1}
        jobs = play(one, lambda run, step: ends[run] + (starts[run] - ends[run]) * np.exp(-step / 12))
        assert [(job.run, job.until_step) for job in jobs[:4]] == [(f"r{i}", 0) for i in range(4)]
        assert one.choice.run == "r2"
        assert one.choice.spent <= 0.3
        table = one.table()
        assert table["p_best"].sum() == pytest.approx(1)
        assert table["run"].iloc[0] == "r2"

    def test_no_choice_before_all_are_measured(self):
        with pytest.raises(InputError, match="r0 has not been probed before RL"):
            contest().choice  # noqa: B018

    def test_a_clear_case_stops_within_the_margin_and_spends_little(self):
        one = contest(2, margin=0.02)
        play(one, lambda run, step: {"r0": 0.9, "r1": 0.05}[run])
        assert one.choice.run == "r0"
        assert "within the margin" in one.choice.why
        assert one.choice.spent < 0.05

    def test_the_same_job_until_it_is_told(self):
        one = contest()
        play(one, lambda run, step: 0.3, until=5)
        assert one.ask() == one.ask()

    def test_killed_anywhere_it_goes_on_from_its_log(self, tmp_path):
        def score(run, step):
            return 0.2 + 0.1 * int(run[1]) * step / (step + 20)

        whole = contest()
        jobs = play(whole, score)
        for cut in (0, 2, 5, len(jobs) - 1):
            log = tmp_path / f"{cut}.json"
            play(contest(log=log), score, until=cut)
            again = contest(log=log)
            rest = []
            where = {job.run: job.until_step for job in jobs[:cut]}
            while job := again.ask():
                replayed = whole.ledger.told[cut + len(rest)]
                steps = job.until_step - where.get(job.run, 0)
                counts = dict(zip(again.problems, replayed["counts"], strict=True))
                again.tell(job, counts=counts, probe_tokens=3200.0, tokens=40.0 * ROLLOUTS * steps)
                where[job.run] = job.until_step
                rest.append(job)
            assert jobs[:cut] + rest == jobs
            assert again.choice == whole.choice

    def test_a_log_of_another_race_is_refused(self, tmp_path):
        play(contest(log=tmp_path / "log.json"), lambda run, step: 0.3, until=1)
        with pytest.raises(InputError, match=r"log\.json: a race with samples = 4, now 2"):
            contest(samples=2, log=tmp_path / "log.json")
        contest(budget=0.2, log=tmp_path / "log.json")  # more may be spent on the same race

    def test_a_candidate_that_died_is_neither_asked_for_nor_chosen(self):
        one = contest()
        play(one, lambda run, step: 0.2 + 0.1 * int(run[1]), until=4)
        assert one.choice.run == "r3"
        one.died("r3", "loss is nan")
        rest = play(one, lambda run, step: 0.3)
        assert "r3" not in {one.choice.run, *(job.run for job in rest)}
        with pytest.raises(InputError, match="r3 at step 120: this candidate has died"):
            one.tell(rest[0]._replace(run="r3", until_step=120), counts={}, probe_tokens=1)
        one.died("r0", "full disk")
        one.died("r1", "full disk")
        with pytest.raises(InputError, match=r"r2: the last candidate has died \(lost\)"):
            one.died("r2", "lost")

    def test_a_run_without_a_signal_is_dropped(self):
        one = contest(2, margin=0.0)
        play(one, lambda run, step: {"r0": 0.0, "r1": 0.1}[run], until=2)
        job = one.ask()
        nothing = dict.fromkeys(PROBLEMS, 0)
        one.tell(job._replace(run="r0", until_step=6), counts=nothing, probe_tokens=3200, tokens=1, zero_advantage=0.99)
        assert one.ask() is None
        assert (one.choice.run, one.choice.why) == ("r1", "no other candidate is left")
        assert one.table().set_index("run").loc["r0", "note"] == "no signal"

    def test_the_budget_is_kept(self):
        for seed in range(6):
            family = finished(simulate(KINDS[seed % 5], seed), 4, seed)
            for budget in (0.03, 0.1):
                _, spent = race(family, budget)
                assert spent <= 1.1 * budget

    def test_an_ask_of_20_candidates_takes_less_than_a_second(self):
        family, took = finished(simulate("mixed", 0, runs=20), 4, 0), []
        table = pd.DataFrame({"family": "f", "run": family.runs})
        one = Race(table, 120, family.problems, at=AT[1:])
        for i in range(20):
            job = one.ask()
            counts = dict(zip(family.problems, family.counts[i, 0], strict=True))
            one.tell(job, counts=counts, probe_tokens=family.probe_tokens[i, 0])
        for _ in range(3):
            one._believed = None
            start = time.process_time()
            one.ask()
            took.append(time.process_time() - start)
        print(f"ask: {min(took):.3f} s of a CPU")
        assert min(took) < 1

    def test_before_any_probe_it_believes_what_decide_says(self):
        """With calibration runs, and candidates whose probes are alike, the chances are `decide`'s."""
        rng = np.random.default_rng(3)
        value = rng.uniform(0.1, 0.5, 14)
        runs = candidates(14).assign(**{"pass@1": value, "generalization_loss": 1 - value + rng.normal(0, 0.1, 14)})
        runs["post_rl"] = 0.3 + 0.6 * value + rng.normal(0, 0.02, 14)
        few, known = runs.iloc[:6].drop(columns="post_rl"), runs.iloc[6:]
        one = Race(few, 120, PROBLEMS, calibration=known, samples=4)
        play(one, lambda run, step: 0.3, until=6)
        said = decide(few, known)
        said = said[said["predictor"] == said["predictor"].iloc[-1]].set_index("run")
        found = one.table().set_index("run")
        assert found["p_best"].to_dict() == pytest.approx(said["p_best"].to_dict(), abs=0.05)
        assert found["predicted"].to_dict() == pytest.approx(said["predicted"].to_dict(), abs=0.02)

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"candidates": candidates().assign(family=list("ffgg"))}, r"candidates of one family, not \['f', 'g'\]"),
            ({"candidates": candidates(1)}, "1 candidate: nothing to choose"),
            ({"candidates": pd.concat([candidates(), candidates(1)])}, "candidate 'r0' stands twice"),
            ({"candidates": candidates().drop(columns="run")}, "candidates: no column 'run'"),
            ({"problems": ["a", "a"]}, "problems: needs two or more, each once"),
            ({"at": (10, 5)}, r"at: \[10, 5\] are not ascending steps"),
            ({"at": (10, 130)}, "from 1 to the horizon, 120"),
            ({"budget": 0.001}, r"budget 0.001 cannot pay for probing before RL: 20 problems of 4 samples .* 0.003"),
            ({"calibration": candidates().assign(family="g", post_rl=0.3)}, "no run of family 'f' has a post_rl"),
            ({"budget": 0.0}, "budget 0.0 and margin 0.01 are shares above 0"),
        ],
    )
    def test_bad_settings_are_named(self, how, message):
        arguments = {"candidates": candidates(), "horizon": 120, "problems": PROBLEMS} | how
        with pytest.raises(InputError, match=message):
            Race(**arguments)

    @pytest.mark.parametrize(
        ("job", "how", "message"),
        [
            ({"run": "other"}, {}, "other at step 12: no candidate of this race"),
            ({"until_step": 0}, {}, "r0 at step 0: its last probe was at step 6"),
            ({"until_step": 200}, {}, "the horizon is 120"),
            ({"run": "r1"}, {}, "r1 at step 12: it has not been probed before RL"),
            ({"samples": 8}, {}, "8 samples of each problem, and the race takes 4"),
            ({}, {"counts": dict.fromkeys(PROBLEMS[1:], 1)}, "the same problems, and p0 is not in both"),
            ({}, {"counts": dict.fromkeys([*PROBLEMS, "new"], 1)}, "the same problems, and new is not in both"),
            ({}, {"counts": dict.fromkeys(PROBLEMS, 5)}, "5 correct of 4 samples of p0"),
            ({}, {"counts": dict.fromkeys(PROBLEMS, 1.5)}, "1.5 correct of 4 samples of p0"),
            ({}, {"probe_tokens": 0}, "tokens 10 and probe_tokens 0"),
            ({}, {"tokens": float("nan")}, "tokens nan"),
        ],
    )
    def test_a_bad_answer_is_named_and_changes_nothing(self, job, how, message, tmp_path):
        one = contest(log=tmp_path / "log.json")
        first = one.ask()
        one.tell(first, counts=dict.fromkeys(PROBLEMS, 1), probe_tokens=100)
        one.tell(first._replace(until_step=6), counts=dict.fromkeys(PROBLEMS, 1), probe_tokens=100, tokens=10)
        before = json.loads((tmp_path / "log.json").read_text())
        answer = {"counts": dict.fromkeys(PROBLEMS, 1), "probe_tokens": 100, "tokens": 10} | how
        with pytest.raises(InputError, match=message):
            one.tell(first._replace(**{"until_step": 12, **job}), **answer)
        assert json.loads((tmp_path / "log.json").read_text()) == before


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_takes_a_run_and_tells_what_it_spent(name):
    family = finished(simulate("saturating", 1), 4, 1)
    chosen, spent = POLICIES[name](family, 0.1)
    assert 0 <= chosen < 8
    if name == "top two":
        assert spent > 0.1
    else:
        assert 0 <= spent <= 0.11


def test_perfect_sight_has_no_regret():
    """Alike before RL, and then every probe shows the outcome: every policy that looks finds the best."""
    family = finished(simulate("crossing", 2), 4, 2)
    order = np.argsort(np.argsort(family.outcome))
    counts = np.zeros_like(family.counts)
    counts[:, 0, :6] = 4
    for i in range(8):
        counts[i, 1:, : 6 * (order[i] + 1)] = 4
    sharp = replace(family, counts=counts)
    for name in ("uniform", "halving", "race", "extrapolation"):
        assert POLICIES[name](sharp, 0.15)[0] == family.outcome.argmax(), name
