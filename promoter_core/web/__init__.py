"""HTTP pages of a process that promotes. Public: `serving`; applications that embed a promoter use it too."""

from promoter_core.web.server import parse_address, serving

__all__ = ["parse_address", "serving"]
