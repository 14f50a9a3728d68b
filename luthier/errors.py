"""The error hierarchy. Every error says whose fault it is, what was wrong and what to do.

All errors that a user can cause derive from :class:`Error`; the command line prints them on one
line and exits with code 2. :class:`InternalError` is a defect of Luthier itself.
"""

from __future__ import annotations


class Error(Exception):
    """Base of every error that the caller can correct."""


class ExpressionError(Error):
    """A tensor expression is ill-typed or has an invalid shape."""


class ScheduleError(Error):
    """A schedule primitive was given arguments that are not legal at this point."""


class TargetError(Error):
    """A target name or option is unknown, or the host cannot run code for the target."""


class OnnxError(Error):
    """A model file cannot be read, or holds something that Luthier does not support."""


class InputError(Error):
    """A value given at run time has the wrong name, dtype or shape."""


class LogError(Error):
    """A tuning log cannot be opened, read or written."""


class LogUnavailableError(LogError):
    """A tuning log cannot be written or read now: it is locked, its disk is full, or its file was taken away."""


class ArtifactError(Error):
    """A saved artifact is damaged, or was made for another machine or version."""


class TuningError(Error):
    """A tuning request cannot be carried out as given."""


class InternalError(Exception):
    """A defect of Luthier: names the pass or component, and where its dump is, if there is one."""
