#!/usr/bin/env bash
# Runs one audit in a CI job, renders it for CI, and compares it with a baseline. Used by action.yml and ci/gitlab.yml.
#
#   AUDIT      audit file                                  BASELINE     baseline file; none is compared with if empty
#   OUT        folder of results (default leakgauge-run)   CONFIDENCE   of the comparison (default 0.99)
#   DEVICE     auto, cpu or cuda:N (default auto)          OVERRIDES    KEY=VALUE words, as after --set
#
# Exit codes are those of leakgauge: 0 ok, 1 violated, over policy or regressed, 2 wrong configuration, 3 underpowered,
# 4 a step failed. The run's own code goes before the comparison's.
set -uo pipefail

audit=${AUDIT:?"AUDIT names the audit file"}
out=${OUT:-leakgauge-run}
settings=()
for word in ${OVERRIDES:-}; do settings+=(--set "$word"); done

# Threads of several processes on shared cores only fight.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

leakgauge run "$audit" --out "$out" --device "${DEVICE:-auto}" ${settings[@]+"${settings[@]}"}
code=$?
verdict=none
if [[ -f $out/audit.json ]]; then
  formats=junit,sarif
  [[ ${GITHUB_ACTIONS:-} == true ]] && formats+=,github
  leakgauge report "$out" --format "$formats" || code=$((code == 0 ? $? : code))
  verdict=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["verdict"])' "$out/audit.json")
  if [[ -n ${BASELINE:-} ]]; then
    flags=(--confidence "${CONFIDENCE:-0.99}")
    [[ ${GITHUB_ACTIONS:-} == true ]] && flags+=(--github)
    leakgauge compare "$BASELINE" "$out/audit.json" "${flags[@]}"
    compared=$?
    [[ $code == 0 ]] && code=$compared
  fi
elif [[ ${GITHUB_ACTIONS:-} == true ]]; then
  echo "::error file=$audit,line=1,title=LeakGauge::no result, exit code $code; see the log above"
fi

if [[ -n ${GITHUB_OUTPUT:-} ]]; then
  {
    echo "exit-code=$code"
    echo "verdict=$verdict"
    echo "results=$out"
  } >>"$GITHUB_OUTPUT"
fi
exit "$code"
