"""YAML as values, within limits: a few lines of aliases can stand for billions of values."""

from __future__ import annotations

from typing import Any

import yaml

from fletching.unique_keys import RepeatedKeyError

MOST_VALUES = 100_000  # of a file whose aliases are written out
WIDEST = 10**9  # columns: no line is broken

YamlValue = Any  # text, number, bool, None, list or dict


def parse(content: bytes, *, keys_may_repeat: bool = False) -> YamlValue:
    """The value of a document. Raises ValueError or yaml.YAMLError.

    keys_may_repeat: of a key that appears twice the last value wins, as in PyYAML.
    """
    loader = yaml.SafeLoader(content)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST_VALUES:
            raise ValueError(f"its aliases stand for more than {MOST_VALUES:,} values")
        if not keys_may_repeat:
            _check_keys(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def on_one_line(value: YamlValue) -> str:
    """A value as YAML on one line."""
    style = '"' if "\n" in str(value) else None
    text: str = yaml.safe_dump(
        value, default_flow_style=True, default_style=style, allow_unicode=True, width=WIDEST
    )
    return text.removesuffix("...\n").strip()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node has with its aliases written out. Raises ValueError for a circle.

    known: the sizes of nodes by identity; 0: the node encloses this one.
    """
    size = known.get(id(node))
    if size == 0:
        raise ValueError("an alias lies inside of what it stands for")
    if size is None:
        known[id(node)] = 0
        size = 1 + sum(_size(part, known) for part in _parts(node))
        known[id(node)] = size
    return size


def _check_keys(root: yaml.Node) -> None:
    """Raise RepeatedKeyError for a mapping that has a key twice. root: encloses no circle."""
    waiting, visited = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        waiting += _parts(node)
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        known = set()
        for key in keys:
            if isinstance(key, yaml.ScalarNode) and key.value in known:
                raise RepeatedKeyError(key.value, f" (again in line {key.start_mark.line + 1})")
            known.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
