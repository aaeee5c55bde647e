"""The shell of a run, for the command line and for Python: progress, the signals that stop it, the table at its end."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from fedray.core.errors import RunFailed
from fedray.core.notebooks import in_notebook
from fedray.core.record import RoundRecord
from fedray.core.stages import listening
from fedray.experiment.experiment import Experiment
from fedray.experiment.stop import was_asked
from fedray.run.ending import Stop, ended_by_callback, gone_on_after
from fedray.run.failure_policy import lies_with_a_client
from fedray.run.interrupt import StoppedEarly, StopSignals, exit_at_once
from fedray.rundir.names import to_go_on, to_look_at
from fedray.tracking.console import Console
from fedray.tracking.notebook import Notebook


@dataclass(frozen=True)
class Ended:
    """The end of a run that did not fail.

    Args:
        history: the records of the rounds that were run here, in order.
        stopped: a signal stopped it, with a checkpoint saved.
        by_name: the signal was that of `fedray stop` with its own folder.
        by_callback: a callback ended it before its last round.
    """

    history: list[RoundRecord]
    stopped: bool
    by_callback: bool = False
    by_name: bool = False


def run_in_sight(
    experiment: Experiment,
    *,
    quiet: bool = False,
    own_process: bool = True,
    alone: bool = True,
) -> Ended:
    """Run an experiment in sight of the user; a signal stops it with a checkpoint.

    Its callbacks are called in this process after each record, before the next round begins; one that says so ends it.

    Args:
        experiment: the run and its place.
        quiet: show nothing.
        own_process: a second signal ends the process at once; False, where it is the user's, such as a notebook: it is
            raised again, and interrupts.
        alone: False: it is one of several runs, and whoever runs them says at the end how to look at all.

    Raises:
        RunFailed: the run could not go on, with the place of its log.
        ConfigError: a mistake that was found as the run started.
    """
    run, told = experiment.run, experiment.callbacks
    stops, by_name = list[Stop](), list[bool]()
    # Who goes on with a run that a callback had ended knows better than the callback.
    gone_on = gone_on_after(run.folder.summary()) if run.resume else 0
    hints = run.hints() if alone else []
    console = Notebook(hints) if in_notebook() and not quiet else Console(quiet=quiet, hints=hints)
    again = "exit" if own_process else "interrupt"
    signals = StopSignals(
        lambda: console.note(f"stopping: saving a checkpoint (once more to {again} at once)"),
        exit_at_once if own_process else signal.raise_signal,
        # Not by the thread that asks for the stop: a round may be over while that reads files.
        lambda: by_name.append(was_asked(run.folder.path)),
    )
    history: list[RoundRecord] = []

    def armed(stop: Stop) -> None:
        stops.append(stop)
        signals.arm(stop)

    console.start(run.info())
    try:
        with signals, listening(console.stage):
            try:
                for record in experiment.records(armed):
                    if run.resume and not history:
                        told.resume(run.folder.path, record.round)
                    history.append(record)
                    console.round(record)
                    reason = told.tell(record)
                    if reason and gone_on < record.round < run.plan.rounds:
                        stops[0](reason)
            except StoppedEarly:
                if alone or not any(by_name):
                    raise
                return Ended([], stopped=True, by_name=True)
        # Not by the signals: one that comes late finds a run that is finished all the same.
        summary = run.folder.summary()
        if summary["status"] != "stopped":
            console.finish(summary)
        elif not own_process:
            console.note(f"stopped; go on with: {to_go_on(run.folder.path)}")
    except RunFailed as error:
        # Of a run that has left nothing behind there is no log.
        if not run.folder.log.exists():
            raise
        look = f"\nlook at it: {to_look_at(run.folder.path)}" if lies_with_a_client(str(error)) else ""
        raise type(error)(f"{error}{look}\nlog: {run.folder.log}") from error
    finally:
        console.close()
    # By the summary: a run that was killed as a callback ended it has no record left to call that one with.
    return Ended(history, summary["status"] == "stopped", ended_by_callback(summary), any(by_name))
