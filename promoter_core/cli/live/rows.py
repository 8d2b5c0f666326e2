"""`Rows`: a list with a cursor, which draws only its visible rows. Text is never interpreted as markup."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from promoter_core.cli.live.frame import Column, line

Row = tuple[str, bool]  # the key, and whether the row is highlighted
Cells = Callable[[str], tuple[str, ...]]  # from a row's key; called for visible rows only


class Rows(Widget, can_focus=True):
    """The list. The cursor follows its row when rows move."""

    DEFAULT_CSS = "Rows { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "page down", show=False),
        Binding("home,g", "move(-1000000)", "first", show=False),
        Binding("end,G", "move(1000000)", "last", show=False),
        Binding("enter", "open", "open", show=False),
    ]

    class Opened(Message):
        """Enter was pressed on a row."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class Moved(Message):
        """The cursor or the window has moved."""

    def __init__(self, *, id: str, empty: str) -> None:
        super().__init__(id=id)
        self._columns: Sequence[Column] = ()
        self._rows: Sequence[Row] = ()
        self._cells: Cells = lambda key: ()
        self._at = self._top = 0
        self._touched = False  # while false, the cursor stays on the first row
        self._stands_out = "bold" if "NO_COLOR" in os.environ else "bold red"
        self.empty = empty

    @property
    def key(self) -> str | None:
        """The key of the row under the cursor; None if the list is empty."""
        return self._rows[self._at][0] if self._rows else None

    @property
    def seen(self) -> list[str]:
        """The keys of the visible rows."""
        return [key for key, _ in self._rows[self._top : self._top + self._height]]

    @property
    def _height(self) -> int:
        return max(self.size.height - 1, 1)

    def show(self, columns: Sequence[Column], rows: Sequence[Row], cells: Cells) -> None:
        """Replace the rows. The cursor follows its row; if that is gone, it keeps its position."""
        key, offset = self.key, self._at - self._top
        self._columns, self._rows, self._cells = columns, rows, cells
        place = next((i for i, row in enumerate(rows) if row[0] == key), None) if self._touched else 0
        self._at = max(min(self._at, len(rows) - 1), 0) if place is None else place
        self._top = max(self._at - offset, 0)
        self._settle()
        self.refresh()

    def action_move(self, by: int) -> None:
        self._touched = bool(self._rows)
        self._at = max(min(self._at + by, len(self._rows) - 1), 0)
        self._settle()
        self.refresh()
        self.post_message(self.Moved())

    def action_page(self, by: int) -> None:
        self.action_move(by * self._height)

    def action_open(self) -> None:
        if (key := self.key) is not None:
            self._touched = True
            self.post_message(self.Opened(key))

    def on_resize(self) -> None:
        self._settle()
        self.post_message(self.Moved())

    def _settle(self) -> None:
        """Scroll so that the cursor is visible and the window is full."""
        self._top = min(self._top, self._at, max(len(self._rows) - self._height, 0))
        self._top = max(self._top, self._at - self._height + 1)

    def render(self) -> Text:
        width = max(self.size.width - 2, 20)
        text = Text("  " + line(self._columns, [column.title for column in self._columns], width), style="bold")
        text.no_wrap = True
        if not self._rows:
            text.append(f"\n  {self.empty}", style="not bold")
        for i in range(self._top, min(self._top + self._height, len(self._rows))):
            key, stands_out = self._rows[i]
            mark = "› " if i == self._at else "! " if stands_out else "  "
            style = "reverse" if i == self._at else self._stands_out if stands_out else "not bold"
            text.append("\n")
            text.append(mark + line(self._columns, self._cells(key), width), style=style)
        return text
