"""PromoterSettings: the reference's defaults, and one clear error for what cannot work."""

from __future__ import annotations

import dataclasses

import pytest

from promoter_core import ConfigError, Overflow, PromoterSettings
from tests.typed import untyped


def test_the_defaults_are_those_of_the_reference():
    s = PromoterSettings()
    assert (s.poll_interval_ms, s.promote_batch, s.max_stream_len, s.lock_ttl_ms) == (100, 256, 1_000_000, 5_000)
    assert (s.events, s.events_max_stream_len, s.overflow) == (True, 100_000, Overflow.HOLD)


def test_overflow_is_taken_as_text():
    assert PromoterSettings(overflow=untyped("trim")).overflow is Overflow.TRIM


NUMBERS = [f.name for f in dataclasses.fields(PromoterSettings) if "range" in f.metadata]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, 1.5, "7", None, True, 2**60])
def test_a_number_that_cannot_work_is_named_with_what_is_allowed(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} must be a whole number from \d+ to \d+, not "):
        PromoterSettings(**{name: value})


@pytest.mark.parametrize("name", sorted({*NUMBERS} - {"max_tick_ms"}))
def test_only_the_bound_of_a_tick_can_be_zero(name):
    assert PromoterSettings(max_tick_ms=0).max_tick_ms == 0
    with pytest.raises(ConfigError, match=name):
        PromoterSettings(**{name: untyped(0)})


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("overflow", "drop", "overflow must be 'hold' or 'trim', not 'drop'"),
        ("events", "yes", "events must be True or False"),
    ],
)
def test_other_settings_are_checked_too(field, value, problem):
    with pytest.raises(ConfigError, match=problem):
        PromoterSettings(**{field: value})


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        untyped(PromoterSettings()).promote_batch = 7


@pytest.mark.parametrize("name", ["queue", "holder_id"])
def test_neither_a_queue_nor_an_identity_is_a_setting(name):
    with pytest.raises(TypeError, match=name):
        PromoterSettings(**{name: untyped("q")})
