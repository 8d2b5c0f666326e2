"""How each shell asks for completions, and the form in which it expects the answer.

The variables are those of typer's scripts. All shells but bash show a line of help beside each word.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
QUOTES = set("'\"\\")
# Each text is in double quotes within single quotes, and `_arguments` drops a backslash before a colon.
IN_ZSH = str.maketrans({"\\": r"\\\\", ":": r"\\:", '"': r"\"", "$": r"\$", "`": r"\`", "'": r"'\''"})


def asked(shell: str, environ: Mapping[str, str]) -> tuple[list[str], str] | None:
    """Return the words before the one to complete, and what there is of it; None if only typer can tell."""
    line = environ.get("COMP_WORDS" if shell == "bash" else "_TYPER_COMPLETE_ARGS", "")
    begun = environ.get("_TYPER_COMPLETE_WORD_TO_COMPLETE", "")
    if set(line + begun) & QUOTES:
        return None
    words = line.split()
    if shell == "bash":
        at = environ.get("COMP_CWORD", "")
        if not at.isdecimal() or int(at) == 0:
            return None
        return words[1 : int(at)], (words[int(at) :] or [""])[0]
    if shell in ("zsh", "fish"):
        begun = words[-1] if words[1:] and not line.endswith(" ") else ""
    return words[1:-1] if begun else words[1:], begun


def reply(shell: str, environ: Mapping[str, str], offered: Sequence[tuple[str, str]]) -> str:
    """Return the words, with their lines of help, as the shell expects. Exits if fish asks whether there are any."""
    if shell == "zsh":
        return _zsh_reply(offered)
    if shell == "fish":
        if environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
            sys.exit(0 if offered else 1)
        return "\n".join(f"{word}\t{text}" if text else word for word, text in offered)
    if shell == "bash":
        return "\n".join(word for word, _ in offered)
    return "\n".join(f"{word}:::{text or ' '}" for word, text in offered)


def _zsh_reply(offered: Sequence[tuple[str, str]]) -> str:
    """Return a command for zsh, which evaluates the list in it once more and splits each item at its first colon."""
    if not offered:
        return "_files"
    items = [f'"{word.translate(IN_ZSH)}"' + (f':"{text.translate(IN_ZSH)}"' if text else "") for word, text in offered]
    return "_arguments '*: :((" + "\n".join(items) + "))'"
