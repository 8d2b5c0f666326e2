"""Which key of a queue holds another type of data than it should."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from promoter_core.spi import BackendError, PermanentError, to_text
from promoter_resp.driver import Driver

WRONGTYPE = "WRONGTYPE"


async def name_key(error: PermanentError, driver: Driver, types: Mapping[bytes, str]) -> PermanentError:
    """The error of a look at a queue, with the key that is not of its type in `types`, and with that type.

    The same error where it is another, or where the server does not tell: its user may lack TYPE.
    """
    if error.code != WRONGTYPE:
        return error
    with suppress(BackendError):
        for key, wanted in types.items():
            reply = await driver.command(key, b"TYPE", key)
            found = reply if isinstance(reply, str) else to_text(reply)  # GLIDE returns a status as text
            if found not in (wanted, "none"):
                what = (
                    f"{WRONGTYPE}: the key {to_text(key)} is of type {found} and not {wanted}: another program wrote it"
                )
                return PermanentError(f"{what}; rename it, and the queue goes on", code=WRONGTYPE)
    return error
