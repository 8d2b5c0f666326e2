"""The findings of a run of the benchmarks, as a page with tables, as JSON, and as SVG plots."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pygal
from pygal.style import CleanStyle

PAGES = Path(__file__).parents[1] / "docs" / "explanation" / "performance"


@dataclass
class Section:
    """One table: the first column names who or what was measured."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""

    def add(self, *cells: object) -> None:
        self.rows.append([_shown(cell) for cell in cells])

    def markdown(self) -> str:
        lines = [f"## {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        lines += [_line(self.columns), _line(["---"] * len(self.columns)), *map(_line, self.rows), ""]
        return "\n".join(lines)


@dataclass
class Aim:
    """A figure that is to be reached, and what was seen."""

    what: str
    aim: str
    seen: str
    reached: bool


@dataclass
class Report:
    """Everything that one run has found."""

    where: str
    title: str = "Figures of one run"
    command: str = "make bench"
    sections: list[Section] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)
    bars: dict[str, tuple[str, dict[str, float]]] = field(default_factory=dict)  # file → title, values

    def section(self, title: str, *columns: str, note: str = "") -> Section:
        section = Section(title, list(columns), note=note)
        self.sections.append(section)
        return section

    def aim(self, what: str, aim: str, seen: str, reached: bool) -> None:
        self.aims.append(Aim(what, aim, seen, reached))

    def markdown(self) -> str:
        parts = [f"# {self.title}\n", f"Written by `{self.command}`. {self.where}\n"]
        aims = Section("Aims", ["figure", "aim", "seen", ""])
        for aim in self.aims:
            aims.add(aim.what, aim.aim, aim.seen, "reached" if aim.reached else "**missed**")
        parts += [section.markdown() for section in ([aims, *self.sections] if self.aims else self.sections)]
        parts += [f"![{title}]({file}.svg)\n" for file, (title, _) in self.bars.items()]
        return "\n".join(parts)

    @classmethod
    def kept(cls, folder: Path = PAGES, name: str = "figures") -> Report:
        """Return the findings that were written before."""
        kept = json.loads((folder / f"{name}.json").read_text())
        kept["sections"] = [Section(**section) for section in kept["sections"]]
        kept["aims"] = [Aim(**aim) for aim in kept["aims"]]
        return cls(**kept)

    def replace(self, later: Report) -> None:
        """Take over the sections of a later run, which say so. Those that are not here yet are added."""
        for section in later.sections:
            section.note = f"{section.note} From a separate run: {later.where}".strip()
            titles = [one.title for one in self.sections]
            if section.title in titles:
                self.sections[titles.index(section.title)] = section
            else:
                self.sections.append(section)
        aims = {aim.what: aim for aim in self.aims} | {aim.what: aim for aim in later.aims}
        self.aims = list(aims.values())
        self.bars |= later.bars

    def replace_rows(self, later: Report, note: str) -> None:
        """Take over the rows of those that a later run has measured; each section gets the note."""
        for section in later.sections:
            mine = next(one for one in self.sections if one.title == section.title)
            by_name: dict[str, list[list[str]]] = {row[0]: [] for row in [*mine.rows, *section.rows]}
            measured = {row[0] for row in section.rows}
            for row in [*(row for row in mine.rows if row[0] not in measured), *section.rows]:
                by_name[row[0]].append(row)
            mine.rows = [row for rows in by_name.values() for row in rows]
            mine.note = f"{mine.note} {note}"
        for file, (_, values) in later.bars.items():
            self.bars[file][1].update(values)

    def write(self, folder: Path = PAGES, name: str = "figures") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(self.markdown())
        (folder / f"{name}.json").write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        for file, (title, values) in self.bars.items():
            _plot(title, values, folder / f"{file}.svg")


def _plot(title: str, values: dict[str, float], path: Path) -> None:
    chart = pygal.HorizontalBar(
        title=title, style=CleanStyle, show_legend=False, print_values=True, js=[], height=60 + 34 * len(values)
    )
    chart.x_labels = list(values)
    chart.add("", list(values.values()), formatter=lambda v: f"{v:,.0f}" if v >= 10 else f"{v:.2g}")
    path.write_bytes(chart.render())


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.2f}".rstrip("0").rstrip(".")
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
