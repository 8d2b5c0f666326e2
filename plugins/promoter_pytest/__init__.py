"""Tells pytest of `--promoter-url`. In a package of its own, so that every pytest run does not import Promoter."""

from __future__ import annotations

from typing import Any


def pytest_addoption(parser: Any) -> None:
    parser.getgroup("promoter").addoption(
        "--promoter-url", metavar="URL", help="the backend for pytest --pyargs promoter_core.testing.conformance.by_url"
    )
