"""The error for invalid input: it names the key, file, row or problem, and is shown as one line without a traceback."""


class InputError(ValueError):
    """Invalid input, found before any expensive work.

    A `ValueError`, so that callers of a single function may catch it as they would any bad value. In IPython, and
    so in a notebook and in papermill's copy of it, it shows as its message alone: the stack below a misspelt key
    tells a user nothing.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]
