"""The server is where PROMOTER_POSTGRES_URL says."""

import os

import pytest


@pytest.fixture(scope="session")
def server_url():
    url = os.environ.get("PROMOTER_POSTGRES_URL")
    if not url:
        pytest.skip("set PROMOTER_POSTGRES_URL=postgres://user:password@host:5432/database, a scratch database")
    return url
