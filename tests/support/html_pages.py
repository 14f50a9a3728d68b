"""Read a page back with html.parser: what is open is closed, and every element can be asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

NASTY = (
    "</script></pre><script>alert(1)</script><img src=x onerror=alert(2)>\"' onload=alert(3) \x00\x1b[31m\u202e &amp;"
)
"""Text that a page must show and not obey."""

VOID = {"br", "col", "hr", "input", "link", "meta"}


@dataclass
class Node:
    tag: str
    attrs: dict[str, str | None]
    parent: Node | None = None
    children: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    def all(self, tag: str | None = None, **attrs: str) -> list[Node]:
        """Elements below this one, in order, by tag and attributes (``class_`` is a word of class)."""
        found = []
        for c in self.children:
            if isinstance(c, Node):
                if tag in (None, c.tag) and all(_has(c, k, v) for k, v in attrs.items()):
                    found.append(c)
                found += c.all(tag, **attrs)
        return found

    def one(self, tag: str | None = None, **attrs: str) -> Node:
        (node,) = self.all(tag, **attrs)
        return node

    def within(self, tag: str) -> list[Node]:
        """The elements around this one that have a tag."""
        around = [] if self.parent is None else self.parent.within(tag)
        return [*around, self] if self.tag == tag else around


def _has(node: Node, name: str, value: str) -> bool:
    if name == "class_":
        return value in (node.attrs.get("class") or "").split()
    return node.attrs.get(name.replace("_", "-")) == value


def parse(text: str) -> Node:
    """The document; raises AssertionError where an end tag does not match, or one is missing."""
    root = Node("", {})
    at = [root]

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert len({k for k, _ in attrs}) == len(attrs), f"{tag} has an attribute twice"
            node = Node(tag, dict(attrs), at[-1])
            at[-1].children.append(node)
            if tag not in VOID:
                at.append(node)

        def handle_endtag(self, tag: str) -> None:
            assert at[-1].tag == tag, f"</{tag}> closes <{at[-1].tag}>"
            at.pop()

        def handle_data(self, data: str) -> None:
            at[-1].children.append(data)

    parser = Parser(convert_charrefs=True)
    parser.feed(text)
    parser.close()
    assert at == [root], f"<{at[-1].tag}> is not closed"
    return root
