"""Serializers of the data of jobs, a file for each: `json`, `msgspec` and `pydantic`.

`msgspec` and `pydantic` write msgpack: objects become maps, and what msgpack has no type for becomes text, as in JSON.
`msgpack` itself is in the core.
"""
