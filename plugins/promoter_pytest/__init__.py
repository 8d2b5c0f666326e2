"""Adds `--promoter-url` to pytest. A separate package, so that not every pytest run imports Promoter."""

from __future__ import annotations

from typing import Any


def pytest_addoption(parser: Any) -> None:
    parser.getgroup("promoter").addoption(
        "--promoter-url", metavar="URL", help="the backend for pytest --pyargs promoter_core.testing.conformance.by_url"
    )
