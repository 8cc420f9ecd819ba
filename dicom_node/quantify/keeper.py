"""Runs a command and takes it, with all that it started, down when whoever started this dies or lets go.

A program of its own, without any import of the project: ``python -I keeper.py command argument …``. Standard
input is a pipe that nothing is ever written to; its end is the end.
"""

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> int:
    """The command's exit code; 127 if it cannot be started, 128 + n if signal n ended it."""

    def end_with_my_parent() -> None:
        while os.read(0, 1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=end_with_my_parent, daemon=True).start()
    try:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    except OSError as e:
        os.write(2, f"{e.strerror}\n".encode())
        return 127
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # the thread waits in a read: no orderly end waits for it
