"""Time on the CPU of this process and its children, which other work does not change much."""

import psutil


def tree_cpu_seconds() -> float:
    """Returns the time that this process and its living children have taken, in seconds.

    What Ray starts here is among them; what has ended counts where its parent waited for it.
    """
    me = psutil.Process()
    return sum(_cpu_seconds(process) for process in (me, *me.children(recursive=True)))


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system + times.children_user + times.children_system
