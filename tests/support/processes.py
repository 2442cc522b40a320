"""Programs as calls, and processes that the tests start and kill. They are forked, since imports take longer than a test."""

import gc
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from accelerate.state import AcceleratorState, GradientState
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def reset_accelerate():
    """Makes accelerate forget the state of the last program."""
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


def run_here(program: str, command: list[str]):
    """Calls main() of a program as its command line does, in this process."""
    reset_accelerate()
    argv, main = sys.argv, importlib.import_module(program).main
    sys.argv = [f"{program}.py", *command]
    gc.freeze()  # accelerate collects garbage, among all that pytest and the imports hold
    try:
        main()
    finally:
        gc.unfreeze()
        sys.argv = argv


def run_train_here(command: list[str]):
    """Calls main() of train.py as its command line does, in this process."""
    run_here("train", command)


def find_free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def run_on_processes(function: Callable, *arguments, log_dir: Path, num_processes: int = 2) -> list:
    """
    Calls a function on several processes, with the code of torchrun.

    Args:
        function: Gets the arguments and returns a small value: a large one would block its pipe.
        log_dir: Folder for what the processes print.

    Returns:
        The values by rank.

    Raises:
        ChildFailedError: if a process fails; it names the first one.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id="tests",
        rdzv_backend="c10d",
        rdzv_endpoint=f"127.0.0.1:{find_free_port()}",
        max_restarts=0,
        start_method="fork",
        local_addr="127.0.0.1",
        logs_specs=DefaultLogsSpecs(log_dir=str(log_dir), redirects=Std.ALL),
    )
    names = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    handlers = {name: signal.getsignal(name) for name in names}
    gc.freeze()  # garbage with threads, such as an earlier store, would abort a forked process that collects it
    try:
        results = elastic_launch(config, function)(*arguments)
    finally:
        gc.unfreeze()
        for name, handler in handlers.items():
            signal.signal(name, handler)
    return [results[rank] for rank in range(num_processes)]


def read_logs(log_dir: Path, rank: int) -> str:
    """Returns what a process has printed, including errors."""
    files = sorted(log_dir.rglob(f"{rank}/std*.log"))
    return "".join(file.read_text() for file in files)


def run_forked(function: Callable, *arguments, log: Path) -> int:
    """Calls a function in a child process; returns its exit code, or minus the number of the signal that ended it."""
    gc.freeze()  # as in `run_on_processes`
    child = os.fork()
    if child == 0:
        code = 1
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            # pytest has put others in the place of these two.
            sys.stdout = sys.stderr = os.fdopen(descriptor, "w", buffering=1)
            function(*arguments)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    gc.unfreeze()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
