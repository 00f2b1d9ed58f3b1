"""The comparison as one static page: plots as inline SVG, all text escaped, no script, nothing loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from mteb_eval.report.text_report import change, heading, value
from mteb_eval.scoring.comparison import Figure, Move
from mteb_eval.scoring.metrics import CUTS, metric_name
from mteb_eval.scoring.task_result import MISSED, Outcome

COLOURS = ("#8a94a6", "#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#65a30d")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1f2937; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid #e5e7eb; padding-top: 1rem }
table { border-collapse: collapse; margin: 1rem 0 } td, th { text-align: left; padding: .25rem 1rem .25rem 0; vertical-align: top }
th { border-bottom: 1px solid #9ca3af; font-weight: 600 } td.rank { text-align: right; white-space: nowrap }
td.figure { font-variant-numeric: tabular-nums; white-space: nowrap }
.flag { background: #fef3c7; padding: .4rem .8rem; border-left: 4px solid #d97706 } .note { color: #6b7280 }
svg { max-width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: #374151 }
code { font-size: .85rem; white-space: pre-wrap } .legend span { white-space: nowrap; margin-right: 1rem }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem } td.move { color: #6b7280; white-space: nowrap }
"""


@dataclass(frozen=True)
class Section:
    """One task: its outcomes and figures by run, flags, and the queries that moved, by run."""

    outcomes: dict[str, Outcome]
    figures: Sequence[Figure]
    flags: Sequence[str]
    moves: dict[str, tuple[list[Move], list[Move]]]
    worst: Sequence[Move] = ()  # of the one run, where there is nothing to compare it with


def write(path: str, sections: Sequence[Section], baseline: str, version: str) -> None:
    """The page, complete or not at all."""
    temporary = f"{path}.tmp-{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(page(sections, baseline, version))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def page(sections: Sequence[Section], baseline: str, version: str) -> str:
    runs = list(dict.fromkeys(run for section in sections for run in section.outcomes))
    colours = dict(zip(runs, palette(len(runs))))
    title = " and ".join(runs) if len(runs) < 3 else f"{len(runs)} runs"
    parts = [f"<h1>{escape(title)} compared</h1>", legend(colours)]
    parts += [body for section in sections for body in task(section, baseline, colours)]
    parts += ["<h2>How the vectors were made</h2>", settings(sections)]
    told = f"mteb-eval {version}. Brackets: 95 % bootstrap intervals over queries. Changes against {baseline}."
    parts.append(f'<p class="note">{escape(told)}</p>')
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def palette(size: int) -> Sequence[str]:
    """As many different colours: ours, or the wheel in steps of the golden angle, dark and light in turn."""
    if size <= len(COLOURS):
        return COLOURS
    return [f"hsl({place * 137.508 % 360:.1f} 60% {(40, 62)[place % 2]}%)" for place in range(size)]


def legend(colours: dict[str, str]) -> str:
    entries = (
        f'<span><b style="color: {colour}">■</b> {escape(run)}</span>'
        for run, colour in colours.items()
    )
    return f'<p class="legend">{" ".join(entries)}</p>'


def task(section: Section, baseline: str, colours: dict[str, str]) -> list[str]:
    """Heading, flags, bars, table, recall curves and moved queries of one task."""
    first = next(iter(section.outcomes.values()))
    title, _, size = heading(first).partition(", ")
    parts = [f"<h2>{escape(title)}{f' <small>{escape(size)}</small>' if size else ''}</h2>"]
    parts += [f'<p class="flag">{escape(flag)}</p>' for flag in section.flags]
    parts += [bars(section.figures, colours), figure_table(section.figures)]
    if "recall_at_10" in first.scores:
        parts += [
            "<h3>Recall by number of documents looked at</h3>",
            curves(section.outcomes, colours),
        ]
    for run, (rose, fell) in section.moves.items():
        if rose or fell:
            parts += [
                f"<h3>Rank of the first right document, {escape(run)} against {escape(baseline)}</h3>",
                moved({"rose most": rose, "fell most": fell}),
            ]
    if section.worst:
        parts += [
            "<h3>Worst queries, rank of the first right document</h3>",
            moved({"": section.worst}),
        ]
    return parts


def figure_table(figures: Sequence[Figure]) -> str:
    rows, before = "", ""
    for figure in figures:
        name = metric_name(figure.metric)
        rows += (
            f"<tr><td>{escape(name) if name != before else ''}</td><td>{escape(figure.run)}</td>"
        )
        rows += f'<td class="figure">{escape(value(figure.value))}</td><td class="figure">{escape(change(figure))}</td></tr>'
        before = name
    return (
        f"<table><tr><th>measure</th><th>model</th><th>value</th><th>change</th></tr>{rows}</table>"
    )


