"""msgspec and pydantic: what they take comes back, others can read it, and nothing is lost silently."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import pathlib
from collections import OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import msgpack
import pytest

from tests.typed import untyped

pytest.importorskip("attrs")
pytest.importorskip("msgspec")
pytest.importorskip("pydantic")

import attrs
import msgspec
import pydantic
from pydantic_core import core_schema
from typing_extensions import TypedDict

from promoter_core import ConfigError, Envelope, JobError, Registry
from promoter_core.spi.wire import EnvelopePacker, unpack_envelope

WHEN = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ID = UUID("12345678-1234-5678-1234-567812345678")


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Kind(StrEnum):
    MAIL = "mail"


class Pair(NamedTuple):
    left: int
    right: str


class Part(TypedDict):
    b: bytes
    when: datetime


@dataclasses.dataclass
class Mail:
    to: str
    due: datetime
    id: UUID = ID
    price: Decimal = Decimal("1.10")
    colour: Colour = Colour.RED
    tags: set[str] = dataclasses.field(default_factory=lambda: {"a"})
    raw: bytes = b"text"
    sizes: dict[int, tuple[int, str]] = dataclasses.field(default_factory=lambda: {1: (2, "b")})
    wait: timedelta = timedelta(minutes=5)
    more: Any = None


@attrs.define
class Order:
    number: int
    when: date
    lines: list[Mail]


class Point(msgspec.Struct, tag=True):
    x: int
    at: time


class Other(msgspec.Struct, tag=True):
    y: int


class Person(pydantic.BaseModel):
    name: str
    born: date
    wealth: Decimal = Decimal("0.10")
    tags: set[int] = pydantic.Field(default_factory=lambda: {1})
    alias: int = pydantic.Field(default=1, alias="otherName")
    extra: Any = None


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, ser_json_bytes="base64", val_json_bytes="base64")
    when: datetime
    raw: bytes
    colour: Colour = Colour.RED


class Secretive(pydantic.BaseModel):
    token: pydantic.SecretStr


class Revealing(Secretive):
    @pydantic.field_serializer("token")
    def reveal(self, token):
        return token.get_secret_value()


def packed(name, data):
    found = Registry().serializer(name)
    return unpack_envelope(EnvelopePacker(found).pack("j", data, 0, index=True))


def round_trip(name, data, type=None):
    return packed(name, data).data(name, type)


MAIL = Mail("a@b.c", WHEN)
BOTH = [
    (MAIL, Mail),
    ([MAIL], list[Mail]),
    ({"mail": MAIL}, dict[str, Mail]),
    (WHEN, datetime),
    (WHEN.replace(tzinfo=None), datetime),
    (datetime(2030, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))), datetime),
    (date(2030, 1, 2), date),
    (time(3, 4, 5), time),
    (timedelta(days=1, microseconds=1), timedelta),
    (ID, UUID),
    (Decimal("1.10"), Decimal),
    (Decimal("1e400"), Decimal),
    (Colour.RED, Colour),
    (Level.HIGH, Level),
    (Kind.MAIL, Kind),
    ({1, 2}, set[int]),
    (frozenset([ID]), frozenset[UUID]),
    (Pair(1, "x"), Pair),
    ((1, ("x", 2.5)), tuple[int, tuple[str, float]]),
    ({1: "a", -(2**40): "b"}, dict[int, str]),
    ({ID: 1}, dict[UUID, int]),
    ({WHEN: 1}, dict[datetime, int]),
    (b"\xff\x00", bytes),
    ({"b": b"\xff", "when": WHEN}, Part),
    (2**64 - 1, int),
    (-(2**63), int),
    (None, str | None),
    (deque([1, 2]), list[int]),
    (math.inf, float),
]


@pytest.mark.parametrize("name", ["msgspec", "pydantic"])
@pytest.mark.parametrize(("data", "type"), BOTH, ids=lambda v: str(v)[:30])
def test_typed_data_comes_back(name, data, type):
    found = round_trip(name, data, type)
    assert found == (list(data) if isinstance(data, deque) else data)
    assert type in (Part, str | None) or isinstance(found, getattr(type, "__origin__", type))


@pytest.mark.parametrize("name", ["msgspec", "pydantic"])
def test_any_reader_of_msgpack_sees_plain_maps_and_text(name):
    plain = {
        "to": "a@b.c",
        "due": "2030-01-02T03:04:05.678901Z",
        "id": str(ID),
        "price": "1.10",
        "colour": "red",
        "tags": ["a"],
        "wait": "PT5M" if name == "pydantic" else "PT300S",
        "more": None,
    }
    job = packed(name, MAIL)
    for found in (msgpack.unpackb(job.payload, strict_map_key=False), job.data(), job.data(name)):
        assert {key: found[key] for key in plain} == plain


@pytest.mark.parametrize("name", ["msgspec", "pydantic"])
def test_plain_data_is_packed_as_the_default_packs_it(name):
    data = {"a": [1, 2.5, None, True, b"\xff", "ä"], 3: (4,), "o": OrderedDict(x=1), "d": defaultdict(int, y=2)}
    assert packed(name, data).payload == msgpack.packb(data)


@pytest.mark.parametrize("name", ["msgspec", "pydantic"])
def test_what_an_untyped_producer_wrote_can_be_read_with_a_type(name):
    payload = msgpack.packb({"to": "x", "due": "2030-01-02T03:04:05Z", "tags": ["b"]})
    mail = Envelope("j", payload, created_at_ms=0, attempt=0).data(name, Mail)
    assert mail == Mail("x", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), tags={"b"})


@pytest.mark.parametrize("name", ["msgspec", "pydantic"])
def test_producers_and_consumers_of_two_versions_understand_each_other(name):
    @dataclasses.dataclass
    class Old:
        a: int
        gone: int = 0

    @dataclasses.dataclass
    class New:
        a: int
        added: str = "default"

    @dataclasses.dataclass
    class Demanding:
        a: int
        added: str

    assert round_trip(name, Old(1, 2), New) == New(1)
    with pytest.raises(JobError, match="the data of job 'j' cannot be read with .* as .*Demanding: .*added"):
        round_trip(name, Old(1), Demanding)


def test_msgspec_takes_attrs_classes_and_structs():
    order = Order(7, date(2030, 1, 2), [MAIL])
    assert round_trip("msgspec", order, Order) == order
    union = [Point(1, time(2)), Other(3)]
    assert round_trip("msgspec", union, list[Point | Other]) == union


def test_msgspec_takes_subclasses_of_plain_types_within_objects():
    class Text(str):
        pass

    assert round_trip("msgspec", {"a": Mail(Text("x"), WHEN, more=deque([Text("y")]))})["a"]["more"] == ["y"]


def test_pydantic_takes_models_by_alias_and_with_what_they_hold():
    person = Person(name="Ada", born=date(1815, 12, 10), otherName=5, extra={"ip": 1})
    assert round_trip("pydantic", person, Person) == person
    assert round_trip("pydantic", {"people": [person]}, dict[str, list[Person]]) == {"people": [person]}
    assert round_trip("pydantic", person)["otherName"] == 5
    address = ipaddress.ip_address("10.0.0.1")
    assert round_trip("pydantic", [address], list[ipaddress.IPv4Address]) == [address]
    assert round_trip("pydantic", pathlib.Path("/x"), pathlib.Path) == pathlib.Path("/x")


def test_pydantic_reads_as_json_so_strict_models_and_base64_work():
    strict = Strict(when=WHEN, raw=b"\xff\x00")
    assert round_trip("pydantic", strict, Strict) == strict
    assert round_trip("pydantic", {1: strict}, dict[int, Strict]) == {1: strict}


class Celsius:
    """No model; it tells pydantic its schema."""

    def __init__(self, degrees):
        self.degrees = degrees

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        written = core_schema.plain_serializer_function_ser_schema(lambda value: value.degrees)
        return core_schema.no_info_after_validator_function(cls, core_schema.float_schema(), serialization=written)


def test_pydantic_takes_a_class_that_tells_its_schema():
    job = packed("pydantic", {"now": Celsius(21.5)})
    assert job.data() == {"now": 21.5}
    assert job.data("pydantic", dict[str, Celsius])["now"].degrees == 21.5


def test_pydantic_prefers_the_first_of_a_union_whatever_was_read_before():
    class Left(pydantic.BaseModel):
        x: int

    class Right(pydantic.BaseModel):
        x: int

    for first, second in ((Left, Right), (Right, Left)):
        (found,) = round_trip("pydantic", [{"x": 1}], untyped(list)[untyped(first) | second])
        assert type(found) is first


def test_a_secret_is_refused_and_not_replaced_by_its_mask():
    with pytest.raises(JobError, match=r"data\['s'\]\[0\]\.token is a secret, .*field_serializer"):
        packed("pydantic", {"s": [Secretive(token=pydantic.SecretStr("hush"))]})
    assert round_trip("pydantic", Revealing(token=pydantic.SecretStr("hush")), Revealing) == Revealing(
        token=pydantic.SecretStr("hush")
    )
    assert round_trip("pydantic", {"text": "**********"}) == {"text": "**********"}


def test_private_fields_that_msgspec_leaves_out_are_refused():
    @attrs.define
    class Private:
        _x: int

    assert "_x" not in msgspec.to_builtins(Private(1)), "which is why"
    for data in (Private(1), {"a": [Private(1)]}, Mail("x", WHEN, more=[Private(1)])):
        with pytest.raises(JobError, match=r"Private, whose private field '_x' msgspec leaves out: rename the field"):
            packed("msgspec", data)


@pytest.mark.parametrize("slots", [True, False])
@pytest.mark.parametrize("name", ["msgspec", "pydantic"])
def test_private_fields_of_dataclasses_come_back(name, slots):
    @dataclasses.dataclass(slots=slots)  # type: ignore[literal-required]
    class Private:
        x: int
        _hidden: int

    assert round_trip(name, Private(1, 2), Private) == Private(1, 2)


def test_the_errors_of_pydantic_do_not_show_the_data():
    with pytest.raises(JobError, match="Person: born: Input should be a valid date") as raised:
        round_trip("pydantic", {"name": "Ada", "born": "a-secret-text"}, Person)
    assert "a-secret-text" not in str(raised.value)
    with pytest.raises(JobError, match="; 5 more"):
        round_trip("pydantic", ["secret"] * 8, list[int])


CANNOT = [
    (
        "msgpack",
        {"due": WHEN},
        "data['due'] is a datetime.datetime: msgpack cannot pack it; serializers that can: msgspec",
    ),
    (
        "msgpack",
        [MAIL],
        "data[0] is a tests.plugins.test_serializers.Mail: msgpack cannot pack it; serializers that can:",
    ),
    (
        "msgpack",
        {"n": 10**5000},
        "data['n'] is an int of 16610 bits, beyond 64 bits: msgpack cannot pack it; serializers",
    ),
    ("msgpack", {"p": Person(name="", born=WHEN.date())}, "can: pydantic (installed), or convert it"),
    ("json", {"b": b"x"}, "data['b'] is bytes: json cannot pack it; serializers that can: msgpack, msgspec, pydantic"),
    ("json", {"a": {1: 2}}, "data['a'] key 1 is an int: json cannot pack it; serializers that can: msgpack, msgspec"),
    ("json", [{True: 2}], "data[0] key True is a bool: json cannot pack it"),
    ("json", {"f": [math.nan]}, "data['f'][0] is nan"),
    (
        "json",
        ["\ud800"],
        "data[0] is text that is not valid Unicode (a lone surrogate): json cannot pack it; convert it",
    ),
    ("json", {"s": {1}}, "data['s'] is a set: json cannot pack it; serializers that can: msgspec, pydantic"),
    ("msgspec", {"m": [Mail("", WHEN, more=object())]}, "data['m'][0].more is an object: msgspec cannot pack it"),
    ("msgspec", {"m": {object(): 1}}, "data['m'] key <object object at"),
    ("msgspec", {"s": {object()}}, "data['s']{…} is an object: msgspec cannot pack it; convert it"),
    ("msgspec", Mail("\ud800", WHEN), "data.to is text that is not valid Unicode"),
    ("msgspec", Mail("", WHEN, more=2**64), "data.more is 18446744073709551616, beyond 64 bits: msgspec cannot pack"),
    ("msgspec", [Person(name="", born=WHEN.date())], "data[0] is a tests.plugins.test_serializers.Person: msgspec"),
    (
        "pydantic",
        Person(name="", born=WHEN.date(), extra=[object()]),
        "data.extra[0] is an object (Unable to serialize",
    ),
    ("pydantic", [Order(1, WHEN.date(), [])], "Order (Unable to serialize unknown type"),
    ("pydantic", [Mail("", WHEN, raw=b"\xff")], "data[0] is a tests.plugins.test_serializers.Mail ('utf-8' codec"),
    ("pydantic", Person(name="", born=WHEN.date(), extra=2**64), "data.extra is 18446744073709551616, beyond 64 bits"),
]


@pytest.mark.parametrize(("name", "data", "message"), CANNOT)
def test_what_cannot_be_packed_is_named_with_its_path_and_the_choices(name, data, message):
    with pytest.raises(JobError) as raised:
        packed(name, data)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["msgpack", "json", "msgspec", "pydantic"])
def test_a_circle_is_refused(name):
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(JobError, match="nested more than 500 deep"):
        packed(name, circle)


@pytest.mark.parametrize("name", ["json", "msgspec", "pydantic"])
@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x92\x01", b"\xff\xfe", b"\x91" * 5000, b"\xd9\x01\xff"])
def test_bytes_that_are_nothing_are_a_job_error(name, payload):
    if name == "json" or payload != b"\xff\xfe":  # which is a number and a rest
        with pytest.raises(JobError, match="the data of job 'j' cannot be read"):
            Envelope("j", payload, created_at_ms=0, attempt=0).data(name)


@pytest.mark.parametrize("name", ["msgspec", "pydantic"])
def test_types_that_cannot_be_hashed_or_make_no_sense(name):
    from typing import Annotated

    class Unhashable:
        __hash__ = untyped(None)

    assert round_trip(name, 5, Annotated[int, Unhashable()]) == 5
    with pytest.raises((JobError, ConfigError), match="cannot be read with"):
        round_trip(name, 5, 5)
