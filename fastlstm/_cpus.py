"""How many CPUs this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable_cpus(root: Path = Path("/")) -> int:
    """The CPUs of the scheduler's mask, or the fewer that a container's quota pays for.

    `root` is where ``proc`` and ``sys`` are.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quotas = [int(quota) for quota in _quotas(root)]
    return max(1, min([count or 1, *quotas]))


def _quotas(root: Path) -> Iterator[float]:
    """CPUs, one number for each control group with a limit that this process is in."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        # Version 2 has one hierarchy of groups, without a name; version 1 one for the CPU.
        if controllers == "":
            folder, read = root / "sys/fs/cgroup", _quota
        elif "cpu" in controllers.split(","):
            folder, read = root / "sys/fs/cgroup/cpu", _quota_of_version_1
        else:
            continue
        # In a container the path may be that of the host; the folder itself is its group then.
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            try:
                yield read(folder / group.relative_to("/"))
            except (OSError, ValueError, ZeroDivisionError):
                continue


def _quota(group: Path) -> float:
    """Microseconds of CPU, or "max", in a period of so many."""
    quota, period = (group / "cpu.max").read_text().split()
    return int(quota) / int(period)


def _quota_of_version_1(group: Path) -> float:
    quota = int((group / "cpu.cfs_quota_us").read_text())
    if quota < 0:
        raise ValueError("without a limit")
    return quota / int((group / "cpu.cfs_period_us").read_text())
