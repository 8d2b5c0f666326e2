"""Serializers for the data of jobs, a file for each: `json`, `msgspec` and `pydantic`.

`msgspec` and `pydantic` write msgpack: objects become maps, and types that msgpack lacks become text, as in JSON.
`msgpack` itself is in the core.
"""
