"""Dialogs: confirm an action, ask for a text, show a long text."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

CSS = """
Confirm, Ask, Show { align: center middle; }
Confirm Vertical, Ask Vertical { width: 76; max-width: 100%; height: auto; border: solid; padding: 0 1; }
Show VerticalScroll { width: 100%; height: 100%; border: solid; padding: 0 1; }
"""


class Confirm(ModalScreen[bool]):
    """Ask for confirmation. Only `y` confirms."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(f"{self._question}\n\ny: yes    n: no"))

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


class Ask(ModalScreen[str | None]):
    """Ask for a line of text; None if cancelled. `check` raises ValueError, with a message, for invalid text."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "back")]

    def __init__(self, question: str, text: str = "", check: Callable[[str], object] = str) -> None:
        super().__init__()
        self._question, self._text, self._check = question, text, check

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(self._question))
            yield Input(self._text, compact=True)
            yield Static(Text("enter: continue    escape: back"), id="answer")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        try:
            self._check(event.value.strip())
        except ValueError as exc:
            self.query_one("#answer", Static).update(Text(str(exc), style="bold"))
            return
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        self.dismiss(None)


class Show(ModalScreen[None]):
    """Show a text that can be scrolled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "leave", "back"),
        Binding("up,k", "scroll(-1)", "up", show=False),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("pageup", "scroll(-20)", "page up", show=False),
        Binding("pagedown,space", "scroll(20)", "page down", show=False),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield Static(Text.assemble((f"{self._title}    escape: back", "bold"), "\n\n", self._text))

    def action_scroll(self, by: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

    def action_leave(self) -> None:
        self.dismiss(None)
