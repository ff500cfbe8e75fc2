#!/usr/bin/env bash
# Start a Slurm of one node on 127.0.0.1, without systemd. Usage: start.sh DIR [CPUS [MEM_MB]]
# Needs root, and: apt-get install --no-install-recommends slurm-wlm munge
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mkdir -p "$1" && cd "$1" && pwd)
cpus=${2:-$(nproc)}
mem=${3:-$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)}
conf=/etc/slurm/slurm.conf

# The job-step executor drops every SLURM_* variable before it calls srun, so the configuration must
# lie where Slurm looks by itself. A cluster's own is never touched.
if [[ -e $conf && ! -L $conf ]]; then
    echo "$conf is this machine's own" >&2
    exit 3
fi
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

mkdir -p "$dir"/{ctld,slurmd,munge}
# munged will not run as root unasked, and checks the owner and mode of all it opens.
(umask 077 && head -c 1024 /dev/urandom > "$dir/munge/munge.key")
chown -R munge:munge "$dir/munge"
chmod 755 "$dir/munge"
runuser -u munge -- /usr/sbin/munged --force --key-file="$dir/munge/munge.key" \
    --socket="$dir/munge/munge.sock" --pid-file="$dir/munge/munged.pid" \
    --log-file="$dir/munge/munged.log" --seed-file="$dir/munge/munged.seed" --num-threads=2

sed -e "s|@DIR@|$dir|g; s|@HOST@|$(hostname -s)|g; s|@CPUS@|$cpus|g; s|@MEM@|$mem|g" \
    -e "s|@CTLD_PORT@|$(free_port)|; s|@SLURMD_PORT@|$(free_port)|" \
    "$here/slurm.conf.in" > "$dir/slurm.conf"
mkdir -p /etc/slurm
ln -sfn "$dir/slurm.conf" "$conf"
/usr/sbin/slurmctld -i
/usr/sbin/slurmd
for _ in $(seq 300); do
    if [[ $(sinfo -h -o %t 2> /dev/null) == idle ]]; then
        exit 0
    fi
    sleep 0.1
done
tail -n 20 "$dir"/slurmctld.log "$dir"/slurmd.log >&2
exit 1
