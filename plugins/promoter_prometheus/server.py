"""Serve a page for GET requests, from separate threads, until the process ends."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Page = Callable[[], tuple[bytes, str]]

GZIP_LEVEL = 1  # fastest


def serve(addr: str, port: int, page: Page) -> int:
    """Start the server and return its port, which is a free one for 0. Raises OSError when it cannot listen there."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30.0  # seconds per request

        def do_GET(self) -> None:  # the method name that http.server requires
            body, content_type = page()
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                body = gzip.compress(body, GZIP_LEVEL)
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Do not log scrapes."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in addr else socket.AF_INET
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore a client that has disconnected."""

    server = Server((addr, port), Handler)
    threading.Thread(target=server.serve_forever, name="promoter-prometheus", daemon=True).start()
    return int(server.server_address[1])
