# Sourced by every script here. Gives each a temporary folder, a Redis of its own, pinned packages and one comparison.
# A script that sources this file runs for at most 60 s, ends what it started, and removes its folder.

set -euo pipefail

if [ -z "${FINDING_BOUNDED:-}" ]; then
  export FINDING_BOUNDED=1
  exec timeout --kill-after=5 60 bash "$0"
fi

folder=$(mktemp -d)
started=()

clean_up() {
  local pid
  for pid in "${started[@]}"; do
    kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
  done
  rm -rf "$folder"
}
trap clean_up EXIT

# npm_packages NAME@VERSION...: installed in $folder/node, which becomes the working folder.
npm_packages() {
  mkdir -p "$folder/node"
  cd "$folder/node"
  echo '{"type": "module", "private": true}' >package.json
  npm install --silent --no-audit --no-fund --ignore-scripts --save-exact "$@" >/dev/null
  echo "packages: $*; Node.js $(node --version)"
}

# pip_packages NAME==VERSION...: installed in a virtual environment; $python is its interpreter.
pip_packages() {
  python3 -m venv "$folder/python"
  python="$folder/python/bin/python"
  "$python" -m pip install --quiet --disable-pip-version-check --no-compile "$@"
  echo "packages: $*; $("$python" --version)"
}

# start_server PROGRAM [OPTION...]: a server on a free port of loopback, nothing saved. Sets $port.
start_server() {
  local program=$1
  shift
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$program" --port "$port" --bind 127.0.0.1 --save '' --dir "$folder" "$@" >"$folder/server-$port.log" &
  started+=($!)
  python3 - "$port" <<'PYTHON'
import socket, sys, time
end = time.monotonic() + 30
while True:
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1) as server:
            server.sendall(b"PING\r\n")
            if server.recv(5) == b"+PONG":
                break
    except OSError:
        if time.monotonic() > end:
            raise
    time.sleep(0.05)
PYTHON
  echo "server: $("$program" --version)"
}

start_redis() {
  start_server "$(command -v redis-server)"
}

# expect FILE: compares what was seen (FILE) with what the script describes (standard input). Ends the script: 0 = as
# described, 1 = the behaviour has changed.
expect() {
  echo "--- seen"
  cat "$1"
  if diff --unified /dev/stdin "$1" >"$folder/difference"; then
    echo "--- as described"
    exit 0
  fi
  echo "--- changed: - described, + seen"
  cat "$folder/difference"
  exit 1
}
