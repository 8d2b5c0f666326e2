"""`FastStreamSerializer`: bodies as a FastStream subscriber reads them."""

from __future__ import annotations

from typing import Any

from promoter_core.spi import ConfigError
from promoter_serializers.json_text import JsonSerializer
from promoter_serializers.raw_bytes import RawSerializer

_JSON, _RAW = JsonSerializer(), RawSerializer()


class FastStreamSerializer:
    """Bytes unchanged, including messages that FastStream has made; all other data as JSON text."""

    name = "faststream"

    def dumps(self, data: Any) -> bytes:
        """Pack data. Raises the errors of `JsonSerializer.dumps`."""
        return (_RAW if isinstance(data, bytes | bytearray | memoryview) else _JSON).dumps(data)

    def loads(self, payload: bytes, type: Any = None) -> Any:
        """Read JSON text; return other bytes unchanged."""
        if type is not None:
            raise ConfigError("faststream gives plain data or bytes and takes no type=: read bytes with FastStream")
        try:
            return _JSON.loads(payload)
        except ValueError:
            return payload
