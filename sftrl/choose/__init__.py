"""Which SFT checkpoint to take to RL, found by starting RL on several: for a tenth of the cost of running it on all.

    race = Race(candidates, horizon=120, problems=ids, budget=0.10, margin=0.01, log="race.json")
    while job := race.ask():                               # a run, a step, problems, samples: run RL, then probe
        race.tell(job, counts=counts, probe_tokens=probing, tokens=rollouts)
    race.choice                                            # run, p_best, expected_regret, spent, why
    replay(finished(probes, results, curves, rollouts=128))  # the same on paper, beside other ways to choose

The parts: `posterior` (what a curve may become, given its probes), `racing` (what to run next), `policies` (other ways
to choose), `replays` (all of them, on finished studies). docs/choose.md is the page for who has eight checkpoints and a
week.
"""

from sftrl.choose.posterior import learn, probed
from sftrl.choose.racing import Choice, Job, Race
from sftrl.choose.replays import by_predictor, cheapest, finished, measuring, replay

__all__ = ["Choice", "Job", "Race", "by_predictor", "cheapest", "finished", "learn", "measuring", "probed", "replay"]
