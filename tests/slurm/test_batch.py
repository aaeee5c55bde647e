"""The batch script: what stands in it, and what cannot."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.config.sections import SlurmSection
from fedray.core.errors import ConfigError
from fedray.slurm.batch import BatchJob, header, render

ROOT = Path(__file__).resolve().parents[2]
RUN = Path("/shared/runs/x")


def directives(text: str) -> dict[str, str]:
    """What sbatch would read: options up to the first line that is no comment."""
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    body = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    options = [line.removeprefix("#SBATCH --") for line in lines[:body] if line.startswith("#SBATCH ")]
    return {name: value.strip('"') for name, _, value in (option.partition("=") for option in options)}


def test_the_shipped_script_is_what_is_rendered_by_default() -> None:
    assert (ROOT / "slurm" / "fedray.sbatch").read_text() == render(BatchJob())


def test_a_job_is_requeued_warned_and_logged_in_its_run_folder() -> None:
    section = SlurmSection(
        nodes=4, gpus_per_node=2, cpus_per_task=8, mem="16G", time="02:00:00", partition="gpu", grace=60
    )
    text = render(BatchJob(section, "digits", "/venv/bin/python", RUN, (RUN,)))
    assert directives(text) == {
        "job-name": "digits",
        "nodes": "4",
        "ntasks-per-node": "1",
        "cpus-per-task": "8",
        "gpus-per-node": "2",
        "mem": "16G",
        "time": "02:00:00",
        "partition": "gpu",
        "requeue": "",
        "open-mode": "append",
        "signal": "B:USR1@60",
        "output": "/shared/runs/x/slurm-%j.log",
    }
    assert text.splitlines()[-1] == f"exec /venv/bin/python -m fedray.slurm.job {RUN}"


def test_the_prologue_comes_before_the_run_and_after_the_options() -> None:
    lines = render(BatchJob(SlurmSection(prologue=["module load cuda", "source venv/bin/activate"]))).splitlines()
    assert lines[-3:-1] == ["module load cuda", "source venv/bin/activate"]
    assert "module load cuda" not in "\n".join(lines[: lines.index("module load cuda")])


def test_further_options_win_and_false_takes_one_away() -> None:
    section = SlurmSection(
        sbatch={"exclusive": True, "constraint": "a100 & ib", "requeue": False, "signal": "B:USR1@9"}
    )
    found = directives(render(BatchJob(section)))
    assert found["exclusive"] == ""
    assert found["constraint"] == "a100 & ib"
    assert found["signal"] == "B:USR1@9"
    assert "requeue" not in found


def test_several_runs_are_an_array_with_a_run_to_a_task(tmp_path: Path) -> None:
    runs = (RUN, Path("/shared/runs/it's"), Path("/shared/runs/z"))
    text = render(BatchJob(folder=RUN, runs=runs))
    assert directives(text)["array"] == "0-2"
    assert directives(text)["output"].endswith("/slurm-%A_%a.log")
    shown = text.replace("exec python -m fedray.slurm.job", "echo")
    for task, run in enumerate(runs):
        said = subprocess.run(
            ["bash", "-c", shown], env={"SLURM_ARRAY_TASK_ID": str(task)}, capture_output=True, text=True
        )
        assert said.stdout == f"{run}\n"


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"Weird Key": "1"}, "'Weird Key' is no long option"),
        ({"comment": 'say "hi"'}, "--comment="),
        ({"comment": "two\nlines"}, "--comment="),
        ({"comment": ""}, "--comment="),
    ],
)
def test_what_sbatch_cannot_read_is_refused(option: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        render(BatchJob(SlurmSection(sbatch=option)))


def test_a_percent_sign_of_the_folder_is_no_pattern() -> None:
    assert header(BatchJob(folder=Path("/a%j")))["output"] == "/a%%j/slurm-%j.log"


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters='"\\'), min_size=1))
def test_any_other_value_is_read_back(value: str) -> None:
    text = render(BatchJob(SlurmSection(sbatch={"comment": value})))
    line = next(line for line in text.splitlines() if "--comment" in line)
    written = line.removeprefix("#SBATCH --comment=")
    assert written.strip('"') == value or written == value
    # A blank or a number sign outside of quotes would end the value.
    assert written.startswith('"') or not set(written) & set(" #'")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"nodes": 0}, "nodes"),
        ({"grace": 0}, "grace"),
        ({"max_requeues": -1}, "max_requeues"),
        ({"time": 43200}, "quotes"),
        ({"workers": 0}, "workers"),
    ],
)
def test_a_section_that_makes_no_sense(fields: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        SlurmSection(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("runs", "given", "array"),
    [(1, None, None), (1, "%2", None), (3, None, "0-2"), (3, "%2", "0-2%2"), (3, "0-2", "0-2"), (3, "0-2%1", "0-2%1")],
)
def test_an_array_has_a_task_for_each_run(runs: int, given: str | None, array: str | None) -> None:
    section = SlurmSection(sbatch={} if given is None else {"array": given})
    job = BatchJob(section, runs=tuple(Path(f"r{number}") for number in range(runs)))
    assert header(job).get("array") == array


@pytest.mark.parametrize(
    ("runs", "given", "words"),
    [
        (1, "0-3", "this is one run"),
        (0, "0-3", "this is one run"),
        (3, "0-9", "the sweep has 3 runs to do, and its array 0-2"),
        (3, "1-3%2", "array=%2"),
        (3, "0-2%no", "as in %4"),
    ],
)
def test_another_array_is_refused(runs: int, given: str, words: str) -> None:
    job = BatchJob(SlurmSection(sbatch={"array": given}), runs=tuple(Path(f"r{number}") for number in range(runs)))
    with pytest.raises(ConfigError, match=words):
        render(job)
