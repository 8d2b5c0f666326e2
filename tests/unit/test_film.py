"""A film: frames of a terminal in one SVG, each visible in its turn."""

from __future__ import annotations

import io
import re

import pytest

from tests.typed import present

pytest.importorskip("rich")

from rich.console import Console

from docs.film import film


def frame(markup):
    console = Console(width=20, record=True, file=io.StringIO(), force_terminal=True)
    console.print(markup)
    return console.export_svg(title="film")


FILM = film([(frame("one"), 1.0), (frame("[red]two[/]"), 3.0), (frame("[red]one[/]"), 1.0)], still=1)


def test_each_frame_is_visible_in_its_turn():
    times = re.findall(
        r"@keyframes frame-(\d)\{.*?([\d.]+)%\{visibility:visible\}([\d.]+)%\{visibility:hidden\}\}", FILM
    )
    assert times == [("0", "0.00", "20.00"), ("1", "20.00", "80.00"), ("2", "80.00", "100.00")]
    assert FILM.count("5.0s step-end -1.0s infinite") == 3  # it begins with the still


def test_without_motion_the_still_is_shown():
    assert ".frame{visibility:hidden} .frame-1{visibility:visible}" in FILM
    assert "@media (prefers-reduced-motion: reduce){.frame{animation:none}}" in FILM


def test_each_text_has_the_style_of_its_frame():
    styles = dict(re.findall(r"^\.(s\d+) \{ (.*?) \}$", FILM, re.M))
    red, plain = (
        styles[present(re.search(r'class="(s\d+)"[^>]*>two', FILM))[1]],
        styles[present(re.search(r'class="(s\d+)"[^>]*>one', FILM))[1]],
    )
    assert red != plain
    assert len(set(styles.values())) == len(styles)
    assert not re.search(r"terminal-\d", FILM)


def test_it_has_one_window_and_no_script():
    assert FILM.count("<svg") == FILM.count("</svg>") == FILM.count(">film<") == 1
    assert "<script" not in FILM


def test_another_picture_is_refused():
    with pytest.raises(ValueError, match="not a terminal's picture"):
        film([("<svg></svg>", 1.0)], still=0)
