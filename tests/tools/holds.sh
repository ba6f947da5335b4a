# What the scripts that try packages and machines count by; sourced. `work` is a folder of the script's own.
passed=0 failed=0 skipped=0

# holds WHAT COMMAND…: passed if the command succeeds.
holds() {
    local what=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        passed=$((passed + 1))
        echo "  ok: $what"
    else
        failed=$((failed + 1))
        echo "  FAILED: $what"
        tail -n 20 "$work/log" | sed 's/^/  | /'
    fi
}
not() { ! "$@"; }
not_run() { skipped=$((skipped + 1)); echo "  NOT RUN: $1"; }
have() { command -v "$1" >/dev/null; }
# The last line and the exit code.
summary() { echo "$passed passed, $failed failed, $skipped skipped"; [ "$failed" -eq 0 ]; }
