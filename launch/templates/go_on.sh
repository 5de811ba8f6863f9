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
