"""docs/settings.md: names, defaults and bounds as the code reads them, and
what each is for as config/example.env says it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from environs import Env, validate

from chatserver.settings import SECRETS, _read

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config" / "example.env"
PAGE = ROOT / "docs" / "settings.md"
HEAD = """\
# Settings

Everything that can be set, by variables of the environment. A value that is not one stops the start with a
sentence that names its key; `chatserver doctor` checks them all. [config/example.env](../config/example.env)
is the same as a file to begin with. This page is made by `./scripts/protocol --write`.
"""


@dataclass(frozen=True)
class Read:
    """How the code reads a setting."""

    kind: str
    default: Any
    check: validate.Validator | None


class Reading:
    """An environment that notes how each key is read."""

    def __init__(self) -> None:
        self.read: dict[str, Read] = {}
        self._env = Env()

    def __getattr__(self, kind: str) -> Any:
        def read(key: str, default: Any, *, validate: Any = None) -> Any:
            self.read[key] = Read(kind, default, validate)
            return getattr(self._env, kind)(key, default, validate=validate)

        return read


def reads(**environment: str) -> dict[str, Read]:
    """How the code reads every key, in this environment."""
    reading = Reading()
    with patch.dict(os.environ, environment, clear=True):
        _read(reading)  # type: ignore[arg-type]
    return reading.read


@dataclass
class Setting:
    key: str
    example: str
    text: str


@dataclass
class Section:
    title: str
    intro: str = ""
    settings: list[Setting] = field(default_factory=list)


def sections(text: str) -> list[Section]:
    """What config/example.env has."""
    found: list[Section] = []
    words: list[str] = []
    for line in text.splitlines():
        if title := re.fullmatch(r"# --- (.+?) -+", line):
            found.append(Section(title[1]))
            words = []
        elif setting := re.fullmatch(r"#([A-Z_]+)=(.*)", line):
            found[-1].settings.append(Setting(setting[1], setting[2], " ".join(words)))
            words = []
        elif line.startswith("# "):
            words.append(line[2:])
        elif found and not found[-1].settings:
            found[-1].intro = " ".join(words)
            words = []
    return found


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return f"{value:,.10g}"


def takes(key: str, read: Read) -> str:
    """What a value may be."""
    match read.check:
        case validate.OneOf(choices=choices):
            return " or ".join(f"`{choice}`" for choice in choices)
        case validate.Range(min=minimum, max=maximum):
            within = (
                f"{_number(minimum)} or more"
                if maximum is None
                else f"{_number(minimum)} to {_number(maximum)}"
            )
            return f"seconds, {within}" if key.endswith("_S") else within
        case validate.Regexp(error=error):
            return error.rstrip(".").replace("Must start", "starts").removeprefix("Must be ")
    return "`true` or `false`" if read.kind == "bool" else ""


def default(key: str, usual: Read, production: Read) -> str:
    shown = f"`{_value(usual.default)}`" if _value(usual.default) else ""
    if production.default != usual.default:
        shown += f"; in production `{_value(production.default)}`"
    return "made in development" if key in SECRETS else shown


def page() -> str:
    """Returns docs/settings.md. Exits with a message if config/example.env differs from the code."""
    usual = reads()
    strict = reads(ENV="production", **dict.fromkeys(SECRETS, "s" * 32))
    found = sections(EXAMPLE.read_text())
    by_key = {setting.key: setting for section in found for setting in section.settings}
    if set(by_key) != set(usual):
        raise SystemExit(
            f"{EXAMPLE.name}: {sorted(set(by_key) ^ set(usual))} is here or there alone"
        )
    for key, setting in by_key.items():
        value = _value(usual[key].default)
        if not setting.text or (value and setting.example != value):
            raise SystemExit(f"{EXAMPLE.name}: {key} needs a text, and its default is {value!r}")
    return HEAD + "".join(_section(section, usual, strict) for section in found)


def _section(section: Section, usual: dict[str, Read], strict: dict[str, Read]) -> str:
    intro = f"{_text(section.intro, usual)}\n\n" if section.intro else ""
    rows = "".join(
        f"| `{setting.key}` | {default(setting.key, usual[setting.key], strict[setting.key])} | "
        f"{takes(setting.key, usual[setting.key])} | {_text(setting.text, usual)}{_instance(setting, usual[setting.key])} |\n"
        for setting in section.settings
    )
    return (
        f"\n## {section.title}\n\n{intro}| setting | default | takes | |\n|---|---|---|---|\n{rows}"
    )


def _instance(setting: Setting, read: Read) -> str:
    return (
        f" For instance `{setting.example}`."
        if setting.example and not _value(read.default)
        else ""
    )


def _text(text: str, keys: Iterable[str]) -> str:
    """With the names of settings, and values of theirs, as code."""
    names = "|".join(sorted(keys, key=len, reverse=True))
    return re.sub(rf"(?<![`\w])((?:{names}|OTEL_\w+)(?:=\w+)?)(?![`\w])", r"`\1`", text)
