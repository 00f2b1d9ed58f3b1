"""Static HTML pages: the Jinja environment, the style sheet and the axes that all tools share.

A page is one file: inline SVG, every text escaped, no script, nothing loaded. `style.css.j2` in
`templates/` has the colours for light, dark and print; `{% include %}` takes it into a page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jinja2

from fletching.report import printable

STEPS = (1.0, 2.0, 5.0)  # of ticks, times a power of ten
MOST_TICKS = 5


def page_environment(
    package: str, filters: Mapping[str, Callable[..., object]] | None = None
) -> jinja2.Environment:
    """The environment of the templates in `package`, which must lie in its folder `templates`.

    `px` formats a coordinate. Control characters in texts of data are printed as escapes.
    """
    loaders = [jinja2.PackageLoader(name) for name in (package, "fletching.page")]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        finalize=_without_controls,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"px": "{:.1f}".format, **(filters or {})}
    return environment


def _without_controls(value: object) -> object:
    """Texts of data with control characters as escapes; what macros made stays."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return printable(str(value)) if is_text else value


def scale_ticks(low: float, high: float, *, least_span: float = 1e-3) -> list[float]:
    """Round numbers from at most `low` to at least `high`, evenly spaced: two to seven.

    Zero is among them where it lies between. least_span: of the scale, however near the ends are.
    """
    size = max(abs(low), abs(high)) or 1.0
    span = max(high - low, least_span, 1e-3 * size)
    power = 10.0 ** math.floor(math.log10(span / MOST_TICKS))
    steps = (factor * power for factor in (*STEPS, 10.0, 20.0))
    step = next(each for each in steps if span / each <= MOST_TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
