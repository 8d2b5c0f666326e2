"""A visitor of the pages of promoter_ui, without a server between, who checks each page that comes."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import httpx2

from promoter_ui import asgi_app

TOKEN = "a-token-that-nobody-guesses"
PLACES = re.compile(
    r"(?:#main|\./|(?:\./)?\?[\x21-\x7e]*|\./\?[\x21-\x7e]*|(?:queue|job|dead|leaders|act|login|logout|ui\.\w+)(?:\?[\x21-\x7e]*)?)"
)
LABELLED = ("input", "select")
VOID = {"meta", "link", "input", "br", "line", "rect", "polyline"}


class Page(HTMLParser):
    """What a page has, and what is wrong with it."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.fields: list[dict[str, str]] = []
        self.forms: list[str] = []
        self.wrong: list[str] = []
        self.words: list[str] = []
        self._labels: set[str] = set()
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.wrong += [f"not closed: {tag}" for tag in self._open]
        for field in self.fields:
            hidden = field.get("type") == "hidden"
            if not hidden and field.get("id") not in self._labels and "in-label" not in field:
                self.wrong.append(f"no label: {field}")

    def handle_starttag(self, tag, attrs):
        found = {name: value or "" for name, value in attrs}
        for name, value in found.items():
            if name.startswith("on") or name == "style":
                self.wrong.append(f"{tag} {name}")
            if name in ("href", "src", "action") and not PLACES.fullmatch(value.split("#jobs")[0]):
                self.wrong.append(f"{tag} {name}={value}")
        if tag == "script" and not found.get("src", "").startswith("ui.js"):
            self.wrong.append("a script")
        if tag in ("iframe", "object", "embed", "base", "img", "style"):
            self.wrong.append(tag)
        if tag == "th" and "scope" not in found:
            self.wrong.append("th without scope")
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "form":
            self.forms.append(found["action"])
        if tag == "label" and "for" in found:
            self._labels.add(found["for"])
        if tag in LABELLED:
            self.fields.append(found | ({"in-label": ""} if "label" in self._open else {}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"</{tag}> where another was open")

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def field(self, name: str) -> str:
        return next(field["value"] for field in self.fields if field.get("name") == name)


class Visitor:
    """Keeps cookies, as a browser does, and follows nothing by itself."""

    def __init__(self, app, base="http://localhost/", **headers):
        self.http = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url=base, headers={"accept": "text/html", **headers}
        )

    async def get(self, place="", status=200, **headers):
        answer = await self.http.get(place, headers=headers)
        assert answer.status_code == status, answer.text
        return self._checked(answer)

    async def post(self, place, fields, status=303, **headers):
        answer = await self.http.post(place, data=fields, headers=headers)
        assert answer.status_code == status, answer.text
        return answer if status == 303 else self._checked(answer)

    def _checked(self, answer):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        if "text/html" not in answer.headers["content-type"]:
            return answer.text
        page = Page(answer.text)
        assert not page.wrong, page.wrong
        return page

    async def follow(self, answer):
        return await self.get(answer.headers["location"])

    async def sign_in(self, token=TOKEN, status=303):
        page = await self.get("login")
        return await self.post("login", {"token": token, "form": page.field("form")}, status)

    async def aclose(self):
        await self.http.aclose()


async def visit(backend, queues="*", **options):
    """An application and a visitor of it."""
    app = asgi_app(backend, queues, **options)
    return app, Visitor(app)
