#!/usr/bin/env bash
# A SLURM cluster of three nodes on this machine, for tests: real daemons, private folders and ports.
#   cluster.sh install          Debian's packages (as root; half a minute)
#   cluster.sh start DIR        prints what to export; DIR must be on a local disk, and its path short
#   cluster.sh stop DIR         ends everything that start began, jobs included
#   cluster.sh kill-node DIR N  a power cut: daemon, steps, and everything below them
#   cluster.sh kill-slurmd DIR N   the daemon alone; its jobs go on writing
#   cluster.sh start-node DIR N | stop-ctld DIR | start-ctld DIR | stop-db DIR | start-db DIR
# SLURM_TEST_PORT (default 26817) is the first of six ports; SLURM_TEST_ACCOUNTING=no: no slurmdbd.
# Only processes that this script started are ended, by the ids in DIR/run.
set -euo pipefail
cmd=${1:?start, stop, ...}
export PATH=$PATH:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive
export TMPDIR=/tmp  # one that the users of the daemons can write to
PACKAGES="slurmctld slurmd slurm-client slurmdbd munge mariadb-server"
if [ "$cmd" = install ]; then
  command -v slurmctld >/dev/null && command -v slurmdbd >/dev/null && command -v mariadbd >/dev/null && exit 0
  [ "$(id -u)" = 0 ] || { echo "installing needs root: apt-get install --no-install-recommends $PACKAGES" >&2; exit 1; }
  # the daemons of the packages must not start by themselves
  policy=/usr/sbin/policy-rc.d; had=no; [ -e "$policy" ] && had=yes
  [ $had = yes ] || { printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod 755 "$policy"; trap 'rm -f "$policy"' EXIT; }
  command -v apt-get >/dev/null || { echo "no apt-get here; what is needed: $PACKAGES" >&2; exit 1; }
  # where there is no network it says so soon, and goes without
  apt="timeout 600 apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20"
  $apt update >&2 || true
  $apt install -y --no-install-recommends $PACKAGES >/dev/null
  exit
fi
D=$(realpath -m "${2:?DIR}")
export SLURM_CONF=$D/slurm.conf
P=${SLURM_TEST_PORT:-26817}; ACCOUNTING=${SLURM_TEST_ACCOUNTING:-yes}
[ -f "$D/run/settings" ] && . "$D/run/settings"
H=$(hostname -s); NODES="n1 n2 n3"; SOCKET=$D/run/munge.socket

# a daemon that is late on a busy machine counts as dead; jobs get no share of this (PropagatePrioProcess)
daemon() { nice -n -10 "$@"; }
wait_for() {  # WHAT COMMAND...: seconds where the machine is idle, more where it is busy
  local end=$((SECONDS + 300))
  while [ $SECONDS -lt $end ]; do timeout 20 "${@:2}" >/dev/null 2>&1 && return; sleep 0.1; done
  echo "$1 did not start; see $D/log" >&2; return 1
}
alive() { local s; s=$(ps -o stat= -p "$1" 2>/dev/null) && [ "${s#Z}" = "$s" ]; }
pid_of() { [ -f "$D/run/$1.pid" ] && cat "$D/run/$1.pid"; }
end() {  # PID...: politely, then not
  for q in "$@"; do kill "$q" 2>/dev/null || true; done
  for q in "$@"; do
    for _ in $(seq 1 100); do alive "$q" || break; sleep 0.1; done
    if alive "$q"; then kill -9 "$q" 2>/dev/null || true; fi
  done
}
freeze() { local c; kill -STOP "$1" 2>/dev/null || true; for c in $(pgrep -P "$1"); do freeze "$c"; done; }
tree() { local c; for c in $(pgrep -P "$1"); do tree "$c"; done; kill -9 "$1" 2>/dev/null || true; }
all_idle() { [ "$(sinfo -hN -p main -o %t | grep -c idle)" = 3 ]; }
export -f all_idle

