#!/usr/bin/env bash
# A real Slurm cluster on one machine, for tests. Needs root; no systemd, no Docker, no second machine.
#
#   cluster.sh install          install the packages (Debian, Ubuntu), start no service
#   cluster.sh up               start what does not run: everything, or what a test has stopped; wait for the nodes
#   cluster.sh down             end every process of the cluster and remove its folder
#   cluster.sh status           what runs; fails where something does not
#   cluster.sh env              lines for a shell: eval "$(tests/slurm/cluster.sh env)"
#   cluster.sh start DAEMON     slurmctld, slurmdbd, or the slurmd of a node: n1
#   cluster.sh stop DAEMON      in order: slurmctld saves what it knows
#   cluster.sh kill DAEMON      by SIGKILL; the jobs of a node live on, as they do on a real one
#   cluster.sh pause DAEMON     it hangs and closes no connection, until `resume`
#   cluster.sh resume DAEMON
#   cluster.sh crash NODE       all its processes end at once, as when its power fails; `start` boots it
#   cluster.sh on HOST COMMAND  run a command on `head` or on a node
#
# A host is a process in namespaces of its own: its name, its processes, its /etc/slurm and /etc/hosts. So jobs see the
# hostname n1, cannot see or signal processes of other nodes, find the cluster without SLURM_CONF and resolve n2; the
# machine's own files stay as they are; and with a host the kernel ends whatever was started on it. Hosts share the
# machine's network and file systems. The number of a process on a host is not the machine's number of it: use `on`.
# Nodes have more cores and memory than the machine may have. Their GPUs are device files, for scheduling only.
#
# Partitions: `main` (the default), `no_grace` and `cancel` are preempted by jobs in `high`: requeued after a grace of
# 10 s, requeued at once, canceled. In `short` jobs end after a minute; in `limited`, which needs accounting, a user
# may submit and run few. Accounts: `root`, the default, and `project`.
#
# test_cluster.py passed with Slurm 22.05 (Debian 12), 23.11 (a minimal Ubuntu 24.04) and 24.11 (a minimal Debian 13).
set -euo pipefail
umask 022 # munged refuses a folder that everyone may write to

# Options, from the environment. The first `up` keeps them, and later commands need CLUSTER_DIR alone.
CLUSTER_DIR=${CLUSTER_DIR:-/tmp/slurm-cluster}                # at most 50 characters: it holds Unix sockets
CLUSTER_NAME=${CLUSTER_NAME:-tests}
CLUSTER_PORT=${CLUSTER_PORT:-24000}                           # slurmctld's; slurmdbd and the nodes have the next ones
CLUSTER_NODES=${CLUSTER_NODES:-4}
CLUSTER_CPUS_PER_NODE=${CLUSTER_CPUS_PER_NODE:-4}
CLUSTER_MEMORY_MB_PER_NODE=${CLUSTER_MEMORY_MB_PER_NODE:-4000}
CLUSTER_GPUS_PER_NODE=${CLUSTER_GPUS_PER_NODE:-2}
CLUSTER_ACCOUNTING=${CLUSTER_ACCOUNTING:-yes}                 # no: without slurmdbd and its database
CLUSTER_MAX_ARRAY_SIZE=${CLUSTER_MAX_ARRAY_SIZE:-1001}        # the largest index of an array, plus one
CLUSTER_MAX_SUBMITTED_JOBS=${CLUSTER_MAX_SUBMITTED_JOBS:-8}   # of one user in the partition `limited`
CLUSTER_MAX_RUNNING_JOBS=${CLUSTER_MAX_RUNNING_JOBS:-2}       # likewise
CLUSTER_SLURM_CONF=${CLUSTER_SLURM_CONF:-}                    # further lines of slurm.conf
# shellcheck source=/dev/null
[ ! -e "$CLUSTER_DIR/options" ] || . "$CLUSTER_DIR/options"

NOT_POSSIBLE_HERE=3 # exit code of `up` where this machine cannot be a cluster
DIR=$CLUSTER_DIR
unset "${!SLURM_@}" "${!SBATCH_@}"
export SLURM_CONF=$DIR/etc/slurm.conf
export MYSQL_UNIX_PORT=$DIR/run/mysql.sock # where slurmdbd finds MariaDB; it has no option for that
export PATH=$PATH:/usr/sbin:/sbin

say() { echo "cluster.sh: $*" >&2; }

