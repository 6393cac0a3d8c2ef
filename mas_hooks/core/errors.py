"""Every deliberate error of the package. Each builds its own sentence: what, where, got, allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def _restore_error(kind: type[MasHooksError], sentence: str) -> MasHooksError:
    error = kind.__new__(kind)
    error.args = (sentence,)
    return error


class MasHooksError(Exception):
    """The base of every error that this package raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        """Travel between processes as the finished sentence, not as the parts it was built from."""
        return _restore_error, (type(self), str(self))


class TrainModeWarning(UserWarning):
    """A wrapped model is in train mode and would answer at random."""


def _nearest(got: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(got, list(allowed), n=1, cutoff=0.4)
    return f" Did you mean {close[0]!r}?" if close else ""


def _list_words(names: Iterable[str], most: int = 12) -> str:
    names = list(names)
    more = f", … ({len(names) - most} more)" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class UnknownNameError(MasHooksError):
    """A name that is not in the list it was looked up in; says the nearest that is."""

    def __init__(self, kind: str, got: str, allowed: Iterable[str], where: str) -> None:
        allowed = list(allowed)
        super().__init__(f"{where} has no {kind} {got!r}.{_nearest(got, allowed)} There is: {_list_words(allowed)}.")


class SettingError(MasHooksError):
    """A setting whose value cannot be used."""

    def __init__(self, setting: str, got: object, allowed: str) -> None:
        super().__init__(f"{setting} is {got!r}, but must be {allowed}.")

    @classmethod
    def because(cls, name: str, problem: str, remedy: str) -> SettingError:
        """A setting whose fault takes a phrase to say: `problem` follows the name, as "differs from that of b"."""
        error = cls.__new__(cls)
        error.args = (f"{name} {problem}; {remedy}.",)
        return error


class RankError(MasHooksError):
    """A subspace that does not fit its site, or two maps that share different ranks."""

    def __init__(self, rank: int, width: int, where: str) -> None:
        super().__init__(f"rank {rank} does not fit {where}: choose 1 to {width} dims.")


class ShapeError(MasHooksError):
    """A tensor or array of another shape than its use asks for."""

    def __init__(self, what: str, got: object, expected: str) -> None:
        super().__init__(f"{what} has shape {got}, but {expected} is needed.")


class NotFiniteError(MasHooksError):
    """NaN or infinite values where numbers are needed."""

    def __init__(self, what: str, count: int) -> None:
        super().__init__(f"{what} holds {count} values that are NaN or infinite; remove those rows first.")


class EmptyError(MasHooksError):
    """Nothing to work on."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} is empty; {remedy}.")


class PositionError(MasHooksError):
    """A cell outside the sequence, or on padding."""

    def __init__(self, row: int, column: int, where: str, allowed: str) -> None:
        super().__init__(f"position {column} of row {row} is not in {where}: {allowed}.")


class DeviceError(MasHooksError):
    """Things that must lie on one device, on several; or a device that is not there."""

    @classmethod
    def several(cls, devices: dict[str, str]) -> DeviceError:
        places = ", ".join(f"{name} on {device}" for name, device in devices.items())
        return cls(
            f"the models lie on different devices ({places}); move them to one with .to(device) before aligning."
        )

    @classmethod
    def missing(cls, device: str) -> DeviceError:
        return cls(f"device {device!r} is not available here; use 'cpu', or 'auto' for the best there is.")


class NoTensorError(MasHooksError):
    """A module that gives no activation tensor where one was asked for."""

    def __init__(self, site: str, got: str) -> None:
        super().__init__(
            f"site {site!r} gives {got}, not a floating (batch, position, width) or (batch, width) tensor; "
            "choose a site inside it, listed by hook_points()."
        )


class NoLogitsError(MasHooksError):
    """A model output from which no logits can be told."""

    def __init__(self, got: str) -> None:
        super().__init__(f"cannot tell which part of {got} holds the logits; pass wrap(..., logits=lambda out: …).")


class UnreachedSiteError(MasHooksError):
    """An edit whose cells never came by."""

    def __init__(self, site: str, missed: int, detail: str) -> None:
        super().__init__(f"site {site!r} was never reached at {missed} of the asked cells: {detail}.")


class UnsupportedError(MasHooksError):
    """Something that the package refuses by name, with the way around it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} is not supported; {remedy}.")


class MissingPackageError(MasHooksError):
    """An optional package that is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed; pip install 'mas-hooks[{extra}]'.")


class CheckpointError(MasHooksError):
    """A folder that is half written, foreign, or does not fit what it is loaded into."""

    def __init__(self, folder: Path | str, problem: str, remedy: str) -> None:
        super().__init__(f"{folder}: {problem}; {remedy}.")


class OutputFolderError(MasHooksError):
    """A run folder that cannot be written, or that already holds another run."""

    def __init__(self, folder: Path | str, problem: str, remedy: str) -> None:
        super().__init__(f"cannot write to {folder}: {problem}; {remedy}.")

    @classmethod
    @contextmanager
    def while_writing(cls, folder: Path | str, remedy: str) -> Iterator[None]:
        """Turn what the system says while files are written there, such as of a full disk, into this error."""
        try:
            yield
        except OSError as error:
            raise cls(folder, (error.strerror or str(error)).lower(), remedy) from error


class RecipeError(MasHooksError):
    """A recipe file that is not there, or that does not load."""

    def __init__(self, path: Path | str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}.")

    @classmethod
    def at_line(cls, path: Path | str, number: int | None, line: str, error: BaseException) -> RecipeError:
        """A mistake in a line of the user's file."""
        problem = f"{type(error).__name__}: {str(error).rstrip('.')}"
        quoted = f"in the line `{line}`, {problem}" if line else problem
        return cls(f"{path}:{number}" if number else path, quoted, "correct it and run the recipe again")


class RecordError(MasHooksError):
    """A line of results that cannot be read, or with a key that records do not have."""

    @classmethod
    def unknown_key(cls, key: str, allowed: Iterable[str], where: str) -> RecordError:
        return cls(f"{where}: records have no key {key!r}.{_nearest(key, allowed)}")

    @classmethod
    def unreadable(cls, where: str, problem: str) -> RecordError:
        return cls(f"{where} is not a line of results: it {problem}.")


class DivergedError(MasHooksError):
    """A loss that is no longer a number."""

    def __init__(self, what: str, step: int) -> None:
        super().__init__(f"{what} stopped being a finite number at step {step}; lower the learning rate.")


class DataSetError(MasHooksError):
    """A data set that cannot be read, or that holds something else than its reader asks for."""

    def __init__(self, where: Path | str, problem: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}; {remedy}.")

    @classmethod
    def columns(cls, where: Path | str, name: str, found: Iterable[str], wanted: Iterable[str]) -> DataSetError:
        problem = f"has the columns {_list_words(found)}, but {name} is read from {_list_words(wanted)}"
        return cls(where, problem, "give the data set as published, or write your own rows with text and label")


class TooFewRowsError(MasHooksError):
    """A class of texts with fewer rows than its splits and its test need."""

    def __init__(self, label: str, rows: int, lost: str, needed: str, remedy: str) -> None:
        have = f"{rows} usable rows" if rows else "no usable row"
        super().__init__(f"the class {label!r} has {have} ({lost}), but {needed}; {remedy}.")


class MemoryPlanError(MasHooksError):
    """A stage that would take more memory than its device has free."""

    def __init__(self, need: str, free: str, device: str, remedy: str) -> None:
        super().__init__(f"{need} are needed, but {device} has {free} free; {remedy}.")
