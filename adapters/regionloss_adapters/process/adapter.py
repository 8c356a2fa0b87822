"""An adapter in a process of its own, in any language: lines of JSON on its standard streams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regionloss_adapters.process.child import LINE_LIMIT, Child, ChildGoneError, printable
from regionloss_adapters.process.folder import Folder
from regionloss_adapters.process.messages import (
    answer,
    decode,
    description,
    encode,
    hello,
    options_of,
    question_message,
)
from regionloss_adapters.protocol import (
    AdapterError,
    Answer,
    CannotAnswerError,
    Description,
    Question,
    RefusedError,
    missing_option,
)
from regionloss_spec import Batch, ProfileError, load_profile

#: How often a child is restarted after it died, hung or broke the protocol.
RESTARTS = 5


class LossError(RuntimeError):
    """The loss in the other process crashed, hung or reported an error while it computed a batch."""


class ProcessAdapter:
    """A loss in another process that speaks the protocol of `docs/protocol.md`.

    The child is started on first use, in its own process group, with the environment of this process. Before the first
    question it gets a trivial batch, so that a mistake in the adapter shows as one and is not blamed on the loss. After
    a crash or a timeout it is restarted, `RESTARTS` times at most.

    Not thread-safe.

    Args:
        command: program and arguments; not run by a shell.
        start_timeout: seconds to wait for the child's hello.
        answer_timeout: seconds to wait for an answer.
        cwd: the working folder, the current one if `None`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        start_timeout: float = 20.0,
        answer_timeout: float = 60.0,
        cwd: str | Path | None = None,
    ) -> None:
        if isinstance(command, str) or not command:
            raise AdapterError(f"the command of an adapter is {command!r}, expected a program and its arguments")
        self._command = [str(part) for part in command]
        self._start_timeout = start_timeout
        self._answer_timeout = answer_timeout
        self._cwd = cwd
        self._child: Child | None = None
        self._folder: Folder | None = None
        self._description: Description | None = None
        self._options: tuple[str, ...] | None = None
        self._starts = 0
        self._number = 0
        self._last_failure = ""

    def describe(self) -> Description:
        """The child's name and what it can answer, from its hello.

        Raises:
            AdapterError: it cannot be started, or fails on a trivial batch.
        """
        if self._description is None:
            self._description = self._start()
            try:
                self._smoke(self._description)
            except AdapterError:
                self._description = None
                self._stop(at_once=True)
                raise
        return self._description

    def answer(self, question: Question) -> Answer:
        """Put one batch to the child.

        Raises:
            RefusedError: it refused the input as outside the domain.
            CannotAnswerError: it does not support the question.
            LossError: it died, hung or reported an error.
            AdapterError: it wrote something that is not an answer, or cannot be restarted.
        """
        known, options = self.describe(), self._options
        if self._child is None and (self._start() != known or self._options != options):
            self._stop(at_once=True)
            raise AdapterError("the adapter itself described itself differently after a restart")
        if options is not None:
            missing = missing_option(question.profile, known.profiles, options)
            if missing is not None:
                raise CannotAnswerError(f"it has no option {missing}")
        return self._ask(question, known)

    def close(self) -> None:
        """End the child; it is restarted on the next use."""
        self._stop(at_once=False)

    def __enter__(self) -> ProcessAdapter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> Description:
        if self._starts > RESTARTS:
            raise AdapterError(
                f"the adapter itself was started {self._starts} times and will not be restarted; "
                f"the last time it {self._last_failure}"
            )
        self._starts += 1
        self._number += 1
        self._child, self._folder = Child(self._command, self._cwd), Folder()
        try:
            line = self._child.exchange(encode(hello(self._number, self._folder, LINE_LIMIT)), self._start_timeout)
            message = decode(line, self._number, "hello")
            self._options = options_of(message)
        except ChildGoneError as gone:
            raise AdapterError(f"the adapter itself {self._failed(gone)}; it never sent its hello") from gone
        except AdapterError as error:
            raise AdapterError(self._failed(error)) from error
        return description(message)

    def _smoke(self, known: Description) -> None:
        """Put a trivial batch to the child; its answer only has to be well-formed."""
        name = "darknet" if known.profiles[0] == "*" else known.profiles[0]
        try:
            profile = load_profile(name)
        except ProfileError as error:
            raise AdapterError(f"the adapter itself makes an invalid claim: {error}") from error
        batch = Batch(
            predictions=np.zeros((1, 6, 1, 1)),
            truths=(np.zeros((0, 5)),),
            anchors=np.ones((1, 2)),
            classes=1,
            images_seen=profile.prior_until,
            tree=(-1,) if profile.class_term == "tree" else None,
        )
        try:
            self._ask(Question(batch=batch, profile=profile, dtype=known.dtypes[0], device=known.devices[0]), known)
        except (RefusedError, CannotAnswerError):
            return  # well-formed; the clauses decide whether it is right
        except LossError as error:
            raise AdapterError(f"the adapter itself fails on a trivial batch of one cell: {error}") from error

    def _ask(self, question: Question, known: Description) -> Answer:
        assert self._child is not None
        assert self._folder is not None
        self._number += 1
        try:
            line = self._child.exchange(
                encode(question_message(self._number, question, self._folder)), self._answer_timeout
            )
            message = decode(line, self._number, "answer", "refused", "skipped", "error")
        except ChildGoneError as gone:
            raise LossError(f"the loss {self._failed(gone)}") from gone
        except AdapterError as error:
            raise AdapterError(self._failed(error)) from error
        try:
            match message["type"]:
                case "refused":
                    raise RefusedError(printable(message["message"]), message.get("image"), message.get("truth"))
                case "skipped":
                    raise CannotAnswerError(printable(message["reason"]))
                case "error":
                    raise LossError(f"the loss reported an error: {printable(message['message'])}")
                case _:
                    return answer(message, np.shape(question.batch.predictions), known.answers, self._folder)
        finally:
            self._folder.clear()

    def _failed(self, error: Exception) -> str:
        """Kill a child that can no longer be used; return what happened, with the end of its standard error."""
        child = self._child
        self._last_failure = str(error).removeprefix("the adapter itself ")
        self._stop(at_once=True)
        return str(error) + (child.last_words() if child is not None else "")

    def _stop(self, *, at_once: bool) -> None:
        if self._child is not None:
            if at_once:
                self._child.kill()
            else:
                self._child.stop()
        if self._folder is not None:
            self._folder.close()
        self._child = self._folder = None
