import os
import subprocess
import sys
from pathlib import Path

from pantskit.networks.runtime import claim_number

CLAIM = """
import sys, time
from pathlib import Path
from pantskit.networks.runtime import claim_number
print(claim_number(2, Path(sys.argv[1]))[0], flush=True)
sys.stdin.read()
"""


def test_processes_take_one_number_each_and_give_it_back_when_they_end(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CLAIM, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command, **pipes)  # type: ignore[call-overload]
    assert first.stdout.readline() == "0\n"
    number, held = claim_number(2, tmp_path)
    assert number == 1
    assert held is not None
    assert claim_number(2, tmp_path) == (os.getpid() % 2, None)  # more than there are: shared
    first.kill()
    first.wait()
    again, other = claim_number(2, tmp_path)
    assert again == 0
    for descriptor in (held, other):
        os.close(descriptor)
