"""Reading the text of alarm rules, and noticing where YAML makes something else of it than was written (pure).

YAML 1.1 reads a bare `off` as false, `0755` as an octal number, `22:00` as a number to the base 60 and `1e3` as text,
and takes the last of several equal keys. JSON is YAML, but for `1e3`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

Path = tuple[str, ...]
"""Keys and indices that lead to a value."""

_BOOL, _INT, _FLOAT, _NULL = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null"))
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


class Fault(NamedTuple):
    """What is wrong with the text of one rule: the field and the reason."""

    field: str
    reason: str


class RuleText(NamedTuple):
    """One rule as the text gives it: the value that YAML makes of it, and what was written."""

    value: object
    written: Mapping[Path, str]
    """The scalars that are not in quotes, by path."""
    fault: Fault | None = None

    def explanation(self, path: Path) -> str:
        """What YAML makes of the scalar at this path, if that is not what it looks like; otherwise an empty string."""
        text = self.written.get(path)
        return "" if text is None else explained(text)

    def explanation_of(self, field: str, reason: str) -> str:
        """What YAML makes of the field that was refused, or of the value beside it, if that may be why.

        That a plain number is a number explains something only where a text is due.
        """
        path = tuple(field.split("."))
        is_text_due = re.search(r"\btext\b", reason) is not None
        texts = (self.written.get(each) for each in (path, (*path[:-1], "value")))
        found = (explained(text) for text in texts if text is not None and (is_text_due or not _is_plain_number(text)))
        return next(filter(None, found), "")


class _JsonLoader(yaml.SafeLoader):
    """Reads `1e3` as the number that it is in JSON."""


_JsonLoader.add_implicit_resolver(_FLOAT, re.compile(r"-?\d+(\.\d+)?[eE][-+]?\d+"), list("-0123456789"))


def read_rule_texts(text: str) -> list[RuleText]:
    """The rules of a text, which is a list, an object with `rules`, or one rule. ValueError for anything else."""
    loader = (_JsonLoader if _is_json(text) else yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        return [] if node is None else [_rule_text(loader, each) for each in _rule_nodes(node)]
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {_place(error)}") from error
    except RecursionError as error:
        raise ValueError("not YAML: nested too deeply") from error
    finally:
        loader.dispose()


_CAUSES = {
    "mapping values are not allowed": 'a colon where no key can stand; a text that holds ": " needs quotes',
    "cannot start any token": "a character that no value begins with; indent with blanks, and quote such texts",
    "could not find expected ':'": "a key without its colon",
    "expected <block end>": "a line that is indented otherwise than those before it",
    "did not find expected key": "a line that is indented otherwise than those before it",
    "found unexpected end of stream": "quotes that are not closed",
    "while parsing a flow": "a bracket or brace that is not closed",
}


def _place(error: yaml.YAMLError) -> str:
    """Where a text stops being YAML, and what stands there, in our words."""
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    said = str(error)
    return where + next((cause for words, cause in _CAUSES.items() if words in said), "it cannot be read from here")


def explained(text: str) -> str:
    """What YAML makes of a bare scalar, if that is not what it looks like; otherwise an empty string."""
    value = _value_of(text)
    if isinstance(value, str):
        is_number = _NUMBER.fullmatch(text) is not None
        return f"YAML reads {text} as text; write {float(text):.15g}" if is_number else ""
    if value is None or text.lower() in ("true", "false"):
        return ""
    made = "a date"
    if isinstance(value, bool | int | float):
        made = json.dumps(value) if isinstance(value, bool) else f"the number {value:.15g}"
    return f'YAML reads {text} as {made}; if the text is meant, write "{text}" in quotes'


def _is_plain_number(text: str) -> bool:
    value = _value_of(text)
    return isinstance(value, int | float) and not isinstance(value, bool) and f"{value:.15g}" == text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _value_of(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text


def _rule_nodes(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        members = [(key.value, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
        lists = [value for key, value in members if key == "rules"]
        if any(key == "rule_type" for key, _ in members):
            return [node]
        if len(lists) > 1:
            raise ValueError("`rules` is given twice")
        node = lists[0] if lists else node
    if not isinstance(node, yaml.SequenceNode):
        raise ValueError("expected a list of rules, or an object with `rules`")
    return list(node.value)


def _rule_text(loader: yaml.SafeLoader, node: yaml.Node) -> RuleText:
    try:
        value: Any = loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:  # such as a date that does not exist
        words = _place(error) if isinstance(error, yaml.YAMLError) else str(error)
        return RuleText(None, {}, Fault("", f"not YAML: {words}"))
    written: dict[Path, str] = {}
    faults: list[Fault] = []
    for path, each in _nodes(node, (), set()):
        if isinstance(each, yaml.MappingNode):
            faults += _repeated_keys(path, each)
        elif isinstance(each, yaml.ScalarNode) and each.style is None:
            written[path] = each.value
            if (fault := _misread(path, each)) is not None:
                faults.append(fault)
    return RuleText(value, written, next(iter(faults), None))


def _nodes(node: yaml.Node, path: Path, visited: set[int]) -> Iterator[tuple[Path, yaml.Node]]:
    """A node and those below it, each once: aliases may lead to the same node many times, or back."""
    if id(node) in visited:
        return
    visited.add(id(node))
    yield path, node
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield from _nodes(value, (*path, key.value), visited)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _nodes(value, (*path, str(index)), visited)


def _repeated_keys(path: Path, node: yaml.MappingNode) -> Iterator[Fault]:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        line = key.start_mark.line + 1
        if key.value in lines:
            reason = f"is given twice, in lines {lines[key.value]} and {line}; YAML takes the last one"
            yield Fault(".".join((*path, key.value)), reason)
        lines[key.value] = line


def _misread(path: Path, node: yaml.ScalarNode) -> Fault | None:
    """A number that is written as nobody writes a number: to the base 8 or 60, or an id that changes its digits."""
    text = node.value
    is_misread = (node.tag == _INT and (_OCTAL.fullmatch(text) is not None or ":" in text)) or (
        node.tag == _FLOAT and ":" in text
    )
    if path == ("id",) and node.tag in (_INT, _FLOAT, _BOOL) and str(_value_of(text)) != text:
        is_misread = True
    return Fault(".".join(path), explained(text)) if is_misread else None
