"""`report.html`: one file that opens from disk, asks no network, and executes no name.

The template, the style and the scripts lie in `assets/`, those of sections in `assets/sections/`.
The data are one JSON value in a block that no browser executes; the script writes them as text
only. A content security policy allows this one script, known by its hash, and nothing from outside.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

ASSETS = files("bluestab.report") / "assets"


def page_html(data: Any) -> str:
    """The page of `page_data`. Names in it may hold quotes, markup or anything else."""
    style = _asset("page.css")
    script = _script([section["name"] for section in data["sections"]])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    words = [*data["headlines"], *data["advice"]]
    said = [html.escape(one["text"]) for one in words if one["at"] == data["at"]]
    parts = {
        "title": html.escape(str(data["name"])),
        "policy": f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'",
        "style": style,
        "without_script": "".join(f"<p>{text}</p>" for text in said),
        "data": embedded(data),
        "script": script,
    }
    pieces = _asset("page.html").split("@@")  # text, name, text, name, ..., text
    return "".join(parts[p] if i % 2 else p for i, p in enumerate(pieces))


def embedded(data: Any) -> str:
    """JSON that may stand in a script block: ASCII, and no sign that HTML knows."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _script(sections: Sequence[str]) -> str:
    """All scripts as one function; that of a section is a block, whose names are its own."""
    own = [f"sections/{name}.js" for name in sections if (ASSETS / f"sections/{name}.js").is_file()]
    drawn = [f"{{\n{_asset(name)}}}" for name in own]
    parts = [_asset("core.js"), _asset("charts.js"), *drawn, _asset("page.js")]
    return "\n".join(["(() => {", '"use strict";', *parts, "})();"])


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