fail() { # with the first lines of each log, which say why a start failed, then the newest
    say "$*"
    head -n 15 "$DIR"/log/* >&2 || true
    say "the last lines of the same logs:"
    tail -n 5 "$DIR"/log/* >&2 || true
    exit 1
}

within() { # within SECONDS COMMAND...: until it succeeds
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.05
    done
}

nodes() { seq -f 'n%.0f' "$CLUSTER_NODES"; }

# ------------------------------------------------------------------------------------------------------ packages

install_packages() {
    local wanted=() policy=/usr/sbin/policy-rc.d
    command -v munged >/dev/null || wanted+=(munge)
    command -v slurmctld >/dev/null || wanted+=(slurmctld)
    command -v slurmd >/dev/null || wanted+=(slurmd)
    command -v sbatch >/dev/null || wanted+=(slurm-client)
    ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || wanted+=(libfaketime) # for a node whose clock is off
    if [ "$CLUSTER_ACCOUNTING" = yes ]; then
        # Of MariaDB the programs only. Where MySQL's are installed, apt replaces them.
        command -v slurmdbd >/dev/null || wanted+=(slurmdbd)
        command -v mariadbd >/dev/null || wanted+=(mariadb-server-core)
        command -v mariadb >/dev/null || wanted+=(mariadb-client-core)
    fi
    [ ${#wanted[@]} -gt 0 ] || return 0
    if [ ! -e $policy ]; then # it tells packages to start no service
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 "${wanted[@]}"
}

check_machine() {
    local command missing=() commands=(munged slurmctld slurmd sbatch)
    [ "$CLUSTER_ACCOUNTING" = no ] || commands+=(slurmdbd mariadbd mariadb-install-db)
    for command in "${commands[@]}"; do
        command -v "$command" >/dev/null || missing+=("$command")
    done
    if [ "$EUID" != 0 ]; then
        say "a Slurm cluster for tests: only root can start its hosts"
    elif [ ${#missing[@]} -gt 0 ]; then
        say "a Slurm cluster for tests: no ${missing[*]} here (Debian and Ubuntu: tests/slurm/cluster.sh install)"
    elif ! unshare --uts --mount --pid --fork --mount-proc true; then
        say "a Slurm cluster for tests: namespaces are not allowed here (in a container: the capability SYS_ADMIN)"
    elif [[ $DIR != /* || ${#DIR} -gt 50 ]]; then
        say "CLUSTER_DIR: $DIR is not an absolute path of at most 50 characters"
    else
        return 0
    fi
    exit $NOT_POSSIBLE_HERE
}

# ------------------------------------------------------------------------------------------------- configuration

configure() {
    local version gpus='' devices=$DIR/gpu
    mkdir "$DIR"
    declare -p "${!CLUSTER_@}" >"$DIR/options"
    mkdir "$DIR"/{etc,run,log,state,database,tmp}
    version=$(slurmctld -V | tr -dc '0-9.' | cut -d. -f1,2 | tr -d .) # 2205

    { # the machine's name too: slurmctld of 24.11 answers an `srun` on the machine there
        printf '127.0.0.1 %s\n' localhost head "$(uname -n)"
        nodes | sed 's/^/127.0.0.1 /'
        cat /etc/hosts
    } >"$DIR/etc/hosts"
    (umask 077 && head -c 1024 /dev/urandom >"$DIR/etc/munge.key")

    # Slurm looks for cgroups even where nothing uses them.
    echo "CgroupPlugin=$([ "$version" -lt 2405 ] && echo cgroup/v1 || echo disabled)" >"$DIR/etc/cgroup.conf"

    if [ "$CLUSTER_GPUS_PER_NODE" -gt 0 ]; then # character devices, never opened; without them no CUDA_VISIBLE_DEVICES
        for ((i = 0; i < CLUSTER_GPUS_PER_NODE; i++)); do mknod "$devices$i" c 1 3; done
        gpus="Gres=gpu:a100:$CLUSTER_GPUS_PER_NODE"
        echo "Name=gpu Type=a100 File=${devices}[0-$((CLUSTER_GPUS_PER_NODE - 1))]" >"$DIR/etc/gres.conf"
    fi

    cat >"$DIR/etc/slurm.conf" <<EOF
ClusterName=$CLUSTER_NAME
SlurmctldHost=head(127.0.0.1)
SlurmctldPort=$CLUSTER_PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A job that was requeued waits until its credentials have expired: 120 s unless told.
AuthInfo=socket=$DIR/run/munge.socket,cred_expire=10
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool-%n
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmdPidFile=$DIR/run/%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/%n.log

ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
GresTypes=gpu
MaxArraySize=$CLUSTER_MAX_ARRAY_SIZE

SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=2,sched_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
# Preemption sends the signal of --signal too.
$(if [ "$version" -lt 2411 ]; then echo SlurmctldParameters=preempt_send_user_signal
  else echo PreemptParameters=send_user_signal; fi)

# Short, for tests. A node that does not answer delays what is known of the others by up to MessageTimeout: with a
# SlurmdTimeout of 10 s and the usual 10 s for messages, 24.11 took all nodes to be down.
SlurmdTimeout=15
MessageTimeout=5
KillWait=5
ReturnToService=2
# Long: without accounting this is all that is known of jobs that have ended.
MinJobAge=3600

NodeName=n[1-$CLUSTER_NODES] NodeAddr=127.0.0.1 Port=[$((CLUSTER_PORT + 2))-$((CLUSTER_PORT + 1 + CLUSTER_NODES))] \
CPUs=$CLUSTER_CPUS_PER_NODE RealMemory=$CLUSTER_MEMORY_MB_PER_NODE $gpus
PartitionName=DEFAULT Nodes=ALL DefaultTime=60 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=main Default=YES GraceTime=10
PartitionName=no_grace GraceTime=0
PartitionName=cancel PreemptMode=CANCEL
PartitionName=short PreemptMode=OFF DefaultTime=1 MaxTime=1
PartitionName=high PreemptMode=OFF PriorityTier=10
EOF
    if [ "$CLUSTER_ACCOUNTING" = yes ]; then
        cat >>"$DIR/etc/slurm.conf" <<EOF
PartitionName=limited PreemptMode=OFF QOS=limited

AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((CLUSTER_PORT + 1))
# With munge, this is its socket: clients of slurmdbd do not read AuthInfo.
AccountingStoragePass=$DIR/run/munge.socket
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu
EOF
        cat >"$DIR/etc/slurmdbd.conf" <<EOF
DbdHost=head
DbdAddr=127.0.0.1
DbdPort=$((CLUSTER_PORT + 1))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$DIR/run/munge.socket
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
PidFile=$DIR/run/slurmdbd.pid
LogFile=$DIR/log/slurmdbd.log
EOF
        chmod 600 "$DIR/etc/slurmdbd.conf"
    fi
    echo "$CLUSTER_SLURM_CONF" >>"$DIR/etc/slurm.conf"
}

# --------------------------------------------------------------------------------------------------------- hosts

# What the first process of a host does; its arguments are the host's name and the cluster's folder.
# shellcheck disable=SC2016 # that shell expands these
FIRST_PROCESS='
set -e
trap exit TERM
hostname "$1"
mount --bind "$2/etc" /etc/slurm
mount --bind "$2/etc/hosts" /etc/hosts
touch "$2/run/$1.booted"
sleep infinity &
wait' # bash also takes in the processes whose parents have ended

host_runs() { # the number may by now be of a process of somebody else
    local number
    number=$(cat "$DIR/run/$1.host" 2>/dev/null) && grep -qzxF "$DIR" "/proc/$number/cmdline" 2>/dev/null
}

boot() {
    ! host_runs "$1" || return 0
    rm -f "$DIR/run/$1.booted"
    setsid unshare --uts --mount --pid --fork --kill-child --mount-proc bash -c "$FIRST_PROCESS" - "$1" "$DIR" \
        </dev/null >>"$DIR/log/hosts.log" 2>&1 &
    echo $! >"$DIR/run/$1.host"
    within 30 test -e "$DIR/run/$1.booted" || fail "host $1 did not start"
}

on() { # on HOST COMMAND...
    local namespaces
    host_runs "$1" || { say "no host $1 runs in $DIR" && return 1; }
    namespaces=/proc/$(<"$DIR/run/$1.host")/ns
    shift
    nsenter --uts="$namespaces/uts" --mount="$namespaces/mnt" --pid="$namespaces/pid_for_children" -- "$@"
}

crash() {
    (on "$1" bash -c 'kill 1') 2>/dev/null || true # which ends that command too
    within 30 gone host_runs "$1" || fail "host $1 did not end"
}

gone() { ! "$@"; }

# ------------------------------------------------------------------------------------------------------- daemons

host_of() { case $1 in n[0-9]*) echo "$1" ;; *) echo head ;; esac }

runs() { # runs DAEMON: it has written its number, and a process of that number is there
    local host number
    host=$(host_of "$1")
    number=$(cat "$DIR/run/$1.pid" 2>/dev/null) && [ -n "$number" ] || return 1
    host_runs "$host" && on "$host" test -e "/proc/$number"
}

signal() { # signal NAME DAEMON
    runs "$2" || { say "no daemon $2 runs in $DIR" && return 1; }
    # shellcheck disable=SC2016 # the host's shell expands these
    on "$(host_of "$2")" bash -c 'kill -s "$1" "$2"' - "$1" "$(<"$DIR/run/$2.pid")"
}

start() { # start DAEMON: or resume it
    local host command
    host=$(host_of "$1")
    boot "$host"
    ! runs "$1" || { signal CONT "$1" && return; }
    rm -f "$DIR/run/$1.pid"
    # shellcheck disable=SC2016 # the host's shell expands "$@"
    case $1 in
        munged) command=(munged --socket="$DIR/run/munge.socket" --key-file="$DIR/etc/munge.key"
            --pid-file="$DIR/run/munged.pid" --log-file="$DIR/log/munged.log" --seed-file="$DIR/run/munge.seed") ;;
        mariadbd) command=(bash -c '"$@" &' - mariadbd "${DATABASE[@]}" --skip-networking
            --socket="$MYSQL_UNIX_PORT" --pid-file="$DIR/run/mariadbd.pid" --innodb-lock-wait-timeout=900) ;;
        slurmctld | slurmdbd) command=("$1") ;;
        *) command=(slurmd -N "$1") ;;
    esac
    on "$host" "${command[@]}" </dev/null >>"$DIR/log/start.log" 2>&1 || fail "$1 did not start"
    within 60 runs "$1" || fail "$1 did not start"
    case $1 in
        slurmctld) within 60 timeout 5 scontrol ping >/dev/null 2>&1 || fail "slurmctld does not answer" ;;
        slurmdbd) within 60 listens $((CLUSTER_PORT + 1)) || fail "slurmdbd does not answer" ;;
    esac
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Its own folder for temporary files, little memory, and no asynchronous I/O, of which the machine has a limited amount.
DATABASE=(--no-defaults --user=root --datadir="$DIR/database" --tmpdir="$DIR/tmp" --skip-name-resolve
    --innodb-log-file-size=4M --innodb-flush-log-at-trx-commit=0 --innodb-autoextend-increment=4
    --innodb-use-native-aio=OFF --innodb-buffer-pool-size=32M)

make_database() { # in memory, so that a busy disk does not matter
    on head mount -t tmpfs tmpfs "$DIR/database"
    on head mariadb-install-db "${DATABASE[@]}" --skip-test-db --auth-root-authentication-method=socket \
        --auth-root-socket-user=root </dev/null >"$DIR/log/database.log" 2>&1 || fail "mariadb-install-db failed"
}

make_accounts() { # before slurmctld starts for the first time
    local manager=(timeout 60 sacctmgr --immediate --quiet)
    {
        "${manager[@]}" add cluster "$CLUSTER_NAME" &&
            "${manager[@]}" add account project &&
            "${manager[@]}" add user root account=project &&
            "${manager[@]}" add qos limited set "MaxSubmitJobsPerUser=$CLUSTER_MAX_SUBMITTED_JOBS" \
                "MaxJobsPerUser=$CLUSTER_MAX_RUNNING_JOBS"
    } </dev/null >"$DIR/log/accounts.log" 2>&1 || fail "sacctmgr failed"
    touch "$DIR/run/accounts"
}

# ------------------------------------------------------------------------------------------------------- cluster

daemons() {
    echo munged
    [ "$CLUSTER_ACCOUNTING" = no ] || echo mariadbd slurmdbd
    echo slurmctld
    nodes
}

nodes_answer() {
    local ready
    ready=$(timeout 5 sinfo -h -N -p main -t idle,alloc,mix,comp -o %t 2>/dev/null) || return 1
    [ "$(grep -vc '\*' <<<"$ready")" = "$CLUSTER_NODES" ] # `*`: does not respond
}

up() {
    check_machine
    if ! host_runs head; then
        down # what is left where the machine was restarted
        configure
        boot head
    fi
    start munged
    if [ "$CLUSTER_ACCOUNTING" = yes ]; then
        [ -e "$DIR/run/accounts" ] || make_database
        start mariadbd
        start slurmdbd
        [ -e "$DIR/run/accounts" ] || make_accounts
    fi
    start slurmctld
    for node in $(nodes); do start "$node"; done
    within 120 nodes_answer || { sinfo -N -l >&2 || true; fail "not all nodes answer"; }
}

down() {
    [ -e "$DIR/options" ] || return 0
    for host in $(nodes) head; do crash "$host"; done
    rm -rf "$DIR"
}

status() {
    local name all_run=0
    [ -e "$DIR/options" ] || { echo "down"; return 1; }
    for name in $(daemons); do
        if runs "$name"; then echo "$name runs"; else echo "$name is down" && all_run=1; fi
    done
    timeout 10 sinfo -N -p main -o '%N %T %C %G' || all_run=1
    return $all_run
}

usage() {
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 2
}

case ${1:-} in
    install) install_packages ;;
    up | down | status) "$1" ;;
    env) printf 'export SLURM_CONF=%q CLUSTER_DIR=%q\n' "$SLURM_CONF" "$DIR" ;;
    start | crash) "$1" "${2:?which one}" ;;
    stop) signal TERM "${2:?which daemon}" && within 60 gone runs "$2" ;;
    kill) signal KILL "${2:?which daemon}" && within 10 gone runs "$2" ;;
    pause) signal STOP "${2:?which daemon}" ;;
    resume) signal CONT "${2:?which daemon}" ;;
    on) on "${@:2}" ;;
    *) usage ;;
esac
