"""Run as a script: becomes a server that ends when the process that started it does.

A runner that is killed cannot stop its servers, so the kernel does it (Linux alone has that; on
other systems this only changes the account). It is a program of its own because the request must
come after the change of account, which clears it, and because a fork hook inside a runner that has
threads can hang.

    python -I -S leash.py STARTER_PID SIGNAL UID:GID|- PROGRAM [ARGUMENT ...]
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(starter: str, signal: str, account: str, *command: str) -> None:
    if account != "-":
        uid, gid = (int(part) for part in account.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal), 0, 0, 0) != 0:
            sys.exit("the kernel refused to tie this process to its starter")
        if os.getppid() != int(starter):
            sys.exit("the process that started this one is gone")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
