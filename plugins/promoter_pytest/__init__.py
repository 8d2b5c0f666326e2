"""Adds `--promoter-url` and related options to pytest. A separate package, so that not every run imports Promoter."""

from __future__ import annotations

from typing import Any

KIT = "pytest --pyargs promoter_core.testing.conformance.by_url"


def pytest_addoption(parser: Any) -> None:
    add = parser.getgroup("promoter").addoption
    add("--promoter-url", metavar="URL", help=f"the backend for {KIT}")
    add("--promoter-second-url", metavar="URL", help="another way to the same store, for tests of two processes")
    add("--promoter-unreachable-url", metavar="URL", help="a backend of that kind whose store cannot be reached")
