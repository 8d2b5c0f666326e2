"""The docs, the messages and the docstrings are in plain terms of the field, and quote the figures that are kept."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES += [path for top in ("docs", "changelog.d") for path in sorted((ROOT / top).rglob("*.md"))]
CODE = [
    path
    for top in ("promoter_core", "backends", "plugins", "docs")
    for ending in ("py", "lua")
    for path in sorted((ROOT / top).rglob(f"*.{ending}"))
]

# An idiom, and what to write instead.
IDIOMS = {
    r"\bthat (?:there (?:is|are) (?:not|none)|is none|are none)\b": "invalid, missing",
    r"\b(?:can|could|cannot|can not|could not) be had\b|\bis to be had\b": "available, unavailable",
    r"\b(?:is|are|was|were|be|been|being) told\b": "receives, is notified",
    r"\btell(?:s|ing)? of\b": "reports, shows",
    r"\bhear(?:s|ing)? of\b|\bheard of\b": "receives, is notified of",
    r"\bbesides\b": "optionally, also, except",
    r"\bfor ever\b": "indefinitely",
    r"\bof (?:its|their) own\b": "own, separate",
    r"\bthe way (?:there|to the (?:store|server) and back)\b": "round trip",
    r"^\W*Who (?:does|is|has) ": "clients that …",
    r"\bnobody's\b": "no client's",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bwhat was tried\b": "what was tested",
    r"\bsome \d": "about",
    r"^```\n\n(?-i:[a-z])\w+ ": "a whole sentence after an example: It prints …",
    r"\bwithout a word\b": "silently",
    r"\bwaited out\b": "retried",
    r"\bany thread may\b|\bmay be called from any thread\b": "thread-safe",
    r"\bwaits? no more\b": "no longer waits",
    r"\bwhoever (?:leads|promotes|serves)\b": "whichever process …",
    r"\bnobody (?:leads|promotes)\b": "has no leader",
    r"\bthe coming (?:minute|hour|day|week)\b": "the next …",
    r"\bis no repetition\b": "is not a retry",
    r"\ba courtesy\b": "optional",
    r"\bmistakes? of ours\b": "a bug",
    r"\bof a dozen ways\b": "with many types",
    r"\ball the same\b": "still, anyway",
}
GENERATED = ("api.md", "spi.md")  # from docstrings, which are checked where they are
SOURCES = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in PAGES if path.name not in GENERATED]


def found(text: str) -> list[str]:
    """What to change, a line each. Idioms run over line breaks, and over the marks of comments."""
    joined = re.sub(r"\n[ \t]*(?:#|--|>)?[ \t]*", lambda m: "\n" + " " * (len(m[0]) - 1), text)
    return [
        f"line {joined.count(chr(10), 0, match.start()) + 1}: {' '.join(match[0].split())!r}: write {instead}"
        for idiom, instead in IDIOMS.items()
        for match in re.finditer(idiom.replace(" ", r"\s+"), joined, re.IGNORECASE | re.MULTILINE)
    ]


@pytest.mark.parametrize("path", SOURCES)
def test_a_page_is_in_the_terms_of_the_field(path):
    assert found(path.read_text()) == []


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_and_its_messages_are_in_the_terms_of_the_field(path):
    assert found(path.read_text()) == []


@pytest.mark.parametrize("path", [p for p in CODE if p.suffix == ".py"], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_docstring_is_no_noun_clause(path):
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text())):
        text = ast.get_docstring(node) if isinstance(node, nodes) else None
        assert not re.match(r"(?:What|Who)\b", text or ""), f"begin with a verb or a noun: {text}"


@pytest.mark.parametrize(
    "text",
    [
        "an error that cannot be had",
        "It is\ntold at once.",
        "# it tells\n    # of a change",
        "Besides, it waits for ever.",
        "has a loop of its own",
        "the way to the store and back",
        "nobody's commands wait",
        "Who does this pays.",
        "a name that there is not",
        "a fault is\nmended",
        "```\n\nprints `1`.",
        "some 20 processes",
        "a connection that dies\n# without a word",
        "Any thread may ask.",
        "a queue that nobody\n# leads",
        "all queues, whoever leads them",
        "in the coming\nhour",
    ],
)
def test_an_idiom_is_found_also_over_a_line_break(text):
    assert found(text)


# ----- figures -----

FIGURES = json.loads((ROOT / "docs/explanation/performance/figures.json").read_text())


def cell(section: str, column: str, **row: str) -> float:
    """A number of the kept figures; the row is the one that begins with these cells."""
    (table,) = [s for s in FIGURES["sections"] if s["title"].startswith(section)]
    (cells,) = [cells for cells in table["rows"] if cells[: len(row)] == list(row.values())]
    return float(cells[table["columns"].index(column)].replace(",", ""))


def server_us(client: str, events: str) -> float:
    return cell("Drain of", "server µs/job", client=client, events=events)


def client_us(events: str) -> list[float]:
    return [cell("Drain of", "client µs/job", client=name, events=events) for name in ("redis-py", "GLIDE")]


def memory(column: str) -> str:
    return f"{cell('Memory', column, server='Valkey 9.1'):.0f}"


def both(events: str) -> tuple[str, str]:
    values = sorted(f"{server_us(client, events):.1f}" for client in ("redis-py", "GLIDE"))
    return values[0], values[1]


def quoted() -> list[tuple[str, str, tuple[str, ...]]]:
    """A page, what it says with a group for each number, and the numbers that are kept."""
    waiting = [cell("Drain rate", "jobs/s", waiting=f"{n:,}") for n in (100_000, 10_000_000)]
    clients = [*client_us("off"), *client_us("on")]
    return [
        (
            "explanation/performance.md",
            r"The client spends ([\d.]+) to ([\d.]+) µs a job, the server ([\d.]+) to ([\d.]+) with events off, "
            r"([\d.]+) to ([\d.]+) with them",
            (f"{min(clients):.1f}", f"{max(clients):.1f}", *both("off"), *both("on")),
        ),
        (
            "explanation/performance.md",
            r"With ten million jobs waiting, a drain keeps ([\d.]+) of its rate",
            (f"{waiting[1] / waiting[0]:.2f}",),
        ),
        (
            "explanation/performance.md",
            r"It adds ([\d.]+) times as many as the loop in the kept figures",
            (f"{cell('Scheduling', 'of a bare pipelined loop', client='redis-py'):.2f}",),
        ),
        ("how-to/deploy/sizing.md", r"([\d.]+) to ([\d.]+) µs a job promoted", (both("off")[0], both("on")[1])),
        (
            "how-to/deploy/sizing.md",
            r"take about (\d+)% of its core with events",
            (f"{10_000 * server_us('redis-py', 'on') / 1e6 * 100:.0f}",),
        ),
        ("how-to/deploy/sizing.md", r"have (\d+) and (\d+) bytes", (memory("without index"), memory("with index"))),
    ]


@pytest.mark.parametrize(("page", "says", "kept"), quoted(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_page_quotes_the_kept_figures(page, says, kept):
    text = " ".join((ROOT / "docs" / page).read_text().split())
    match = re.search(says, text)
    assert match, "the sentence has changed: change it here as well"
    assert match.groups() == kept


def test_the_page_of_figures_is_made_of_the_kept_ones():
    text = (ROOT / "docs/explanation/performance/figures.md").read_text()
    for section in FIGURES["sections"]:
        for row in section["rows"]:
            assert f"| {' | '.join(row)} |" in text, row
    for aim in FIGURES["aims"]:
        verdict = "reached" if aim["reached"] else "**missed**"
        assert f"| {aim['what']} | {aim['aim']} | {aim['seen']} | {verdict} |" in text
