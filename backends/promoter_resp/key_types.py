"""The types of keys, and which key of a queue has the wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from promoter_core.spi import BackendError, PermanentError, to_text
from promoter_resp.driver import Driver

WRONGTYPE = "WRONGTYPE"


async def type_of(driver: Driver, key: bytes) -> str:
    """Return the server's name of a key's type; "none" for a missing key."""
    reply = await driver.command(key, b"TYPE", key)
    return reply if isinstance(reply, str) else to_text(reply)  # GLIDE returns a status as text


async def name_key(error: PermanentError, driver: Driver, types: Mapping[bytes, str]) -> PermanentError:
    """Return the WRONGTYPE of a read of a queue, naming the key whose type is not that in `types`, and its type.

    Return it unchanged if the types cannot be read: the user may lack TYPE.
    """
    with suppress(BackendError):
        for key, wanted in types.items():
            found = await type_of(driver, key)
            if found not in (wanted, "none"):
                what = (
                    f"{WRONGTYPE}: the key {to_text(key)} is of type {found} and not {wanted}: another program wrote it"
                )
                return PermanentError(f"{what}; rename it, and the queue goes on", code=WRONGTYPE)
    return error
