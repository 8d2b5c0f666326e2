"""The scripts that turn on completion in bash, zsh and fish. Typer writes that of PowerShell.

They pass the line in the variables that typer reads, so that typer can answer what `completion.py` does not.
"""

from __future__ import annotations

OLDEST_BASH = 4, 4  # typer reports an older one

BASH = """\
_promoter_completion() {
    local IFS=$'\\n'
    COMPREPLY=($(env _PROMOTER_COMPLETE=complete_bash COMP_CWORD="$COMP_CWORD" COMP_WORDS="${COMP_WORDS[*]}" "$1"))
}
complete -F _promoter_completion -o default promoter"""

ZSH = """\
#compdef promoter
_promoter_completion() {
    eval $(env _PROMOTER_COMPLETE=complete_zsh _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" promoter)
}
compdef _promoter_completion promoter"""

FISH = """\
function _promoter_completion
    set -lx _PROMOTER_COMPLETE complete_fish
    set -lx _TYPER_COMPLETE_FISH_ACTION $argv[1]
    set -lx _TYPER_COMPLETE_ARGS (commandline -cp)
    promoter
end
complete -c promoter -f -a "(_promoter_completion get-args)" -n "_promoter_completion is-args\""""


def script(shell: str) -> str | None:
    """Return the script for a shell; None if typer writes it, or reports why there is none."""
    if shell == "bash" and _bash_version() < OLDEST_BASH:
        return None
    return {"bash": BASH, "zsh": ZSH, "fish": FISH}.get(shell)


def _bash_version() -> tuple[int, ...]:
    """Return the major and minor version; () if there is no bash."""
    import subprocess

    command = ["bash", "--norc", "-c", 'echo "${BASH_VERSINFO[0]} ${BASH_VERSINFO[1]}"']
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # noqa: S603  # nothing of it is from outside
        return tuple(map(int, done.stdout.split()))
    except (OSError, ValueError):
        return ()
