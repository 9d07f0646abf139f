"""The layout of the pages: head, links, contents, groups of sections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .html import Markup, joined, tag
from .json_schema import Document

Group = tuple[str, str, Sequence[tuple[str, str]]]
"""A heading, its description, and its sections: anchor and name."""
SHAPES: Group = ("shapes", "The schemas of payloads and responses.", ())


def section(anchor: str, title: str, *content: str | Iterable[str] | None) -> Markup:
    heading = tag("h3", tag("a", title, href=f"#{anchor}"))
    return tag("section", heading, *content, id=anchor)


def group(group: Group, sections: Iterable[Markup]) -> Markup:
    name, about, _ = group
    title = tag("h2", name[0].upper() + name[1:], id=name.replace(" ", "-"))
    return joined(title, tag("p", about), sections)


def _navigation(groups: Iterable[Group]) -> Markup:
    return joined(
        *(
            joined(
                tag("a", name, href=f"#{name.replace(' ', '-')}"),
                tag("ul", *(tag("li", tag("a", text, href=f"#{to}")) for to, text in sections)),
            )
            for name, _, sections in groups
        )
    )


def page(
    title: str,
    document: Document,
    intro: Markup,
    groups: Sequence[Group],
    body: Iterable[Markup],
) -> str:
    pages = {
        "/docs": "REST and webhooks",
        "/docs/events": "Events",
        "/docs/openapi.json": "openapi.json",
        "/docs/asyncapi.json": "asyncapi.json",
    }
    links = [
        tag("a", text, href=to, **({"aria-current": "page"} if text == title else {}))
        for to, text in pages.items()
    ]
    name = f"{document['info']['title']} {document['info']['version']}"
    return "<!doctype html>" + tag(
        "html",
        tag(
            "head",
            Markup('<meta charset="utf-8">'),
            Markup('<meta name="viewport" content="width=device-width">'),
            tag("title", f"{title} · {name}"),
            Markup('<link rel="stylesheet" href="/docs/page.css">'),
        ),
        tag(
            "body",
            tag("a", "Skip to content", href="#text", class_="skip"),
            tag("header", tag("b", name), tag("nav", links, **{"aria-label": "Pages"})),
            tag("nav", _navigation(groups), id="contents", **{"aria-label": "Contents"}),
            tag(
                "main",
                tag("h1", title),
                intro,
                body,
                id="text",
            ),
        ),
        lang="en",
    )
