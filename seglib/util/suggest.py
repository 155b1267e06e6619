"""Words that error messages share."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown `word`: its nearest valid name, and all of them.

    >>> did_you_mean("epoch", ["epochs", "lr"])
    "; did you mean 'epochs'? (known: epochs, lr)"
    """
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(names)})"
