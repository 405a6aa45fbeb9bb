"""A short version of `make chaos`: one round."""

import re
import subprocess
import sys

from tests.chaos.rounds import ROOT


def test_a_job_that_is_killed_again_and_again_ends_with_the_same_table() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--engine", "hand", "--rounds", "1"]
    bounds = ["--rows", "200", "--minutes", "2", "--pause", "0.6", "--seed", "4"]
    done = subprocess.run([*command, *bounds], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = dict(re.findall(r"^(\w[\w ]*?)  +(\d+)", done.stdout, re.MULTILINE))
    assert (told["duplicates"], told["missing"], told["differing"]) == ("0", "0", "0")
    assert told["rows"] == "200"
    assert int(told["kills and hangs"]) > 0
