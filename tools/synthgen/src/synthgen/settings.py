"""From options to what a run goes by: the address and the key, the sampling, the languages."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fletching.errors import UsageError
from synthgen.options import Options
from synthgen.prompts.library import Language, Materials
from synthgen.request_plan import Setting

OPENAI = "https://api.openai.com/v1"


def server(options: Options) -> tuple[str, str | None]:
    """Address and key. Without being told, the key in OPENAI_API_KEY goes to OpenAI's server and no other."""
    base_url = options.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            "--base-url is no http address", "e.g. --base-url http://localhost:8000/v1"
        )
    if parts.username or parts.password or parts.query:
        raise UsageError(
            "--base-url holds a user, password or query",
            "give the key by --api-key-env NAME or --api-key-file FILE",
        )
    if options.dry_run:
        return base_url, None
    if options.api_key_file:
        key = Path(options.api_key_file).read_text("utf-8").strip()
        if not key or any(c.isspace() or not c.isprintable() for c in key):
            raise UsageError(
                f"--api-key-file {options.api_key_file} holds no key",
                "put the key and nothing else into it",
            )
        return base_url, key
    name = options.api_key_env or ("OPENAI_API_KEY" if parts.hostname == "api.openai.com" else None)
    if name is None:
        return base_url, None
    if not os.environ.get(name):
        raise UsageError(
            f"the environment variable {name} is not set",
            f"export {name}=..., or pass --api-key-env NAME, --api-key-file FILE, or --base-url of a local server",
        )
    return base_url, os.environ[name].strip()


def setting_of(options: Options, materials: Materials) -> Setting:
    table = materials.languages()
    sampling: dict[str, Any] = {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "max_tokens": options.answer_tokens,
    }
    if options.body:
        sampling |= _body(options.body, sampling)
    return Setting(
        materials=materials, model=options.model, seed=options.seed, per_row=options.per_row, sampling=sampling,
        languages=_languages(options.languages, table), all_languages=table, bitext_languages=materials.languages("languages.bitext.tsv"),
        slack=options.length_slack, check_language=options.language_check,
    )  # fmt: skip


def _body(path: str, sampling: dict[str, Any]) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"--body {path} is no JSON: {error}", 'write {"seed": 1}') from None
    taken = (
        [
            name
            for name in content
            if name in ("model", "messages", "stream", "n", "response_format", *sampling)
        ]
        if isinstance(content, dict)
        else ["no object"]
    )
    if taken:
        raise UsageError(
            f"--body {path} cannot set {taken[0]}",
            "leave it out: synthgen sets it, or has an option for it",
        )
    return content


def _languages(codes: Sequence[str], table: Sequence[Language]) -> list[Language]:
    if "all" in codes:
        return list(table)
    known = {entry.code: entry for entry in table}
    wrong = [code for code in codes if code not in known]
    if wrong or not codes:
        raise UsageError(
            f"--languages {wrong[0] if wrong else ''} is not in languages.tsv",
            "pass codes such as en,de, or all",
        )
    return [known[code] for code in codes]
