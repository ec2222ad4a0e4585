"""The second pass: a grade for every sample, redone when the verifier or a gold answer changes, without resampling.

`grades/<verifier version>/<shard>/<part>-<hash>.parquet` holds one row for each row of the part of that name. A part
that was sampled again has another name, and so is graded again; so is one with a problem whose gold has changed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from sftrl.errors import InputError
from sftrl.files import hash_value
from sftrl.generations.parts import is_whole, read_part, write_part
from sftrl.generations.store import Problem, Store
from sftrl.progress import Progress
from sftrl.verify import VERIFIER_VERSION, Verdict, verify_many

SCHEMA = pa.schema(
    {
        "benchmark": pa.string(),
        "problem_id": pa.string(),
        "sample_index": pa.int32(),
        "verdict": pa.string(),
        "answer": pa.string(),
        "empty": pa.bool_(),
        "gold": pa.string(),
        "verifier_version": pa.string(),
    }
)


class Gold(NamedTuple):
    """What is right: `answer`, or any of `alternatives`; the rest as `verify_many` takes it."""

    answer: str
    answer_type: str | None
    choices: list[str] | None
    tolerance: float | None
    alternatives: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """Name it; without alternatives as if there were no such field."""
        return hash_value(self if self.alternatives else self[:4])


def problem_golds(problems: pd.DataFrame) -> dict[Problem, Gold]:
    """Map (benchmark, id) to what is right; what a problem lacks is None.

    Raises:
        InputError: a column is missing, or an id occurs twice in its benchmark.
    """
    for column in ("benchmark", "id", "problem", "answer"):
        if column not in problems:
            raise InputError(f"problems: no column {column!r}")
    golds = {}
    for row in problems.to_dict("records"):
        name = str(row["benchmark"]), str(row["id"])
        if name in golds:
            raise InputError(f"problems: {name[0]} has the id {name[1]!r} twice")
        kind, tolerance = row.get("answer_type"), row.get("tolerance")
        golds[name] = Gold(
            str(row["answer"]),
            kind if isinstance(kind, str) else None,
            _texts(row.get("choices")),
            None if tolerance is None or tolerance != tolerance else float(tolerance),
            tuple(_texts(row.get("alternatives")) or ()),
        )
    return golds


def _texts(value: object) -> list[str] | None:
    """Return a list for a list or an array; pandas writes None as NaN."""
    return None if value is None or isinstance(value, float) else [str(one) for one in value]


class Grader:
    """Grades parts of a store with these golds and this version of the verifier.

    Args:
        problems: the problem rows: `benchmark, id, problem, answer`, and `answer_type, choices, tolerance` and
            `alternatives` (a list of further answers, any of which is right) where known.

    Attributes:
        golds: what is right, of every (benchmark, problem id).

    Raises:
        InputError: a column is missing, or an id occurs twice in its benchmark.
    """

    def __init__(self, problems: pd.DataFrame):
        self.golds = problem_golds(problems)
        self.hashes = {name: gold.hash for name, gold in self.golds.items()}

    def verdicts(self, names: list[Problem], responses: list[str]) -> list[Verdict]:
        """Judge responses to the problems of these names."""
        golds = [self.golds[name] for name in names]
        found = self._judge(responses, golds)
        for i in range(max((len(gold.alternatives) for gold in golds), default=0)):
            left = [j for j, gold in enumerate(golds) if len(gold.alternatives) > i and not found[j].correct]
            others = [golds[j]._replace(answer=golds[j].alternatives[i]) for j in left]
            for j, verdict in zip(left, self._judge([responses[j] for j in left], others), strict=True):
                if verdict.correct or found[j].status == "unparseable_gold":
                    found[j] = verdict
        return found

    def _judge(self, responses: list[str], golds: list[Gold]) -> list[Verdict]:
        return verify_many(
            responses,
            [gold.answer for gold in golds],
            answer_types=[gold.answer_type for gold in golds],
            choices=[gold.choices for gold in golds],
            tolerance=[gold.tolerance for gold in golds],
        )

    def check_golds(self) -> None:
        """Check before any sampling that every gold answer can be read; `InputError` names the first that cannot."""
        names = list(self.golds)
        boxed = [f"\\boxed{{{self.golds[name].answer}}}" for name in names]
        for name, verdict in zip(names, self.verdicts(names, boxed), strict=True):
            if verdict.status == "unparseable_gold":
                raise InputError(
                    f"problems: {name[0]} {name[1]}: the gold answer {self.golds[name].answer!r} cannot be read"
                )

    def read(self, part: Path) -> pd.DataFrame | None:
        """Return the grades of a part, row by row its own, or None if it has no valid ones.

        Problems that this grader does not know are left as they are graded.
        """
        for path in self._folder(part).glob(f"{part.stem}-*.parquet"):
            if is_whole(path):
                grades = read_part(path)
                used = grades[["benchmark", "problem_id", "gold"]].drop_duplicates()
                if all(self.hashes.get((b, p), gold) == gold for b, p, gold in used.itertuples(index=False)):
                    return grades
        return None

    def grade_part(self, part: Path) -> None:
        """Grade a part, unless it is graded.

        Raises:
            InputError: the part is damaged, or holds a problem whose gold is not known.
        """
        if self.read(part) is not None:
            return
        rows = read_part(part, ["benchmark", "problem_id", "sample_index", "response"])
        names = list(zip(rows["benchmark"], rows["problem_id"], strict=True))
        for name in names:
            if name not in self.golds:
                raise InputError(f"{part}: holds {name[0]} {name[1]}, which is not among the problems")
        responses = rows.pop("response").tolist()
        verdicts = self.verdicts(names, responses)
        rows["verdict"] = [verdict.status for verdict in verdicts]
        rows["answer"] = [verdict.answer for verdict in verdicts]
        rows["empty"] = [not response.strip() for response in responses]
        rows["gold"] = [self.hashes[name] for name in names]
        rows["verifier_version"] = VERIFIER_VERSION
        folder = self._folder(part)
        for outdated in folder.glob(f"{part.stem}-*.parquet"):
            outdated.unlink()
        write_part(folder, part.stem, rows, SCHEMA)

    def _folder(self, part: Path) -> Path:
        return part.parent.parent.parent / "grades" / VERIFIER_VERSION / part.parent.name


def grade(
    folder: str | Path,
    problems: pd.DataFrame,
    *,
    progress: Callable[[str], None] | None = print,
) -> None:
    """Grade every sample of a store that this version of the verifier has not graded with these golds.

    `progress` takes a line every half minute; None for silence.

    Raises:
        InputError: as `Grader` and `Grader.grade_part`.
    """
    grader, parts = Grader(problems), list(Store(folder).parts())
    said = Progress(len(parts), "parts graded", progress)
    for done, part in enumerate(parts, start=1):
        grader.grade_part(part)
        said.at(done)
