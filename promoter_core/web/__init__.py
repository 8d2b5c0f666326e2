"""HTTP pages of a process that promotes. Public: `serving`, for applications that embed a promoter."""

from promoter_core.web.server import parse_address, serving

__all__ = ["parse_address", "serving"]
