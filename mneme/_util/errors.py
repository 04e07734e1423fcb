"""Every error a user can cause, in one tree.

    MnemeError                 exit code 1
    └── UserError              exit code 2: bad input; the message is one line and names the fix
        ├── ConfigError        a setting that can't be
        ├── ModelError         a model that can't be found, read or used
        │   └── PairError      two models that can't be compared
        ├── CorpusError        text that is missing, unreadable or too short
        ├── ActivationError    NaN or infinite activations, a cache of another pair
        ├── CrosscoderError    a checkpoint that can't be read or lacks a part
        ├── OutcomesError      measured outcomes that don't fit the run
        ├── LabelError         a labelling server or reply that can't be used
        ├── RunError           a folder that is no run, or can't be written
        │   ├── FinishedRunError   other settings would replace what is finished
        │   ├── CorruptRunError    a file of the run is damaged
        │   └── NewerSchemaError   the run was written by a later mneme
        ├── OutOfMemoryError   the GPU or the machine has too little memory
        ├── DiskFullError      no space left on the device
        └── PortInUseError     the dashboard's port is taken

The command line prints `error: <message>` and exits with `exit_code`; library users catch the class.
"""

from __future__ import annotations

import re


class MnemeError(Exception):
    """Base of all errors mneme raises on purpose."""

    exit_code = 1


class UserError(MnemeError):
    """Bad input. The message is one line that says what is wrong and what to do."""

    exit_code = 2


class ConfigError(UserError):
    """A setting that can't be; `setting` is its SECTION.KEY where it is about one."""

    def __init__(self, message: str, setting: str = "") -> None:
        super().__init__(message)
        self.setting = setting


class DivergedError(ConfigError):
    """Training left the model without a finite loss."""


class ModelError(UserError):
    """A model that can't be found, read or used."""


class PairError(ModelError):
    """Two models that can't be compared: other width, depth or vocabulary."""


class CorpusError(UserError):
    """Text that is missing, unreadable or too short."""


class ActivationError(UserError):
    """NaN or infinite activations, or a cache that belongs to another pair."""


class CrosscoderError(UserError):
    """A crosscoder checkpoint that can't be read or lacks a part."""


class OutcomesError(UserError):
    """Measured outcomes that don't fit the run."""


class LabelError(UserError):
    """A labelling server or reply that can't be used."""


class RunError(UserError):
    """A folder that is not a run, or can't be written."""


class FinishedRunError(RunError):
    """Other settings or inputs would replace what a run has finished, and nobody said that they may.

    Its note, printed above the line, is a table of the settings: setting, there, now.
    """

    def __init__(self, message: str, table: str = "") -> None:
        super().__init__(message)
        if table:
            self.add_note(table)


class CorruptRunError(RunError):
    """A file of the run is damaged."""


class NewerSchemaError(RunError):
    """The run was written by a later version of mneme."""


class OutOfMemoryError(UserError):
    """The GPU or the machine has too little memory for these settings."""


class DiskFullError(UserError):
    """No space left on the device."""


class PortInUseError(UserError):
    """The dashboard's port is taken."""


_REASON = re.compile(r"^(size mismatch|\w*Error: |[Mm]issing key|[Uu]nexpected key)")
_SAYS_NOTHING = re.compile(
    r"look at the above|see the above|ignore_mismatched_sizes|loading state_dict|^Weights only load failed|^Traceback"
    r"|file an issue|most recent call last|^File \"|^[-=~^*\s]+$",
    re.IGNORECASE,
)


def first_line(error: BaseException, most: int = 300) -> str:
    """What another library's error says, in one line of at most `most` characters: the line with the reason.

    Libraries put headings before it ("Error(s) in loading state_dict") and advice after it. Where nothing but those is
    said, the error that this one came from is asked.
    """
    lines = [" ".join(_plain(line).split()) for line in str(error).splitlines()]
    told = [line for line in lines if line and not _SAYS_NOTHING.search(line)]
    reason = next((line for line in told if _REASON.search(line)), told[0] if told else None)
    before = error.__cause__ or error.__context__
    if reason is None and before is not None:
        return first_line(before, most)
    return (reason or next(filter(None, lines), type(error).__name__))[:most]


def _plain(line: str) -> str:
    """Without a terminal's colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", line)
