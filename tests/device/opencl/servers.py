"""TVM's own RPC server, as a board runs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tvm_eff.device import opencl
from tvm_eff.device.opencl.loading import environment


@contextmanager
def tvm_server(folder: Path, variables: Mapping[str, str], *, plugin: bool = True) -> Iterator[int]:
    """Run the server, with the plug-in named on its command line, and lend its port."""
    command = [sys.executable, "-m", "tvm.exec.rpc_server", "--host", "127.0.0.1"]
    command += ["--port", "9190", "--port-end", "9290"]
    command += ["--load-library", str(opencl.build())] if plugin else []
    with subprocess.Popen(
        command,
        # It is killed, and leaves a folder of what it was sent.
        env={
            **os.environ,
            **environment("pocl"),
            **variables,
            "TVM_USE_RUNTIME_LIB": "1",
            "TMPDIR": str(folder),
        },
        cwd=folder,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "bind to" in line:
                    break
            port = int(line.rstrip().rpartition(":")[2])
            _wait_for(port)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_for(port: int) -> None:
    # It says where it is bound before it listens there.
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
