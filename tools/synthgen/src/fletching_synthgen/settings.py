"""From options to the settings of a run: server, key, sampling, languages, journal folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xxhash

from fletching import lineage, unique_keys
from fletching.errors import UsageError
from fletching.prompts import InstructionTemplate
from fletching.server_address import ServerAddress, check_address, server_address
from fletching_synthgen.options import Options
from fletching_synthgen.prompts.library import Language, PromptLibrary
from fletching_synthgen.request_plan import RequestSettings

OPENAI = "https://api.openai.com/v1"
# Fields of a request's body that --body cannot set, besides those of the sampling.
RESERVED_FIELDS = ("model", "messages", "stream", "n", "response_format")


def endpoint_address(options: Options) -> ServerAddress:
    """The server and its key; with --dry-run no key is needed. Raises UsageError."""
    base_url = options.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
    if options.dry_run:
        check_address(base_url)
        return ServerAddress(base_url, None)
    return server_address(base_url, key_variable=options.api_key_env, key_file=options.api_key_file)


def request_settings(options: Options, library: PromptLibrary) -> RequestSettings:
    """What all requests of a run have in common. Raises UsageError."""
    languages = library.languages()
    return RequestSettings(
        library=library,
        model=options.model,
        seed=options.seed,
        per_row=options.per_row,
        sampling=_sampling(options),
        languages=_selected_languages(options.languages, languages),
        all_languages=languages,
        bitext_languages=library.languages("languages.bitext.tsv"),
        length_slack=options.length_slack,
        check_language=options.language_check,
        prompt_template=InstructionTemplate.parse(options.prompt_template),
    )


def _sampling(options: Options) -> dict[str, Any]:
    sampling: dict[str, Any] = {
        "temperature": options.sampling_temperature,
        "top_p": options.top_p,
        "max_tokens": options.answer_tokens,
    }
    if options.body:
        sampling |= _extra_fields(options.body, reserved=(*RESERVED_FIELDS, *sampling))
    return sampling


def _extra_fields(path: str, reserved: Sequence[str]) -> dict[str, Any]:
    """The fields of --body."""
    try:
        content = unique_keys.parse_json(Path(path).read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"--body {path} is no JSON: {error}", 'write {"seed": 1}') from None
    if not isinstance(content, dict):
        raise UsageError(f"--body {path} is no JSON object", 'write {"seed": 1}')
    for name in content:
        if name in reserved:
            raise UsageError(
                f"--body {path} cannot set {name}",
                "leave it out: synthgen sets it, or has an option for it",
            )
    return content


def _selected_languages(codes: Sequence[str], languages: Sequence[Language]) -> list[Language]:
    """The languages of --languages."""
    if "all" in codes:
        return list(languages)
    by_code = {language.code: language for language in languages}
    unknown = [code for code in codes if code not in by_code]
    if unknown or not codes:
        shown = unknown[0] if unknown else ""
        raise UsageError(
            f"--languages {shown} is not in languages.tsv", "pass codes such as en,de, or all"
        )
    return [by_code[code] for code in codes]


def journal_folder(options: Options, job: str) -> str:
    """Where the journal is: --journal, beside the output, or for stdout in the user's cache.

    In the cache each job has its own folder, since two of a pipe run at once.
    """
    if options.journal:
        return options.journal
    if options.output and options.output != "-" and not options.output.startswith("/dev/"):
        return options.output + ".journal"
    identity = lineage.dump(
        {
            "job": job,
            "model": options.model,
            "seed": options.seed,
            "languages": options.languages,
        }
    )
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "fletching", "synthgen", xxhash.xxh3_64_hexdigest(identity))
