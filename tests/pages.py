"""Reading the HTML pages that the software writes."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Elements with their attributes and texts, tables by row, and what it points to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append({"text": "", **found})

    def handle_endtag(self, tag: str) -> None:
        assert tag in ("polyline", "circle", "line", "polygon", "rect") or self.open[-1] == tag, tag
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.text += data
        if self.rows and ("td" in self.open or "th" in self.open) and "small" not in self.open:
            self.rows[-1][-1]["text"] += data


def assert_stands_alone(text: str) -> Page:
    page = Page(text)
    assert page.open == []
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            target = attributes.get(name, "")
            assert target.startswith(("data:", "#")) or not target, (tag, target)
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"][1:] for t, a in page.tags if t == "a"} <= ids
    styles = "".join(re.findall(r"<style>.*?</style>", text, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles
    (policy,) = (a["content"] for _, a in page.tags if "Content-Security-Policy" in a.values())
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert ("html", {"lang": "en"}) in page.tags
    for tag, attributes in page.tags:
        if tag == "img":
            assert attributes["alt"]
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
    charts = [a for t, a in page.tags if t == "svg" and a.get("class") == "chart"]
    assert all(a["role"] == "img" for a in charts)
    assert text.count("<title>") == 1 + len(charts)
    return page
