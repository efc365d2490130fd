"""Passwords, tokens and keys: found in texts and configs, and left out of all that is written.

One parser for URLs (RFC 3986: userinfo, query), for `NAME=VALUE` of names that are a credential's,
and for configs. Where a text can be read in two ways, the one that hides more is taken: a password
may hold `@`, `/`, `?` and quotes that nobody encoded.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

MASK = "***"
"""What stands in the place of a secret."""

REFERENCES = "references"
"""Node of a resolved config: dotted path -> text with `${oc.env:NAME}`, which is what is stored."""

DECIDES = ("model", "technique", "optim", "trainer", "seed", "seeds", "stop_degenerate",
           "score_earlier", "shared_head")  # fmt: skip
"""Nodes that enter the key, stored as they are; of `task` all but what names files."""
OF_FILES = ("data_dir", "train", "validation", "test", "fetch", "about")

URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*)://(\S+)")
WHOLE_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.+)", re.DOTALL)
AUTHORITY = re.compile(r"[^/?#\s\"'<>,\\]*")
QUERY = re.compile(r"([?&;#]|\\u0026|&amp;)([\w.%\[\]-]+)=([^&\s\"'<>\\]+)")
ASSIGNED = re.compile(r"([\w.-]+)(=)(\"[^\"]*\"|'[^']*'|(?:\$\{[^}]*\}|[^\s\"'&,;)}\]])+)")
IN_A_MAP = re.compile(r"([\"'])([\w.-]+)\1(\s*:\s*)(\"(?:[^\"\\]|\\.)*\"|'[^']*')")
IN_YAML = re.compile(r"^(\s*(?:- )?)([\w.-]+)(:[ \t]+)([^\s#].*)$", re.MULTILINE)
HEADER = re.compile(
    r"(authorization\W{1,4}(?:(?:bearer|basic|token|digest)\s+)?)"
    r"((?!bearer|basic|token|digest)[\w.~+/=-]{6,})",
    re.IGNORECASE,
)
HINT = re.compile(r"://|pass|pwd|secret|token|key|cred|auth|sig|jwt|amz", re.IGNORECASE)

USER_ALONE = (
    *("ssh", "sftp", "ftp", "git", "svn", "s3", "hdfs", "smb", "nfs", "file", "ldap", "sqlite"),
    *("postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle", "mongodb", "redis", "amqp"),
)
"""Schemes in which a name without a password is a user's; elsewhere it is a token."""
NAMES = ("password", "passwd", "passphrase", "pwd", "secret", "apikey", "credential", "credentials")
KEYS = ("api", "access", "private", "secret", "account", "ssh", "ssl", "auth", "shared")
PIECES = (
    *("pad", "cls", "mask", "sep", "unk", "bos", "eos", "special", "image", "word", "start", "end"),
    *("per", "max", "min", "n", "first", "last", "eval", "id", "decoder", "boi", "eoi", "audio"),
)
"""Words before `token` of what a tokenizer knows: no credentials."""
IN_QUERIES = ("sig", "signature", "auth", "pass", "pw", "key", "jwt", "authorization", "code")
TOKEN_LENGTH = 20  # characters; a user's name that is longer, or has such a beginning, is a token
TOKEN = re.compile(r"gh[a-z]_|github_pat_|hf_|glpat-|xox[a-z]-|sk-|AKIA|eyJ")


def cleaned(text: str) -> str:
    """A text without the passwords, tokens and keys in it; the same text if it has none."""
    if not HINT.search(text):
        return text
    if "://" in text:
        text = URL.sub(_without_userinfo, text)
    if "=" in text:
        text = QUERY.sub(_without_parameter, text)
        text = ASSIGNED.sub(_without_value, text)
    if ":" in text:
        text = IN_A_MAP.sub(_without_entry, text)
        text = IN_YAML.sub(_without_line, text)
        text = HEADER.sub(lambda m: m[1] + MASK, text)
    return text


def cleaned_value(text: str) -> str:
    """One value or one `KEY=VALUE` without its secrets: a URL in it reaches to its end."""
    if not HINT.search(text):
        return text
    if "://" in text:
        text = WHOLE_URL.sub(_without_userinfo, text)
    name, sign, value = text.partition("=")
    if sign and is_secret(name) and _is_value(value):
        return f"{name}={MASK}"
    return cleaned(text)


def cleaned_command(line: str) -> str:
    """A command line without secrets, spaces and quotes in a password included."""
    if not HINT.search(line):
        return line
    try:
        words = shlex.split(line)
    except ValueError:
        return cleaned(line)
    said = [_cleaned_word(words, n) for n in range(len(words))]
    return line if said == words else shlex.join(said)


def _cleaned_word(words: list[str], n: int) -> str:
    """`--token VALUE`, too."""
    before = words[n - 1] if n else ""
    if before.startswith("--") and "=" not in before and is_secret(before) and words[n][:1] != "-":
        return MASK
    return cleaned_value(words[n])


