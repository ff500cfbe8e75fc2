#!/usr/bin/env bash
# Stop what start.sh started in DIR, by the process ids it wrote. Usage: stop.sh DIR
set -u
for pid in "$1"/slurmd.pid "$1"/slurmctld.pid "$1"/munge/munged.pid; do
    [[ -s $pid ]] && kill "$(cat "$pid")"
done
[[ $(readlink /etc/slurm/slurm.conf) == "$1/slurm.conf" ]] && rm /etc/slurm/slurm.conf
exit 0
