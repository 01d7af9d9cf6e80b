#!/bin/bash
#SBATCH --job-name=relay
#SBATCH --gpus=1
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
# A run of days in jobs of 12 hours. From the folder of this repository:
#
#     sbatch examples/slurm/train.sh --model resnet50_relay --data /path/to/lmdbs --out runs/mine
#
# Ten minutes before the end of a job Slurm sends SIGUSR1; the training takes a snapshot and ends
# with status 138, and the job goes back into the queue, from where it goes on with that snapshot.
# A training that has finished or failed is not queued again. TRAIN: another command that trains.

${TRAIN:-.venv/bin/python tools/train.py} --snapshot auto "$@" &
training=$!
trap 'kill -USR1 $training' USR1
trap 'kill -TERM $training' TERM # scancel, and preemption, after which Slurm itself requeues
while kill -0 $training 2> /dev/null; do
  wait $training # a signal interrupts it
done
wait $training
status=$?
if [ $status = 138 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
