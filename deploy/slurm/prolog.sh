#!/bin/bash
# Prolog of slurmd (slurm.conf: Prolog=/etc/slurm/prolog.d/50-dfget.sh): sees to it that the daemon of this node runs, and
# fetches the images that a job is about to pull. Whatever goes wrong, it takes a bounded time and ends well: a
# prolog that fails drains the node, and pulls work without a daemon, only slower.
limit=20                                # seconds, for all of it
images=/etc/dragonfly/preheat.list      # one image a line; none where there is no such file
exec </dev/null >/dev/null 2>&1

say() { logger --tag dfget-prolog --priority daemon.warning "job ${SLURM_JOB_ID:-?}: $*"; }

start() {
    timeout 3 bash -c 'exec 3<>/dev/tcp/127.0.0.1/40901' && return
    timeout 5 systemctl start dfget.socket dfget.service || say "the daemon does not run; pulls go to the registry"
}

{
    start
    if [ -r "$images" ]; then
        timeout --kill-after=2 $((limit - 8)) /usr/bin/dfget preheat -f "$images" || say "not all of $images is here yet"
    fi
} &
# Not even what hangs in the kernel holds the node up.
for _ in $(seq $((limit * 10))); do
    kill -0 $! || break
    sleep 0.1
done
exit 0
