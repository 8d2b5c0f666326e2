"""Registers the serializers, including that of the core."""

from collections.abc import Iterable

from promoter_core.spi import SerializerSpec, hookimpl

PLAIN = ("builtins.bytes", "builtins.bytearray", "builtins.memoryview", "builtins.float", "non-text key")
TYPED = (
    "datetime.datetime",
    "datetime.date",
    "datetime.time",
    "datetime.timedelta",
    "decimal.Decimal",
    "uuid.UUID",
    "enum.Enum",
    "builtins.set",
    "builtins.frozenset",
    "collections.deque",
    "dataclass",
)


@hookimpl
def promoter_register_serializers() -> Iterable[SerializerSpec]:
    yield SerializerSpec(
        name="msgpack",
        summary="plain data as msgpack, the default",
        target="promoter_core.spi:MsgpackSerializer",
        types=PLAIN,
    )
    yield SerializerSpec(
        name="json",
        summary="plain data as JSON text",
        target="promoter_serializers.json_text:JsonSerializer",
        types=("builtins.int",),  # of any size
    )
    yield SerializerSpec(
        name="msgspec",
        summary="dataclasses, attrs classes, Structs, dates, UUIDs, decimals, enums and sets, as plain msgpack",
        target="promoter_serializers.with_msgspec:MsgspecSerializer",
        types=(*PLAIN, *TYPED, "attrs", "msgspec.Struct"),
        requires=("msgspec",),
        install="promoter-core[msgspec]",
    )
    yield SerializerSpec(
        name="pydantic",
        summary="models and all that a TypeAdapter takes, as plain msgpack",
        target="promoter_serializers.with_pydantic:PydanticSerializer",
        types=(*PLAIN, *TYPED, "pydantic.main.BaseModel", "pathlib.PurePath", "ipaddress._IPAddressBase"),
        requires=("pydantic",),
        install="promoter-core[pydantic]",
    )
    yield SerializerSpec(
        name="raw",
        summary="bytes as they are, such as the message of another framework",
        target="promoter_serializers.raw_bytes:RawSerializer",
    )
    yield SerializerSpec(
        name="faststream",
        summary="bytes as they are, all other data as JSON text, as FastStream reads them",
        target="promoter_serializers.faststream_body:FastStreamSerializer",
    )
