"""The example applications of docs/examples/apps, on memory:// and on a real server."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from ulid import ULID

from promoter_core.sync import DelayedQueue, connect
from promoter_resp.backend import RespBackend

APPS = Path(__file__).parents[2] / "docs/examples/apps"


def load(name, url, monkeypatch):
    """The module of an application, as for the store at `url`."""
    monkeypatch.setenv("PROMOTER_URL", url)
    spec = importlib.util.spec_from_file_location(name, APPS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # as Django and pydantic look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["memory", pytest.param("valkey", marks=pytest.mark.server)])
def url(request):
    """The URL of a store without jobs."""
    if request.param == "memory":
        return f"memory://{ULID()}"
    if not hasattr(RespBackend, "list_jobs"):
        pytest.skip("this backend does not list jobs")
    server = request.getfixturevalue("server")
    return server.url


@pytest.fixture
def mails(url):
    """The queue of an application that blocks."""
    with connect(url) as backend:
        yield DelayedQueue(backend, "mails")


def environment(url, **variables):
    return os.environ | {"PROMOTER_URL": url} | variables
