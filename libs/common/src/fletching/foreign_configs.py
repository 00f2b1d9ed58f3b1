"""The options that another program was started with: of its config file, or of a shell script."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator

from fletching import config
from fletching.errors import UsageError
from fletching.foreign_option_values import ForeignValue

VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}|\$(\w+)")
ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)=(.*)", re.DOTALL)
OPERATORS = ";|&\n"
LARGEST_SCRIPT = 256 << 10  # characters; shlex takes their square for one long word
CONFIGS = (".json", ".yaml", ".yml", ".toml")


def read(path: str) -> dict[str, ForeignValue]:
    """The options by their names there, in order.

    JSON, YAML and TOML by extension; any other file is a shell script, of which the command with
    the most options counts. Nothing of it is run. Raises UsageError.
    """
    if os.path.splitext(path)[1].lower() in CONFIGS:
        return config.read(path, "--translate")
    try:
        with open(path, encoding="utf-8") as file:
            script = file.read(LARGEST_SCRIPT + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read --translate {path}: {error.strerror}", "check the path"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(
            f"--translate {path} is no text", "name a config file or a shell script"
        ) from None
    if len(script) > LARGEST_SCRIPT:
        what = f"--translate {path} is larger than {LARGEST_SCRIPT >> 10} kB"
        raise UsageError(what, "name the script that starts the training")
    options = of_script(script, path)
    if not options:
        raise UsageError(
            f"--translate {path} starts no program with options",
            "name a config file (.json, .yaml, .toml) or a shell script with --NAME VALUE",
        )
    return options


def of_script(script: str, path: str = "the script") -> dict[str, ForeignValue]:
    """The options of the command with the most of them. Raises UsageError for an open quote."""
    options = [_options(words) for words in _commands(script, path)]
    return max(options, key=len, default={})


def _commands(script: str, path: str) -> Iterator[list[str]]:
    """The words of each command, with the variables that the script itself has set."""
    variables: dict[str, str] = {}
    for words in _split(script, path):
        expanded = [_expand(word, variables) for word in words]
        if expanded and expanded[0] == "export":
            expanded = expanded[1:]
        while expanded and (assignment := ASSIGNMENT.fullmatch(expanded[0])):
            variables[assignment[1]] = assignment[2]
            expanded = expanded[1:]
        if expanded:
            yield expanded


def _split(script: str, path: str) -> Iterator[list[str]]:
    """The words of each line or part of a line, without comments."""
    lexer = shlex.shlex(script.replace("\\\n", " "), posix=True, punctuation_chars=OPERATORS)
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for token in lexer:
            if token and set(token) <= set(OPERATORS):
                yield words
                words = []
            else:
                words.append(token)
    except ValueError as error:
        raise UsageError(
            f"--translate {path}, line {lexer.lineno}: {error}", "close the quote"
        ) from None
    yield words


def _expand(word: str, variables: dict[str, str]) -> str:
    """The word with the values of known variables; an unknown one stays as it is written."""

    def value(match: re.Match[str]) -> str:
        """The value, else the default of `${NAME:-default}`."""
        name = match[1] or match[3]
        return variables.get(name, match[0] if match[2] is None else match[2])

    return VARIABLE.sub(value, word)


def _options(words: list[str]) -> dict[str, ForeignValue]:
    """`--name value`, `--name=value`, `--name a b` and `--flag`, without those of a launcher."""
    options: dict[str, ForeignValue] = {}
    name = None
    for word in _program_words(words):
        if word.startswith("--") and len(word) > 2:
            name, has_value, text = word[2:].partition("=")
            options[name] = text if has_value else True
        elif name is not None:
            earlier = options[name]
            if earlier is True:
                options[name] = word
            else:
                options[name] = [*earlier, word] if isinstance(earlier, list) else [earlier, word]
    return options


def _program_words(words: Iterable[str]) -> list[str]:
    """The words after the script or module that torchrun, accelerate or python start."""
    words = list(words)
    start = 0
    for number, word in enumerate(words):
        if word.endswith(".py"):
            start = number + 1
        elif word == "-m":
            start = number + 2
    return words[start:]
