# What the scripts beside this one share. Each trains and tests what one table of a paper compares,
# and prints a table of what was measured.
#
#   DATA=/path/to/lmdbs bash tools/tables/relay_table2.sh     the models' own schedules
#   bash tools/tables/relay_table2.sh                         a short profile on the demo scenes
#
# OUT=runs/tables is where the runs go; a finished run is left as it is, an interrupted one goes on.
# GPU, PROFILE, SET and ARGS are those of `make train`.
# SCALES="224,256" overrides the shorter sides of the multi-scale test, SCALES=none leaves it out;
# LIMIT=1000 tests the first 1000 images only.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
OUT=${OUT:-runs/tables}
GPU=${GPU:-auto}

# train MODEL [DATA [NAME]]: trains into $OUT/NAME (default: MODEL), once.
train() {
  local run=$OUT/${3:-$1} data=${2:-} newest
  if [[ -f $run/finished ]]; then return; fi
  newest=$(ls -v "$run" 2>/dev/null | grep -E '_iter_[0-9]+\.solverstate$' | tail -n 1 || true)
  make --no-print-directory train "MODEL=$1" "RUN=$run" "GPU=$GPU" "DATA=$data" \
    "PROFILE=${PROFILE:-}" "SET=${SET:-}" "ARGS=${ARGS:-}" "RESUME=${newest:+$run/$newest}"
  touch "$run/finished"
}

# evaluate "RUN ..." [ARGUMENTS]: a single crop, or what the arguments say.
evaluate() {
  make --no-print-directory evaluate "RUN=$1" "GPU=$GPU" \
    "ARGS=${2:-} ${LIMIT:+--limit $LIMIT}"
}

# multi_scale "RUN ..." SIDES: fully-convolutional, several runs as an ensemble too.
multi_scale() {
  local sides=${SCALES:-$2}
  if [[ $sides != none ]]; then evaluate "$1" "--scales $sides"; fi
}

# table TITLE LABEL=NAME ...: what the runs in $OUT were measured to reach.
table() {
  local title=$1 rows=() row
  shift
  for row in "$@"; do rows+=("${row%%=*}=$OUT/${row#*=}"); done
  echo
  make --no-print-directory table "TITLE=$title" ROWS="$(printf '%q ' "${rows[@]}")"
}