def moved(groups: Mapping[str, Sequence[Move]]) -> str:
    """Queries with their ranks; the name of a group stands at its first."""
    rows = ""
    for name, moves in groups.items():
        for place, move in enumerate(moves):
            before = "" if move.before == move.after else f"{_rank(move.before)} → "
            told = f'<td class="move">{"" if place else name}</td>' if name else ""
            rows += f'<tr>{told}<td class="rank">{before}{_rank(move.after)}</td><td>{escape(move.query[:300])}</td></tr>'
    return f"<table>{rows}</table>"


def _rank(rank: int) -> str:
    return "-" if rank == MISSED else f"{rank:,}"


def settings(sections: Sequence[Section]) -> str:
    """One row a run: what decides its vectors, prompts as used."""
    seen: dict[str, dict] = {}
    for section in sections:
        for run, outcome in section.outcomes.items():
            seen.setdefault(run, outcome.settings)
    names = ("fingerprint", "dtype", "lengths", "prompts_used", "dimensions", "numbers")
    rows = "".join(
        f"<tr><td>{escape(run)}</td>"
        + "".join(f"<td><code>{escape(_plain(made.get(name)))}</code></td>" for name in names)
        + "</tr>"
        for run, made in seen.items()
    )
    return (
        "<table><tr><th>model</th>"
        + "".join(f"<th>{escape(name)}</th>" for name in names)
        + f"</tr>{rows}</table>"
    )


def _plain(content: object) -> str:
    """Settings for the eye: one line an entry, texts in quotation marks where they may be empty."""
    if isinstance(content, dict):
        return "\n".join(
            f"{name}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in content.items()
        )
    return (
        content if isinstance(content, str) else "all" if content is None else json.dumps(content)
    )


# --- plots ---------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 260, 44, 28, 12


def _y(share: float) -> float:
    """A figure of 0 to 1 as a height in the drawing; below 0 (a correlation can be) is drawn as 0."""
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(max(share, 0.0), 1.0))


def _frame(body: Sequence[str], told: str) -> str:
    lines = [
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{_y(tick):.1f}" y2="{_y(tick):.1f}" stroke="#e5e7eb"/>'
        f'<text x="{LEFT - 8}" y="{_y(tick) + 4:.1f}" text-anchor="end">{tick:.1f}</text>'
        for tick in (0, 0.2, 0.4, 0.6, 0.8, 1)
    ]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{escape(told)}">'
        + "".join([*lines, *body])
        + "</svg>"
    )


def bars(figures: Sequence[Figure], colours: dict[str, str]) -> str:
    """A group of bars a metric, one a run, with the ends of the interval."""
    metrics = list(dict.fromkeys(figure.metric for figure in figures))
    group = (WIDTH - LEFT) / max(len(metrics), 1)
    runs = list(dict.fromkeys(figure.run for figure in figures))
    width = min(group * 0.8 / len(runs), 60)
    body = []
    for figure in figures:
        start = LEFT + group * metrics.index(figure.metric) + (group - width * len(runs)) / 2
        x = start + width * runs.index(figure.run)
        y = _y(figure.value.value)
        name = f"{figure.run}, {metric_name(figure.metric)}: {value(figure.value)}"
        body.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width * 0.9:.1f}" height="{_y(0) - y:.1f}" fill="{colours[figure.run]}">'
            f"<title>{escape(name)}</title></rect>"
        )
        if figure.value.low is not None and figure.value.high is not None:
            middle = x + width * 0.45
            ends = f'y1="{_y(figure.value.low):.1f}" y2="{_y(figure.value.high):.1f}"'
            body.append(
                f'<line x1="{middle:.1f}" x2="{middle:.1f}" {ends} stroke="#111827" stroke-width="1.5"/>'
            )
    for place, metric in enumerate(metrics):
        body.append(
            f'<text x="{LEFT + group * (place + 0.5):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(metric_name(metric))}</text>'
        )
    return _frame(body, "figures by metric and model")


def curves(outcomes: dict[str, Outcome], colours: dict[str, str]) -> str:
    """Recall at each cut, one line a run; the cuts stand at equal distances."""
    step = (WIDTH - LEFT - 40) / (len(CUTS) - 1)
    places = [LEFT + 20 + step * place for place in range(len(CUTS))]
    body = []
    for run, outcome in outcomes.items():
        points = [(x, _y(outcome.scores[f"recall_at_{cut}"])) for x, cut in zip(places, CUTS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        body.append(
            f'<polyline points="{path}" fill="none" stroke="{colours[run]}" stroke-width="2"><title>{escape(run)}</title></polyline>'
        )
        body += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[run]}"/>' for x, y in points
        ]
    body += [
        f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{cut:,}</text>'
        for x, cut in zip(places, CUTS)
    ]
    return _frame(body, "recall by number of documents")
