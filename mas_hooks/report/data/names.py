"""What a reader calls things: methods, starts, controls, and the two ends of a direction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from mas_hooks.core.records import Record

_METHODS = {
    "das": "DAS",
    "mas": "MAS",
    "stepwise_mas": "stepwise MAS",
    "unimas": "UniMAS",
    "clmas": "CLMAS",
    "linear_map": "linear map",
    "stitching": "stitching",
    "orthogonal_stitching": "orthogonal stitching",
    "affine_stitching": "affine stitching",
    "identity_stitching": "identity stitching",
    "latent_fit": "latent fit",
}
_STARTS = {"procrustes": "Procrustes"}
_DETAILS = ("task", "k", "init", "selected_on")


def method_title(record: Record) -> str:
    """`MAS` for `mas`; a name that is not known stays as it is."""
    return _METHODS.get(record.method or "", record.method or "?")


def start_title(record: Record) -> str:
    """`Procrustes` or `random`: where the maps of this record began."""
    return _STARTS.get(record.init or "", record.init or "")


def control_title(record: Record) -> str:
    """`shuffled labels` for `shuffled_labels`; empty for a result that is no control."""
    return (record.control or "").replace("_", " ")


def fit_title(record: Record) -> str:
    """Method and variable, `MAS · count`."""
    return " · ".join(part for part in (method_title(record), record.variable) if part)


def _describe_detail(record: Record, key: str) -> str:
    if key == "init":
        return f"{start_title(record)} start"
    value = getattr(record, key)
    return {"k": f"k = {value}", "selected_on": f"selected on {value}"}.get(key, str(value))


def fit_details(records: Iterable[Record]) -> dict[tuple, str]:
    """How fits of one comparison, method, variable and control differ in words, by `setting_words(record)`."""
    ordered = sorted(records, key=lambda record: repr(method_family(record)))
    words: dict[tuple, str] = {}
    for _, members in groupby(ordered, key=method_family):
        rows = list(members)
        differ = [key for key in _DETAILS if len({getattr(row, key) for row in rows}) > 1]
        for row in rows:
            known = [key for key in differ if getattr(row, key) is not None]
            words[setting_words(row)] = " · ".join(_describe_detail(row, key) for key in known)
    return words


def method_family(record: Record) -> tuple:
    """What records have in common that readers would call the same thing."""
    return (record.comparison, record.method, record.variable, record.control)


def setting_words(record: Record) -> tuple:
    """What records of one fit have in common, whatever their direction and seed."""
    return (*method_family(record), *(getattr(record, key) for key in _DETAILS))


@dataclass(frozen=True)
class EndNames:
    """Names the two ends of a record: the model, with its number or its site where the name alone is ambiguous.

    `twins` are names that two models of one comparison share; `layered` are models that appear with several sites.
    """

    twins: frozenset[str]
    layered: frozenset[str]

    @classmethod
    def of(cls, records: Iterable[Record]) -> EndNames:
        """Look at all ends of all records."""
        numbers: dict[tuple, set] = {}
        sites: dict[str, set] = {}
        for record in records:
            for name, number, site in _end_names(record):
                numbers.setdefault((record.comparison, name), set()).add(number)
                sites.setdefault(name, set()).add(site)
        twins = frozenset(name for (_, name), seen in numbers.items() if len(seen) > 1)
        return cls(twins, frozenset(name for name, seen in sites.items() if len(seen) > 1))

    def source(self, record: Record) -> str:
        """The giver."""
        return self._name(*_end_names(record)[0])

    def target(self, record: Record) -> str:
        """The receiver."""
        return self._name(*_end_names(record)[1])

    def direction(self, record: Record) -> str:
        """`gru-0 → gru-1`."""
        return f"{self.source(record)} → {self.target(record)}"

    def pair(self, record: Record) -> str:
        """`gru-0 × gru-1`."""
        return f"{self.source(record)} × {self.target(record)}"

    def _name(self, name: str, number: int | None, site: str | None) -> str:
        numbered = f"{name} #{number}" if name in self.twins and number is not None else name
        return f"{numbered} · {site}" if name in self.layered and site is not None else numbered


def _end_names(record: Record) -> tuple[tuple[str, int | None, str | None], tuple[str, int | None, str | None]]:
    return (
        (record.source_model or _number_names(record.source), record.source, record.source_site),
        (record.target_model or _number_names(record.target), record.target, record.target_site),
    )


def _number_names(number: int | None) -> str:
    return "model" if number is None else f"model {number}"
