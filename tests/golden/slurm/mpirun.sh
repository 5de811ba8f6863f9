#!/bin/bash
#SBATCH --nodes=32
#SBATCH --ntasks-per-node=8
#SBATCH --job-name="resnet 50"
#SBATCH --gpus-per-node=a100:8
#SBATCH --time=4:00:00
#SBATCH --exclusive
#SBATCH --output=runs/slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --export=HOME,NCCL_DEBUG,OMPI_MCA_btl,PATH
#SBATCH --signal=B:USR2@180
#SBATCH --requeue

unset SLURM_EXPORT_ENV # other nodes get what the environment is now, not what sbatch was told to hand on
command=(/opt/venv/bin/lbsgd launch mpirun --np 256 -- train --framework torch --data '/data/image net')

run=runs/slurm-"$SLURM_JOB_ID"
# All attempts are one run: resume it once it has a checkpoint.
checkpoints=("$run"/checkpoints/iteration-*/manifest.json)
if [ -e "${checkpoints[0]}" ]; then
    command+=(--resume "$run")
else
    if [ -e "$run/run.json" ]; then # killed before its first checkpoint
        TZ=UTC printf -v now '%(%Y%m%dT%H%M%SZ)T' -1
        mv -- "$run" "$run-killed-$now"
    fi
    command+=(--run-dir "$run")
fi

# With a trap the signal ends neither this script nor, by itself, the command: the ranks save their state and leave.
warned=no
trap 'warned=yes; kill -TERM "$job"' USR2
trap : TERM
"${command[@]}" &
job=$!
while kill -0 "$job" 2>/dev/null; do
    wait "$job" # returns early when a trap was run
done
wait "$job"
code=$?

again=no
case $code in
    143) again=$warned ;; # interrupted, state saved; where Slurm itself ends the job it also requeues it
    137 | 139 | 142)      # a rank was lost, or hung
        lost=runs/slurm-"$SLURM_JOB_ID".lost
        echo "$(date -u +%FT%TZ) exit code $code" >>"$lost"
        if [ "$(wc -l <"$lost")" -le 3 ]; then again=yes; fi
        ;;
esac
if [ "$again" = yes ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
