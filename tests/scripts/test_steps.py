"""scripts/steps.sh: what runs side by side is told apart, waited for and asked to stop as a whole."""

import signal
import subprocess
from pathlib import Path

import pytest

STEPS = Path(__file__).parents[2] / "scripts" / "steps.sh"
BEGINNING = f"set -euo pipefail\nruns=nowhere\nsource {STEPS}\ngetconf() {{ echo 4; }}\n"


def hear_signals() -> None:
    """In the background tests ignore Ctrl-C, under nohup the end of the terminal, and a shell cannot catch
    what it was started to ignore."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", "-c", BEGINNING + script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_signals,
    )


def test_two_commands_run_side_by_side_with_half_of_the_cores_and_headed_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    # each waits for the other: one after the other they would never end
    meet = """
      meet() { touch "$1"; until [ -e "$2" ]; do sleep .01; done; echo "met $2 with $OMP_NUM_THREADS" >&2; }
      cd %s
      beside first meet a b
      beside second meet b a
      until_all_are_done
      echo and then
    """
    process = start(meet % tmp_path)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert sorted(out.splitlines()[:2]) == ["first | met b with 2", "second | met a with 2"]
    assert out.splitlines()[2:] == ["and then"]
    assert err == ""


def test_one_that_fails_is_named_and_the_other_comes_to_its_end() -> None:
    process = start(
        """
        slow() { sleep .3; echo finished; }
        beside good slow
        beside bad false
        until_all_are_done
        echo not reached
        """
    )
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert out == "good | finished\n"
    assert err == "error: bad ended with exit code 1: its last lines above say why.\n"


def test_one_is_waited_for_and_another_begins_while_the_first_goes_on(tmp_path: Path) -> None:
    process = start(
        f"""
        long() {{ until [ -e "{tmp_path}/go" ]; do sleep .01; done; echo at last; }}
        next() {{ echo next; touch "{tmp_path}/go"; }}
        beside long long
        beside short echo short
        until_done short
        beside next next
        until_done long
        echo after both
        until_done nobody
        until_all_are_done
        """
    )
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    lines = out.splitlines()
    assert sorted(lines) == ["after both", "long | at last", "next | next", "short | short"]
    assert lines.index("after both") > lines.index("long | at last")


def test_when_the_one_that_is_waited_for_fails_the_others_come_to_their_end_and_nothing_else_begins() -> None:
    process = start(
        """
        slow() { sleep .3; echo finished; }
        fails() { exit 3; }
        beside good slow
        beside bad fails
        until_done bad
        echo not reached
        """
    )
    out, err = process.communicate(timeout=30)
    assert process.returncode == 3
    assert out == "good | finished\n"
    assert err == "error: bad ended with exit code 3: its last lines above say why.\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_reaches_all_of_them_and_waits_until_they_have_saved(number: int, code: int) -> None:
    saving = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(.2), "
    saving += "print('saved'), sys.exit(143))); print('begun', flush=True); time.sleep(30)"
    process = start(
        f"""
        long() {{ python3 -c "{saving}"; echo not reached; }}
        beside one long
        beside two long
        until_all_are_done
        """
    )
    assert process.stdout
    assert sorted(process.stdout.readline() for _ in range(2)) == ["one | begun\n", "two | begun\n"]
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == code
    assert sorted(out.splitlines()) == ["one | saved", "two | saved"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_stop_of_the_script_alone_reaches_a_command_in_the_foreground(number: int, code: int) -> None:
    saving = "trap 'sleep .2; echo saved; exit 143' TERM; echo begun; sleep 30 & wait"
    process = start(f'step() {{ run bash -c "{saving}"; }}\nrun echo before\nstep\necho not reached')
    assert process.stdout
    assert [process.stdout.readline() for _ in range(2)] == ["before\n", "begun\n"]
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (code, "saved\n", "")


def test_a_stop_reaches_a_command_that_is_suspended_as_it_would_be_for_reading_from_the_terminal() -> None:
    process = start("run bash -c '(sleep .4; echo begun) & sleep .2; kill -STOP $$; echo not reached'")
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[0] == ""
    assert process.returncode == 143


def test_a_command_in_the_foreground_that_fails_ends_the_script_with_its_code() -> None:
    process = start("run bash -c 'exit 3'\necho not reached")
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 3


def test_with_one_core_or_in_a_plan_they_run_in_turn(tmp_path: Path) -> None:
    for setting in ("getconf() { echo 1; }", f"plan={tmp_path / 'plan'}"):
        process = start(f"{setting}\nbeside first echo 1\nbeside second echo 2\nuntil_all_are_done\necho 3\n")
        assert process.communicate(timeout=30) == ("1\n2\n3\n", "")
