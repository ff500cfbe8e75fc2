"""What a run tells while it goes on: one line, and every problem in full.

Snakemake prints some twenty lines for each job. Here its own log file keeps them, and the terminal
gets one line: how many jobs are done, which run, and when all of them will be.
"""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

SECONDS = {True: 2.0, False: 60.0}
"""Between two lines: on a terminal, where one replaces the other, and in a file."""

DETAILS = {
    *("workflow_started", "run_info", "resources_info", "shellcmd", "progress"),
    *("job_info", "job_started", "job_finished", "group_info"),
}
"""Snakemake's events that the line stands for."""

CHATTER = (
    *("Select jobs to execute", "Singularity containers: ignored", "Conda environments: ignored"),
    *("Building DAG of jobs", "Using shell:", "Provided cores:", "Rules claiming more threads"),
    *("Updating checkpoint dependencies", "DAG of jobs will be updated", "Storing output"),
)

Expected = Callable[[str, Mapping[str, str]], float]


def attach(workflow: Any, expected: Expected, stream: TextIO = sys.stderr) -> Terminal | None:
    """Put the line in place of Snakemake's output on the terminal.

    Snakemake's own output stays in a trial run (``-n``), where it is the plan, with ``--verbose``,
    ``--printshellcmds`` and ``--quiet``, which ask for another, and in processes that one job runs
    in. Its log file stays whole.

    Args:
        workflow: Snakemake's.
        expected: seconds that a job of a rule with these wildcards should take.
        stream: where the line goes.
    """
    from snakemake.logging import logger  # type: ignore[import-untyped]

    settings = workflow.output_settings
    own_wish = settings.verbose or settings.printshellcmds or settings.quiet or settings.debug_dag
    if not workflow.is_main_process or own_wish:
        return None
    own = [handler for handler in logger.handlers if handler.name == "DefaultStreamHandler"]
    if not own:
        return None  # a logger plugin writes there
    # Which executor there is, and so whether this is a trial, is known once the rules are read.
    terminal = Terminal(expected, stream, lambda: not workflow.dryrun)
    for handler in own:
        handler.addFilter(terminal.leaves)
    logger.addHandler(terminal)
    return terminal


class Terminal(logging.Handler):
    """Follows a run by Snakemake's events and says in one line how far it is.

    Args:
        expected: seconds that a job of a rule with these wildcards should take.
        stream: where the line goes.
        active: whether there is anything to follow; a trial run is left alone.
        clock: seconds, for the tests.
    """

    def __init__(
        self,
        expected: Expected,
        stream: TextIO = sys.stderr,
        active: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(logging.INFO)
        self.expected, self.stream, self.active, self.clock = expected, stream, active, clock
        self.shown = stream.isatty()
        self.every = SECONDS[self.shown]
        self.done, self.total, self.failed = 0, 0, 0
        self.jobs: dict[int, tuple[str, float]] = {}
        self.begun: dict[int, float] = {}
        self.waiting: dict[str, list[float]] = {}
        self.measured, self.reckoned, self.width = 0.0, 0.0, 0
        self.most_at_once, self.last, self.line = 1, float("-inf"), ""
        self._ended, self._alone = threading.Event(), threading.RLock()

    def plan(self, jobs: Iterable[tuple[str, Mapping[str, str]]]) -> None:
        """The jobs that are to run, as rule and wildcards."""
        for rule, wildcards in jobs:
            self.waiting.setdefault(rule, []).append(self.expected(rule, wildcards))

    def start(self) -> None:
        """Say now and then what runs, also where no job ends for long."""
        threading.Thread(target=self._tick, daemon=True).start()

    def stop(self) -> None:
        """The run is over: the next line of others stands alone."""
        self._ended.set()
        with self._alone:
            self._tell(now=True)
            self._clear()

    def leaves(self, record: logging.LogRecord) -> bool:
        """Whether Snakemake's own output prints a record: problems, and what is no job's."""
        if record.levelno < logging.WARNING and self.active():
            if str(getattr(record, "event", "") or "") in DETAILS:
                return False
            if str(record.msg or "").startswith(CHATTER):
                return False
        with self._alone:
            self._clear()
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of an event."""
        if not self.active():
            return
        event = str(getattr(record, "event", "") or "")
        with self._alone:  # the thread that tells reads what is noted here
            if self._note(event, record.__dict__):
                self._tell(now=event == "job_error")

    def _note(self, event: str, fields: Mapping[str, Any]) -> bool:
        """Whether the event is one that the line tells of."""
        if event == "run_info":
            self.total = int(fields["stats"].get("total", 0))
        elif event == "job_info":
            self._begin(fields)
        elif event == "job_finished":
            self._end(fields["job_id"])
        elif event == "job_error":
            self.failed += 1
            self._end(fields["jobid"], counts=False)
        elif event == "progress":
            self.done, self.total = fields["done"], fields["total"]
        else:
            return False
        return True

    def _begin(self, fields: Mapping[str, Any]) -> None:
        rule = fields["rule_name"]
        names = " ".join(map(str, dict(fields.get("wildcards") or {}).values()))
        seconds = self.expected(rule, dict(fields.get("wildcards") or {}))
        waiting = self.waiting.get(rule)
        if waiting:
            waiting.remove(min(waiting, key=lambda other: abs(other - seconds)))
        self.jobs[fields["jobid"]] = (f"{rule} {names}".strip(), seconds)
        self.begun[fields["jobid"]] = self.clock()
        self.most_at_once = max(self.most_at_once, len(self.begun))

    def _end(self, job: int, counts: bool = True) -> None:
        begun = self.begun.pop(job, None)
        if begun is not None and counts:
            self.measured += self.clock() - begun
            self.reckoned += self.jobs[job][1]

    def seconds_left(self) -> float | None:
        """Until all jobs are done, by what is expected of them and by how long others took.

        None before a job has ended.
        """
        if not self.reckoned:
            return None
        pace = self.measured / self.reckoned
        now = self.clock()
        running = [max(0.0, pace * self.jobs[j][1] - (now - t)) for j, t in self.begun.items()]
        waiting = [pace * seconds for found in self.waiting.values() for seconds in found]
        share = (sum(running) + sum(waiting)) / self.most_at_once
        return max([share, *running, *waiting])

    def sentence(self) -> str:
        """Jobs done, what runs, and when all of it will be finished."""
        failed = f", {self.failed} failed" if self.failed else ""
        text = f"{self.done} of {self.total} jobs done{failed}"
        if self.begun:
            text += f"; running: {', '.join(self.jobs[job][0] for job in self.begun)}"
        left = self.seconds_left()
        if left is not None and self.begun:
            text += f"; done at about {time.strftime('%H:%M', time.localtime(self.clock() + left))}"
        return text

    def _tell(self, now: bool = False) -> None:
        if not self.total or (not now and self.clock() - self.last < self.every):
            return
        line = self.sentence()
        if line == self.line and not self.shown:
            return
        self.last, self.line = self.clock(), line
        if self.shown:
            width = shutil.get_terminal_size().columns - 1
            cut = line if len(line) <= width else line[: width - 1] + "…"
            self.stream.write(f"\r\x1b[K{cut}")
            self.width = len(cut)
        else:
            self.stream.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        self.stream.flush()

    def _clear(self) -> None:
        if self.width:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self.width = 0

    def _tick(self) -> None:
        while not self._ended.wait(self.every):
            with self._alone:
                self._tell()
