"""The store: nothing lost, nothing doubled, nothing mixed; grades beside it; counts that are really there."""

import errno
import multiprocessing
import os
import signal
import socket
import tracemalloc
import warnings

import pandas as pd
import pyarrow.parquet as pq
import pytest

from sftrl.errors import InputError
from sftrl.files import hash_value
from sftrl.generations import Grader, Store, grade, sample_seed, summarise
from sftrl.generations.grades import Gold
from sftrl.verify import VERIFIER_VERSION

KEY = {"model": "abc", "sampling": {"temperature": 1.0, "top_p": 1.0}, "benchmarks": {"sums": "x"}}
PROBLEMS = pd.DataFrame(
    {
        "benchmark": ["sums", "sums", "halves"],
        "id": ["1", "2", "1"],
        "problem": ["1 + 2?", "2 + 2?", "Half of 1?"],
        "answer": ["3", "4", "\\frac{1}{2}"],
    }
)
NAMES = list(zip(PROBLEMS["benchmark"], PROBLEMS["id"], strict=True))


def rows(samples, response="so \\boxed{3}", finish_reason="stop", n_tokens=4):
    table = pd.DataFrame(samples, columns=["benchmark", "problem_id", "sample_index"])
    table["seed"] = [sample_seed(0, *sample) for sample in samples]
    return table.assign(response=response, n_tokens=n_tokens, finish_reason=finish_reason)


def fill(folder, n, key=KEY, **options):
    with Store.open(folder, key) as store:
        missing = store.missing(NAMES, n)
        if missing:
            store.append(rows(missing, **options))


# What is there, and what is missing


def test_raising_n_only_adds(tmp_path):
    fill(tmp_path, 2)
    first = Store(tmp_path).parts()
    with Store.open(tmp_path, KEY) as store:
        assert store.missing(NAMES[:1], 4) == [("sums", "1", 2), ("sums", "1", 3)]
        assert store.missing(NAMES, 1) == []
        assert store.missing(NAMES, [3, 0, 2]) == [("sums", "1", 2)]
    fill(tmp_path, 4)
    assert Store(tmp_path).parts()[:1] == first
    table = Store(tmp_path).read()
    assert list(table.groupby(["benchmark", "problem_id"])["sample_index"].apply(list)) == [[0, 1, 2, 3]] * 3


def test_parts_are_numbered_one_after_another(tmp_path):
    for n in (1, 2, 3):
        fill(tmp_path, n)
    assert [path.name.split("-")[0] for path in Store(tmp_path).parts()] == ["000000", "000001", "000002"]


def test_reads_as_plain_parquet(tmp_path):
    fill(tmp_path, 2, response="α “quoted”\nline")
    plain = pd.concat(map(pd.read_parquet, tmp_path.glob("samples/*/*.parquet")))
    assert set(plain["response"]) == {"α “quoted”\nline"}
    assert list(Store(tmp_path).read(["n_tokens"]).columns) == ["n_tokens"]


def test_a_sample_cannot_be_stored_twice(tmp_path):
    fill(tmp_path, 1)
    with Store.open(tmp_path, KEY) as store:
        with pytest.raises(RuntimeError, match="twice"):
            store.append(rows([("sums", "1", 0)]))
        with pytest.raises(RuntimeError, match="twice"):
            store.append(rows([("sums", "1", 1), ("sums", "1", 1)]))
        with pytest.raises(RuntimeError, match="twice"):
            store.append(rows([("sums", "1", 1), ("sums", "1", 0)]))
    with pytest.raises(RuntimeError, match=r"Store\.open"):
        Store(tmp_path).append(rows([("sums", "1", 1)]))


