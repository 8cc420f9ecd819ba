"""A child process leaves when its parent dies without a word."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from dicom_node.orphan import leave_with

CHILD = """
import os, sys, time
from dicom_node.orphan import leave_with
leave_with(int(sys.argv[1]), lambda: os._exit(0))
print(os.getpid(), flush=True)
time.sleep(20)
print("stayed")
"""
PARENT = "import os, subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], str(os.getpid())])"


def test_a_child_leaves_when_its_parent_is_killed_and_not_before() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(1.2)
        os.kill(child, 0)  # still there
        parent.kill()
        assert parent.stdout.read() == "", "the pipe's other end is the child's: it closes with it"


def test_a_child_that_is_an_orphan_from_the_start_leaves_too() -> None:
    left: list[bool] = []
    leave_with(os.getppid() + 1, lambda: left.append(True))
    deadline = time.monotonic() + 10
    while not left and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left
