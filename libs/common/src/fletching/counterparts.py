"""What an option of another program is here: its entry in the table of names, as a phrase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fletching.foreign_option_values import Convert, as_it_is
from fletching.options.fields import Option


@dataclass(frozen=True, kw_only=True)
class Counterpart:
    """What an option of another program is here.

    ours: our options by field name; the value goes to each. Without any, `remark` says what to do.
    remark: how the value changes. convert: their value to ours. is_general: an option that says
    less than another one, which wins over it. needs: further options that a tool must have.
    """

    ours: tuple[str, ...] = ()
    remark: str = ""
    convert: Convert = as_it_is
    is_general: bool = False
    needs: tuple[str, ...] = ()

    def fits(self, options: Mapping[str, Option]) -> bool:
        """Does a tool with these options have it?"""
        return all(name in options for name in (*self.ours, *self.needs))

    def describe(self, options: Mapping[str, Option], *, dashes: bool) -> str:
        """One phrase: its name here, and how the value changes. dashes: as on a command line."""
        if not self.ours:
            return self.remark
        first = options[self.ours[0]]
        if first.positional and dashes:
            return f"name {first.metavar} without an option"
        flags = [options[name].flag for name in self.ours]
        names = " and ".join(flags if dashes else [flag[2:] for flag in flags])
        return f"its name here is {names}" + (f": {self.remark}" if self.remark else "")


Alternatives = tuple[Counterpart, ...]  # the first that fits a tool is its answer


def same(
    ours: str,
    remark: str = "",
    convert: Convert = as_it_is,
    *,
    is_general: bool = False,
    needs: str = "",
) -> Counterpart:
    """The counterpart of these options; names are separated by blanks."""
    return Counterpart(
        ours=tuple(ours.split()),
        remark=remark,
        convert=convert,
        is_general=is_general,
        needs=tuple(needs.split()),
    )


def advice(remark: str, *, needs: str = "") -> Counterpart:
    """What to do in place of an option."""
    return Counterpart(remark=remark, needs=tuple(needs.split()))


def leave_out(reason: str, *, needs: str = "") -> Counterpart:
    """Nothing is to be set, and why."""
    return advice(f"leave it out: {reason}", needs=needs)


def by_name(rows: Iterable[tuple[str, Alternatives]]) -> dict[str, Alternatives]:
    """One entry for each of the names, separated by blanks, of each row."""
    table: dict[str, Alternatives] = {}
    for names, entries in rows:
        for name in names.split():
            assert name not in table, name
            table[name] = entries
    return table