def test_seeds_are_a_samples_own():
    seeds = {sample_seed(b, x, y, i) for b in range(3) for x in "ab" for y in ("1", "11") for i in range(50)}
    assert len(seeds) == 3 * 2 * 2 * 50
    assert sample_seed(0, "math", "7", 3) == 3753340433760389229  # the same on every machine and in every version
    assert max(seeds) < 2**63


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "other"}, "model is 'abc' there and 'other' here"),
        ({"sampling": {"temperature": 0.6, "top_p": 1.0}}, "sampling.temperature is 1.0 there and 0.6 here"),
        ({"benchmarks": {"sums": "y"}}, "benchmarks.sums"),
        ({"benchmarks": {"sums": "x", "more": "z"}}, "benchmarks.more is 'absent' there"),
    ],
)
def test_another_key_is_refused_by_name(tmp_path, change, named):
    fill(tmp_path, 1)
    with pytest.raises(InputError, match=named.replace(".", r"\.")), Store.open(tmp_path, KEY | change):
        pass
    assert len(Store(tmp_path).read()) == 3


def test_a_folder_without_a_store_is_named(tmp_path):
    with pytest.raises(InputError, match=r"store\.json"):
        Store(tmp_path)


# Damage


def damage_by_flipping(content):
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        damage_by_flipping,  # one bit
        lambda content: content[:-1],  # cut at the end
        lambda content: b"",  # a crash of the file system
        lambda content: content[:-9] + bytes([content[-9] ^ 4]) + content[-8:],  # the footer, which Parquet trusts
    ],
)
def test_a_damaged_part_is_found_and_alone_is_redone(tmp_path, damage):
    for n in (1, 2, 3):
        fill(tmp_path, n)
    before = Store(tmp_path).read()
    whole, harmed, _ = Store(tmp_path).parts()
    kept = whole.stat().st_mtime_ns
    harmed.write_bytes(damage(harmed.read_bytes()))
    with pytest.raises(InputError, match=harmed.name):
        Store(tmp_path).read()
    with pytest.warns(UserWarning, match=harmed.name):
        fill(tmp_path, 3)
    anew = pd.read_parquet(Store(tmp_path).parts()[-1])
    assert list(anew[["benchmark", "problem_id", "sample_index"]].itertuples(index=False, name=None)) == [
        (*name, 1) for name in NAMES
    ]
    pd.testing.assert_frame_equal(Store(tmp_path).read(), before)
    assert whole.stat().st_mtime_ns == kept
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fill(tmp_path, 3)  # found once, told once


def test_what_a_killed_process_was_writing_is_cleared(tmp_path):
    fill(tmp_path, 1)
    left = tmp_path / "samples" / "0-of-1" / ".000001.half.parquet"
    left.write_bytes(b"PAR1")
    assert len(Store(tmp_path).read()) == 3
    fill(tmp_path, 2)
    assert not left.exists()


def test_disk_full_is_told_and_harms_nothing(tmp_path, monkeypatch):
    fill(tmp_path, 1)

    def full(_):
        raise OSError(28, "No space left on device")

    with Store.open(tmp_path, KEY) as store:
        monkeypatch.setattr("sftrl.files.os.fsync", full)
        with pytest.raises(InputError, match="No space left on device"):
            store.append(rows([("sums", "1", 1)]))
        monkeypatch.undo()
        assert len(Store(tmp_path).read()) == 3
        store.append(rows([("sums", "1", 1)]))  # there is room again
    assert len(Store(tmp_path).read()) == 4
    assert not list((tmp_path / "samples" / "0-of-1").glob(".*"))


def test_memory_does_not_grow_with_what_is_stored(tmp_path):
    samples = [("sums", str(p), i) for p in range(100) for i in range(20)]
    first = rows(samples, response="a long response " * 40)
    with Store.open(tmp_path, KEY) as store:
        for part in range(20):
            store.append(first.assign(sample_index=first["sample_index"] + 20 * part))
    with Store.open(tmp_path, KEY):
        pass  # so that what is imported late is not counted
    tracemalloc.start()
    with Store.open(tmp_path, KEY) as store:
        held, peak = tracemalloc.get_traced_memory()
        assert store.missing([("sums", "1")], 401) == [("sums", "1", 400)]
    tracemalloc.stop()
    assert held < 200_000  # bytes, of 40,000 samples: little more than a bit each
    assert peak < 3_000_000  # of 26 MB of responses: one part at a time


# Several processes


