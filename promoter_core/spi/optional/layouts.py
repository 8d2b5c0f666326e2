"""`LayoutSupport`: a backend whose keys, and the target of its due jobs, are those of a `Layout`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from promoter_core.spi.layouts import Layout


@runtime_checkable
class LayoutSupport(Protocol):
    """A backend that can deliver by any layout. Optional: `connect(url, layout=…)` needs it.

    Its target takes `BackendUrl.layout`, and works by that. All that `Backend` and the other protocols promise holds
    for every layout, with the target in the place of the stream. Where that is a list, `read` of StreamName.JOBS raises
    PermanentError, and `PromotedJob.stream_id` is empty.

    With an `in_place.InPlace`, jobs are those of another framework: what makes, lists or changes them raises
    PermanentError with `sentence()`. Nothing of theirs is trimmed: `overflow="trim"` raises PermanentError.
    """

    @property
    def layout(self) -> Layout:
        """The layout that it works by."""
        ...
