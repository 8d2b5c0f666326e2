"""`LayoutSupport`: a backend whose keys and target are defined by a `Layout`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from promoter_core.spi.layouts import Layout


@runtime_checkable
class LayoutSupport(Protocol):
    """A backend that can deliver by any layout. Optional: `connect(url, layout=…)` needs it.

    Its target function takes the layout from `BackendUrl.layout`. All obligations of `Backend` and the other protocols
    hold for every layout, with the layout's target instead of the stream. If the target is a list, `read` of
    StreamName.JOBS raises PermanentError, and `PromotedJob.stream_id` is empty.

    With an `in_place.InPlace`, jobs belong to another framework. Methods that create, list or change them raise
    PermanentError with `sentence()`. Nothing of that framework is trimmed: `overflow="trim"` raises PermanentError.
    """

    @property
    def layout(self) -> Layout:
        """The backend's layout."""
        ...