def hold(folder, shard, of, ready):
    with Store.open(folder, KEY, shard=shard, of=of):
        ready.set()
        signal.pause()


@pytest.fixture
def holder(tmp_path):
    """A process that holds shard 1 of 2."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, 1, 2, ready))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_one_process_a_shard(tmp_path, holder):
    held = pytest.raises(InputError, match=f"1-of-2 is being filled by process {holder.pid}")
    with held, Store.open(tmp_path, KEY, shard=1, of=2):
        pass
    # Another number of shards would draw the same problems' samples a second time.
    with pytest.raises(InputError, match="1-of-2 is being filled"), Store.open(tmp_path, KEY):
        pass
    with Store.open(tmp_path, KEY, shard=0, of=2) as store:
        store.append(rows([("sums", "1", 0)]))
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with Store.open(tmp_path, KEY, shard=1, of=2), Store.open(tmp_path, KEY, shard=0, of=2):
        pass  # a killed process holds nothing
    with Store.open(tmp_path, KEY) as store:  # and what was drawn in shards counts for a single process
        assert ("sums", "1", 0) not in store.missing(NAMES, 1)


def test_a_lock_names_its_last_holder_alone(tmp_path):
    for _ in range(2):
        with Store.open(tmp_path, KEY):
            pass
    assert (tmp_path / "locks" / "0-of-1").read_text() == f"process {os.getpid()} on {socket.gethostname()}"


def test_a_file_system_without_locks_is_named_as_such(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("sftrl.generations.store.fcntl.lockf", refuse)
    with pytest.raises(InputError, match=r"its file system refuses locks \(No locks"), Store.open(tmp_path, KEY):
        pass


def test_a_part_says_what_drew_it(tmp_path):
    for n, by in ((1, "engine 1"), (2, "engine 2")):
        with Store.open(tmp_path, KEY, by=by) as store:
            store.append(rows(store.missing(NAMES, n)))
    found = [pq.read_schema(path).metadata[b"drawn_by"].decode() for path in Store(tmp_path).parts()]
    assert found == ["engine 1", "engine 2"]


def test_a_shard_must_exist(tmp_path):
    with pytest.raises(InputError, match="shard: 2 is not one of 0 to 1"), Store.open(tmp_path, KEY, shard=2, of=2):
        pass


# Grades


def test_grades_hold_until_the_verifier_or_a_gold_changes(tmp_path, monkeypatch):
    fill(tmp_path, 2)
    with pytest.raises(InputError, match="not graded"):
        summarise(tmp_path, PROBLEMS)
    grade(tmp_path, PROBLEMS)
    assert list(summarise(tmp_path, PROBLEMS).problems["c"]) == [2, 0, 0]
    assert list(summarise(tmp_path, PROBLEMS.iloc[1:]).problems["problem_id"]) == ["2", "1"]  # some problems only

    monkeypatch.setattr("sftrl.generations.grades.verify_many", None)
    grade(tmp_path, PROBLEMS)  # nothing to do
    monkeypatch.undo()

    corrected = PROBLEMS.assign(answer=["4", "3", "1/2"])
    with pytest.raises(InputError, match="not graded"):
        summarise(tmp_path, corrected)
    grade(tmp_path, corrected)
    assert list(summarise(tmp_path, corrected).problems["c"]) == [0, 2, 0]

    monkeypatch.setattr("sftrl.generations.grades.VERIFIER_VERSION", "another")
    with pytest.raises(InputError, match="not graded"):
        summarise(tmp_path, corrected)
    grade(tmp_path, corrected)
    assert {path.name for path in (tmp_path / "grades").iterdir()} >= {"another"}
    assert summarise(tmp_path, corrected).verifier_version == "another"


def test_a_gold_without_alternatives_is_named_as_before_there_were_any():
    name = hash_value(["3", "integer", None, None])
    assert Gold("3", "integer", None, None).hash == name
    assert Gold("3", "integer", None, None, ("4",)).hash != name


def test_grades_of_two_verifiers_are_not_mixed(tmp_path, monkeypatch):
    for n in (1, 2):
        fill(tmp_path, n)
    grade(tmp_path, PROBLEMS)
    assert summarise(tmp_path, PROBLEMS).verifier_version == VERIFIER_VERSION
    monkeypatch.setattr("sftrl.generations.grades.VERIFIER_VERSION", "another")
    grade(tmp_path, PROBLEMS)
    monkeypatch.undo()
    second = Store(tmp_path).parts()[1].stem
    (ours,) = (tmp_path / "grades" / VERIFIER_VERSION).glob(f"*/{second}-*")
    (theirs,) = (tmp_path / "grades" / "another").glob(f"*/{second}-*")
    ours.unlink()
    theirs.rename(ours.parent / theirs.name)  # as copying one folder over the other would leave it
    with pytest.raises(InputError, match=f"{second}.*graded by verifier another, and parts before it by sftrl"):
        summarise(tmp_path, PROBLEMS)


def test_grading_tells_each_part_that_is_done(tmp_path, monkeypatch):
    for n in (1, 2):
        fill(tmp_path, n)
    monkeypatch.setenv("SFTRL_PROGRESS_SECONDS", "0")
    lines = []
    grade(tmp_path, PROBLEMS, progress=lines.append)
    assert [line.split(" in ")[0] for line in lines] == ["1 of 2 parts graded", "2 of 2 parts graded"]


def test_a_damaged_grade_is_made_anew(tmp_path):
    fill(tmp_path, 1)
    grade(tmp_path, PROBLEMS)
    (path,) = tmp_path.glob("grades/*/*/*.parquet")
    path.write_bytes(damage_by_flipping(path.read_bytes()))
    with pytest.raises(InputError, match="not graded"):
        summarise(tmp_path, PROBLEMS)
    grade(tmp_path, PROBLEMS)
    assert summarise(tmp_path, PROBLEMS).problems["c"].sum() == 1


@pytest.mark.parametrize(
    ("problems", "message"),
    [
        (PROBLEMS.drop(columns="answer"), "no column 'answer'"),
        (pd.concat([PROBLEMS, PROBLEMS.iloc[:1]]), "sums has the id '1' twice"),
        (PROBLEMS.iloc[:2], "halves 1, which is not among the problems"),
    ],
)
def test_bad_problems_are_named(tmp_path, problems, message):
    fill(tmp_path, 1)
    with pytest.raises(InputError, match=message):
        grade(tmp_path, problems)


def test_an_unreadable_gold_is_found_before_sampling():
    problems = PROBLEMS.assign(answer=["3", "", "1/2"])
    with pytest.raises(InputError, match="sums 2: the gold answer ''"):
        Grader(problems).check_golds()


def test_an_unreadable_gold_is_named_when_counted(tmp_path):
    fill(tmp_path, 1)
    problems = PROBLEMS.assign(answer=["3", "4", ""])
    grade(tmp_path, problems)
    with pytest.raises(InputError, match="halves 1: the gold answer '' cannot be read"):
        summarise(tmp_path, problems)


# Counts


def test_counts_and_rates(tmp_path):
    with Store.open(tmp_path, KEY) as store:
        store.append(rows([("sums", "1", i) for i in range(3)]))
        store.append(rows([("sums", "1", 3)], response=" \n", finish_reason="length", n_tokens=12))
        store.append(rows([("sums", "2", i) for i in range(2)], response="\\boxed{5}"))
        store.append(rows([("sums", "2", 2)], response="no idea"))
        store.append(rows([("halves", "1", 0)], response="\\boxed{0.5}"))
        store.append(rows([("halves", "1", 1)], response="\\boxed{1/2}"))
    grade(tmp_path, PROBLEMS)
    summary = summarise(tmp_path, PROBLEMS, n=2)
    assert summary.problems[["n", "c", "truncated", "empty", "unparseable"]].to_numpy().tolist() == [
        [4, 3, 1, 1, 1],
        [3, 0, 0, 0, 1],
        [2, 2, 0, 0, 0],
    ]
    assert list(summary.problems["mean_tokens"]) == [6, 4, 4]
    sums = summary.benchmarks.set_index("benchmark").loc["sums"]
    assert (sums["problems"], sums["samples"], sums["partial"]) == (2, 3, False)
    assert sums["truncated"] == pytest.approx(1 / 7)
    assert sums["unparseable"] == pytest.approx(2 / 7)
    assert sums["empty"] == pytest.approx(1 / 7)
    assert sums["mean_tokens"] == pytest.approx((3 * 4 + 12 + 3 * 4) / 7)
    # Right answers of two forms are one answer; a sample without an answer has none.
    assert summary.answers[["problem_id", "answer", "correct", "count"]].to_numpy().tolist() == [
        ["1", "\\frac{1}{2}", True, 2],
        ["1", "3", True, 3],
        ["2", "5", False, 2],
    ]
    # Right responses are told apart by their texts.
    assert summary.solutions.to_numpy().tolist()[:1] == [["sums", "1", 3]]
    assert summary.solutions[["benchmark", "count"]].to_numpy().tolist()[1:] == [["halves", 1], ["halves", 1]]
    assert summarise(tmp_path, PROBLEMS, partial=True, start=2).problems["n"].tolist() == [2, 1, 0]


def test_answers_that_nobody_can_compute_are_counted(tmp_path):
    with Store.open(tmp_path, KEY) as store:
        store.append(rows([("sums", "1", 0)], response="\\boxed{9^{9^{9^{9}}}}"))
        store.append(rows([("sums", "1", 1), ("sums", "2", 0), ("halves", "1", 0)]))
    grade(tmp_path, PROBLEMS)
    summary = summarise(tmp_path, PROBLEMS)
    assert summary.problems["timed_out"].tolist() == [1, 0, 0]
    assert summary.benchmarks.set_index("benchmark")["timed_out"].to_dict() == {
        "sums": pytest.approx(1 / 3),
        "halves": 0,
    }


def test_white_space_around_a_right_response_makes_no_other_solution(tmp_path):
    with Store.open(tmp_path, KEY) as store:
        for i, text in enumerate(["\\boxed{3}", " \\boxed{3}\n", "So \\boxed{3}"]):
            store.append(rows([("sums", "1", i)], response=text))
    grade(tmp_path, PROBLEMS)
    found = summarise(tmp_path, PROBLEMS.iloc[:1]).solutions
    assert sorted(found["count"]) == [1, 2]
    assert set(found["problem_id"]) == {"1"}
    assert summarise(tmp_path, PROBLEMS.iloc[:1], stop=1).solutions["count"].tolist() == [1]


def test_too_few_samples_are_an_error_or_called_partial(tmp_path):
    with Store.open(tmp_path, KEY) as store:
        store.append(rows([("sums", "1", i) for i in range(4)] + [("halves", "1", i) for i in range(4)]))
        store.append(rows([("sums", "2", 0)]))
    grade(tmp_path, PROBLEMS)
    with pytest.raises(InputError, match="1 of 3 problems have fewer than 4 samples, first sums 2 with 1"):
        summarise(tmp_path, PROBLEMS, n=4)
    benchmarks = summarise(tmp_path, PROBLEMS, n=4, partial=True).benchmarks.set_index("benchmark")
    assert benchmarks["samples"].to_dict() == {"sums": 1, "halves": 4}
    assert benchmarks["partial"].to_dict() == {"sums": True, "halves": False}


def test_many_truncated_responses_are_warned_of(tmp_path):
    fill(tmp_path, 2, finish_reason="length")
    grade(tmp_path, PROBLEMS)
    with pytest.warns(UserWarning, match="cut off at max_tokens: 100% of sums, 100% of halves"):
        summarise(tmp_path, PROBLEMS)


def test_one_truncated_response_in_twenty_is_not_warned_of(tmp_path):
    with Store.open(tmp_path, KEY) as store:
        store.append(rows([("sums", "1", i) for i in range(19)]))
        store.append(rows([("sums", "1", 19)], finish_reason="length"))
    grade(tmp_path, PROBLEMS[:1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert summarise(tmp_path, PROBLEMS[:1]).benchmarks["truncated"][0] == 0.05
