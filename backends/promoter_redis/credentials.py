"""`Rotating`: a user and a password that are requested for every new connection."""

from __future__ import annotations

from typing import Any

from redis.credentials import CredentialProvider

from promoter_core.spi import Credentials


class Rotating(CredentialProvider):  # type: ignore[misc]  # redis-py is not type-checked
    """A credential provider for redis-py.

    Before version 5.1, it is not asynchronous and needs `before_connecting` first.
    """

    def __init__(self, ask: Credentials) -> None:
        self._ask = ask
        self._latest: Any = None

    async def before_connecting(self) -> None:
        if not hasattr(CredentialProvider, "get_credentials_async"):
            await self.get_credentials_async()

    def get_credentials(self) -> Any:
        return self._latest

    async def get_credentials_async(self) -> Any:
        user, password = await self._ask()
        self._latest = (user, password) if user else (password,)
        return self._latest