configure() {
  mkdir -p "$D"/{state,spool,log,run,db}; chmod 755 "$D"
  printf 'P=%s\nACCOUNTING=%s\n' "$P" "$ACCOUNTING" > "$D/run/settings"
  [ -f "$D/run/munge.key" ] || head -c 1024 /dev/urandom > "$D/run/munge.key"
  chown munge:munge "$D/run" "$D/run/munge.key" "$D/log"; chmod 600 "$D/run/munge.key"
  local storage="AccountingStorageType=accounting_storage/none"
  if [ "$ACCOUNTING" = yes ]; then
    chown mysql:mysql "$D/db"
    storage="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$((P + 1))
AccountingStoragePass=$SOCKET
AccountingStorageTRES=gres/gpu"
    cat > "$D/my.cnf" <<C
[mysqld]
user=mysql
datadir=$D/db
socket=$D/db/mysqld.sock
pid-file=$D/db/mysqld.pid
log-error=$D/db/err.log
skip-networking
skip-name-resolve
skip-log-bin
innodb_buffer_pool_size=64M
innodb_log_file_size=16M
innodb_flush_log_at_trx_commit=0
innodb_lock_wait_timeout=900
C
    cat > "$D/slurmdbd.conf" <<C
AuthType=auth/munge
AuthInfo=socket=$SOCKET
DbdHost=localhost
DbdPort=$((P + 1))
SlurmUser=root
PidFile=$D/run/slurmdbd.pid
LogFile=$D/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
C
    chmod 600 "$D/slurmdbd.conf"
  fi
  # cred_expire is how long a requeued job waits (default 120 s); config_overrides lets three nodes
  # share the cores of one machine; OverMemoryKill holds to --mem without control groups
  cat > "$D/slurm.conf" <<C
ClusterName=bluestabtest
SlurmctldHost=$H(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$SOCKET,cred_expire=5
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/run/slurmctld.pid
SlurmdPidFile=$D/run/slurmd-%n.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd-%n.log
SlurmctldPort=$P
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
$storage
GresTypes=gpu
JobRequeue=1
ReturnToService=2
SlurmdTimeout=10
MessageTimeout=30
InactiveLimit=0
KillWait=30
MinJobAge=300
BatchStartTimeout=60
PropagatePrioProcess=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
EnforcePartLimits=ALL
DefMemPerCPU=1500
NodeName=n[1-3] NodeHostname=$H NodeAddr=127.0.0.1 Port=[$((P + 2))-$((P + 4))] Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=6000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1
PartitionName=short Nodes=ALL MaxTime=1 PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
C
  for g in 0 1; do [ -e "$D/run/gpu$g" ] || mknod "$D/run/gpu$g" c 1 3 || ln -s /dev/null "$D/run/gpu$g"; done
  echo "NodeName=n[1-3] Name=gpu File=$D/run/gpu[0-1]" > "$D/gres.conf"
}
start_db() {
  [ -d "$D/db/mysql" ] || mariadb-install-db --defaults-file="$D/my.cnf" --auth-root-authentication-method=socket --skip-test-db > "$D/log/db-install.log" 2>&1 || { cat "$D/log/db-install.log" >&2; return 1; }
  daemon setsid mariadbd --defaults-file="$D/my.cnf" >/dev/null 2>&1 </dev/null &
  wait_for mariadb mariadb -S "$D/db/mysqld.sock" -e 'select 1'
}
start_munge() {
  # no file of a key may be in a folder that others can write to, which a folder in /tmp is
  daemon runuser -u munge -- munged --force --socket="$SOCKET" --key-file="$D/run/munge.key" --pid-file="$D/run/munged.pid" --log-file="$D/log/munged.log" --seed-file="$D/run/munged.seed" --num-threads=2
}

case $cmd in
start)
  configure
  start_munge
  if [ "$ACCOUNTING" = yes ]; then
    start_db
    mariadb -S "$D/db/mysqld.sock" -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db; CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED BY 'slurm'; GRANT ALL ON slurm_acct_db.* TO slurm@localhost"
    MYSQL_UNIX_PORT=$D/db/mysqld.sock daemon slurmdbd
    wait_for slurmdbd sacctmgr -n show cluster
    sacctmgr -nP show cluster | grep -q '^bluestabtest|' || sacctmgr -i -Q add cluster bluestabtest >/dev/null
  fi
  daemon slurmctld
  for n in $NODES; do daemon slurmd -N "$n"; done
  wait_for "the nodes" bash -c all_idle
  echo "export SLURM_CONF=$SLURM_CONF" ;;
kill-node)
  jobs=$(squeue -h -w "$3" -o %A); kill -9 "$(pid_of "slurmd-$3")"
  steps=$(for j in $jobs; do ps -eo pid,args | awk -v a="[$j." '$2 == "slurmstepd:" && index($3, a) == 1 {print $1}'; done)
  # all stand still first: else a parent tells SLURM that its child was killed, which is no power cut
  for s in $steps; do freeze "$s"; done
  for s in $steps; do tree "$s"; done ;;
kill-slurmd) kill -9 "$(pid_of "slurmd-$3")" ;;
start-node) daemon slurmd -N "$3" ;;
stop-ctld) end "$(pid_of slurmctld)" ;;
start-ctld) daemon slurmctld; wait_for slurmctld sinfo ;;
stop-db) end "$(cat "$D/db/mysqld.pid")" ;;
start-db) start_db ;;
stop)
  # ids first: daemons remove their pid files before they are gone; then jobs: a step that outlives
  # slurmctld tries to reach it for ever
  pids=()
  for p in slurmctld slurmd-n1 slurmd-n2 slurmd-n3 slurmdbd; do q=$(pid_of $p) && pids+=("$q"); done
  [ -n "$(pid_of slurmctld)" ] && for u in $(timeout 5 squeue -h -o %u 2>/dev/null | sort -u); do timeout 5 scancel -u "$u" || true; done
  for _ in $(seq 1 100); do [ -z "$(timeout 5 squeue -h 2>/dev/null)" ] && break; sleep 0.1; done
  steps=$(for q in "${pids[@]}"; do pgrep -x slurmstepd -P "$q" || true; done)
  # a step is no child of a daemon that was killed and started again
  steps="$steps $(ps -eo pid,args | awk -v d="$D/spool" '$2 == "slurmstepd:" {print $1}' | while read -r s; do grep -qz "SLURM_CONF=$D/slurm.conf" "/proc/$s/environ" 2>/dev/null && echo "$s"; done || true)"
  end "${pids[@]}" $steps
  for f in "$D/db/mysqld.pid" "$D/run/munged.pid"; do [ -f "$f" ] && end "$(cat "$f")"; done
  exit 0 ;;
*) echo "cluster.sh: no command $cmd" >&2; exit 2 ;;
esac
