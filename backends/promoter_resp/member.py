"""The sorted set's member: a little-endian u32 with the name's length, the name, and the job's envelope."""

from __future__ import annotations


def encode_member(name: str, envelope: bytes) -> bytes:
    encoded = name.encode("utf-8", "surrogateescape")
    return len(encoded).to_bytes(4, "little") + encoded + envelope


def decode_member(member: bytes) -> tuple[str, bytes]:
    """The name and the envelope. Raises ValueError when it is malformed, by the rules of `scripts/promote.lua`."""
    if len(member) < 4:
        raise ValueError("shorter than its header")
    start = 4 + int.from_bytes(member[:4], "little")
    if start > len(member):
        raise ValueError("the name runs past the end")
    if start == len(member):
        raise ValueError("empty payload")
    return member[4:start].decode("utf-8", "surrogateescape"), member[start:]