def cleaned_tree(value: Any, name: str = "") -> Any:
    """JSON values without secrets: those of URLs, and values whose name is a credential's."""
    if isinstance(value, Mapping):
        return {key: cleaned_tree(one, str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned_tree(one, name) for one in value]
    if not isinstance(value, str):
        return value
    if name == "command":
        return cleaned_command(value)
    if is_secret(name) and _is_value(value):
        return MASK
    return cleaned(value) if "\n" in value else cleaned_value(value)


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Whether the value of a knob, variable or field of this name is a credential."""
    last = re.split(r"[.\[\]]", name.strip("-+~\"' "))[-1]
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", last).lower().replace("-", "_").split("_")
    before = words[-2] if len(words) > 1 else ""
    if words[-1] == "token":
        return before not in PIECES
    if words[-1] == "key":
        return before in KEYS
    return words[-1].endswith(NAMES)


def is_cleaned(text: str) -> bool:
    """Whether a secret was taken out of a text."""
    return MASK in text


# --- configs -------------------------------------------------------------------------------------


def stored(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved config as it may lie on a disk: references instead of what they stand for, no
    secrets; knobs that enter the key as they are."""
    found: dict[str, Any] = {}
    for name, node in cfg.items():
        if name == "task" and isinstance(node, Mapping):
            found[name] = {k: cleaned_tree(v) if k in OF_FILES else v for k, v in node.items()}
        elif name != REFERENCES:
            found[name] = node if name in DECIDES else cleaned_tree(node, str(name))
    for path, text in cfg.get(REFERENCES, {}).items():
        _put(found, path.split("."), text)
    return found


def literals(cfg: Mapping[str, Any]) -> list[str]:
    """Dotted paths of knobs of loggers that hold a secret itself, not a reference to it."""
    node, clean = cfg.get("logger"), stored(cfg).get("logger")
    return [path for path, text in _differing(node, clean, "logger") if is_cleaned(text)]


def _differing(node: Any, clean: Any, path: str) -> Iterator[tuple[str, str]]:
    """Path and what is stored, where that is not what was given."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _differing(value, clean[key], f"{path}.{key}")
    elif isinstance(node, list):
        for value, one in zip(node, clean, strict=True):
            yield from _differing(value, one, path)
    elif node != clean:
        yield path, str(clean)


def _put(node: Any, parts: list[str], value: str) -> None:
    """Set what is at a path, if it is there."""
    for n, part in enumerate(parts):
        name, *numbers = re.split(r"[\[\]]+", part.rstrip("]"))
        steps: list[str | int] = [name, *map(int, filter(None, numbers))]
        for m, step in enumerate(steps):
            if n == len(parts) - 1 and m == len(steps) - 1:
                node[step] = value
                return
            node = node[step]


# --- the parser ----------------------------------------------------------------------------------


def _without_userinfo(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    host = AUTHORITY.match(rest)
    authority = host.group() if host is not None else ""
    user, colon, port = authority.rpartition(":")
    is_port = not port or port.isdigit() or authority.endswith("]")
    if "@" in authority or (colon and (not is_port or _is_name(user))):
        userinfo, at, place = rest.rpartition("@")
        if at:
            return f"{scheme}://{_shown(userinfo, scheme)}@{place}"
    return match.group()


def _is_name(user: str) -> bool:
    """What stands where a host may stand, and is none that has a domain: `bob:12/34@host`."""
    return bool(user) and "." not in user and user != "localhost" and "[" not in user


def _shown(userinfo: str, scheme: str) -> str:
    """The user's name, and the mask in the place of what is secret."""
    user, colon, password = userinfo.partition(":")
    if userinfo.startswith("${") or user.startswith("${"):  # a reference, with its colon
        return userinfo if re.fullmatch(r"(\$\{oc\.env:[^}]*\}:?)+", userinfo) else MASK
    if re.fullmatch(r"(\$\{oc\.env:[^}]*\})+", password):
        return userinfo
    if not colon:
        parts = scheme.lower().split("+")
        of_user = parts[0] in USER_ALONE and not parts[-1].startswith("http")
        return userinfo if of_user or "ssh" in parts else MASK
    token = TOKEN.match(user) or len(user) > TOKEN_LENGTH or password in ("", "x-oauth-basic")
    return MASK if token else f"{user}:{MASK}"


def _without_parameter(match: re.Match[str]) -> str:
    sign, name, value = match.groups()
    plain = unquote(name)
    words = re.split(r"[-_.\[\]]", plain.lower())
    secret = is_secret(plain) or plain.lower() in IN_QUERIES or "amz" in words
    return f"{sign}{name}={MASK}" if secret and _is_value(value) else match.group()


def _without_value(match: re.Match[str]) -> str:
    name, sign, value = match.groups()
    return f"{name}{sign}{MASK}" if is_secret(name) and _is_value(value) else match.group()


def _without_entry(match: re.Match[str]) -> str:
    quote, name, sign, value = match.groups()
    hidden = is_secret(name) and _is_value(value[1:-1])
    return f"{quote}{name}{quote}{sign}{value[0]}{MASK}{value[0]}" if hidden else match.group()


def _without_line(match: re.Match[str]) -> str:
    before, name, sign, value = match.groups()
    hidden = is_secret(name) and _is_value(value.strip("\"'"))
    return f"{before}{name}{sign}'{MASK}'" if hidden else match.group()


def _is_value(value: str) -> bool:
    """Whether it is there to hide: no reference, no mask, nothing that only says there is none."""
    plain = value.strip("\"' ")
    empty = plain.lower() in ("", "null", "none", "true", "false", "~", MASK)
    return not empty and re.fullmatch(r"(\$\{oc\.env:[^}]*\})+", plain) is None
