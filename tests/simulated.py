"""Simulated studies for the tests of `predict` and `figures`: the tables of a study, with a relation that is known."""

import numpy as np
import pandas as pd

KS = (1, 2, 4, 8, 16, 32, 64)


def study(
    runs: int = 12,
    families: tuple[str, ...] = ("llama",),
    seeds: int = 2,
    *,
    loss: bool = True,
    seed_sd: float = 0.02,
    suffix: str = "",
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make `results.csv` and `predictors.csv` of a study in which Pass@64, not Pass@1, tells the result of RL."""
    rng = np.random.default_rng(seed)
    results, predictors = [], []
    selections = ["random", "random", "random", "longest", "shortest", "mixed"]
    for family in families:
        described = [("base", "none", 0, 0)]
        for i in range(runs):
            selection, examples, epochs = selections[i % 6], (100, 500, 1000, 4000)[i % 4], 1 + i // 4
            described.append((f"{selection}-{examples}-{epochs}ep-{i}{suffix}", selection, examples, epochs))
        for run, selection, examples, epochs in described:
            first, last = rng.uniform(0.1, 0.5), rng.uniform(0.6, 0.95)
            about = {"family": family, "run": run, "selection": selection, "examples": examples, "epochs": epochs}
            about["learning_rate"] = 1e-3
            results += _rows(about, "post_sft", np.nan, first, last)
            for rl_seed in range(seeds):
                after = np.clip(0.8 * last - 0.1 + rng.normal(0, seed_sd), 0, 1)
                results += _rows(about, "post_rl", rl_seed, after, min(0.99, after + 0.1))
            row = {"family": family, "run": run, "entropy": rng.uniform(0.1, 0.3), "sft_tokens": 40 * examples * epochs}
            if loss:
                row["generalization_loss"] = 1 - last + rng.normal(0, 0.05)
            predictors.append(row)
    return pd.DataFrame(results), pd.DataFrame(predictors)


def _rows(about: dict, stage: str, rl_seed: float, first: float, last: float) -> list[dict]:
    rows = []
    for benchmark in ("chains", "equations", "average"):
        row = about | {"rl_seed": rl_seed, "phase": stage, "benchmark": benchmark, "problems": 24, "samples": 128}
        row |= {"temperature": 1.0, "top_p": 1.0, "max_tokens": 96, "verifier_version": "1"}
        for i, k in enumerate(KS):
            value = first + (last - first) * i / (len(KS) - 1)
            row |= {f"pass@{k}": value, f"pass@{k}_low": value - 0.04, f"pass@{k}_high": min(1, value + 0.04)}
        rows.append(row | {"majority@8": min(1, first + 0.05), "truncated": 0.01})
    return rows


def curves(results: pd.DataFrame, steps: int = 20) -> tuple[pd.DataFrame | None, pd.DataFrame]:
    """Make `rl_curves.csv` and `sft_curves.csv` for the runs of a results table."""
    step = np.arange(1, steps + 1)
    rl, sft = [], []
    for (family, run, rl_seed), _ in results[results["phase"] == "post_rl"].groupby(["family", "run", "rl_seed"]):
        about = {"family": family, "run": run, "rl_seed": rl_seed, "step": step}
        reward = 0.3 + 0.4 * (1 - np.exp(-step / 8)) + 0.02 * rl_seed
        rl.append(pd.DataFrame(about | {"reward": reward, "clipped_ratio": 0.02, "frac_reward_zero_std": 0.4}))
    for (family, run), _ in results[results["run"] != "base"].groupby(["family", "run"]):
        about = {"family": family, "run": run, "step": step, "epoch": step / 5}
        sft.append(pd.DataFrame(about | {"loss": 0.1 + np.exp(-step / 5)}))
    return pd.concat(rl, ignore_index=True) if rl else None, pd.concat(sft, ignore_index=True)


def related(n: int, studies: int, rho: float, noise: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw predictor and result (studies, n) with a relation of strength `rho`.

    noise "even": bivariate normal. "uneven": runs spread evenly, and RL nearly three times as noisy in the weak ones,
    as tiny trials showed. "outlier": now and then a run that failed far below the others.
    """
    rng = np.random.default_rng(seed)
    score = rng.standard_normal((studies, n))
    if noise == "uneven":
        score = np.sqrt(3) * rng.uniform(-1, 1, (studies, n))
    if noise == "outlier":
        score = np.where(rng.random((studies, n)) < 0.08, -3.5, score)
    spread = rng.standard_normal((studies, n)) * (np.where(score < -0.5, 1.6, 0.6) if noise == "uneven" else 1)
    return score, spread if rho == 0 else score + spread * np.sqrt(1 / rho**2 - 1)
