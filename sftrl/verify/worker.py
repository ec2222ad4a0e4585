"""The child process that runs math-verify: one JSON request a line in, one JSON reply a line out.

It is run by its path, so that it imports nothing of the package, and it is alone in its process so that it can be
killed: math-verify's own timeouts are signals, which neither work in threads nor stop one long big-integer operation.
"""

import contextlib
import json
import logging
import resource
import signal
import sys

MEMORY = 2 * 2**30  # bytes of address space


class _TooLong(BaseException):  # not an Exception: math-verify swallows those
    pass


def _too_long(signum: int, frame: object) -> None:
    raise _TooLong


def _decide(gold: str, answer: str) -> str:
    """`correct`, `incorrect`, `unparseable_gold` or `unparseable_response`, by math-verify."""
    from math_verify import LatexExtractionConfig, parse, verify

    # LaTeX only: math-verify's other reader ends in Python's eval.
    config = [LatexExtractionConfig(boxed_match_priority=0)]
    golds = _sympy_only(parse(rf"$\boxed{{{gold}}}$", config, parsing_timeout=None))
    if not golds:
        return "unparseable_gold"
    answers = _sympy_only(parse(rf"$\boxed{{{answer}}}$", config, parsing_timeout=None))
    if not answers:
        return "unparseable_response"
    return "correct" if verify(golds, answers, timeout_seconds=None) else "incorrect"


def _sympy_only(parsed: list) -> list:
    return [value for value in parsed if not isinstance(value, str)]


def _answer(request: dict) -> str:
    signal.setitimer(signal.ITIMER_REAL, request["timeout"])
    # If the parent is gone and an operation does not return, the default action of this signal ends the process.
    signal.setitimer(signal.ITIMER_PROF, 2 * request["timeout"] + 5)
    try:
        return _decide(request["gold"], request["answer"])
    except (_TooLong, MemoryError):
        return "timed_out"
    except Exception:  # whatever sympy raises on nonsense
        return "unparseable_response"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def main() -> None:
    replies, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no reply
    with contextlib.suppress(ValueError, OSError):  # macOS does not know this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, _too_long)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a notebook is for the parent, which closes the pipe
    _decide("x+1", "1+x")  # imports, and the parser's tables
    print(json.dumps("ready"), file=replies, flush=True)
    for line in sys.stdin:
        try:
            reply = _answer(json.loads(line))
        except _TooLong:  # the alarm rang while the reply was on its way
            reply = "timed_out"
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
