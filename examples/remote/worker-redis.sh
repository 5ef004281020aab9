#!/usr/bin/env bash
# A worker for the remote type `shout` over Redis, in bash with redis-cli and jq.
set -euo pipefail
redis() { redis-cli -u "${REDIS_URL:-redis://127.0.0.1:6379/0}" "$@"; }

echo ready
while true; do
  task=$(redis --raw blpop qw.remote.shout 5 | tail -n 1)
  [ -n "$task" ] || continue
  reply_to=$(jq -r .replyTo <<<"$task")
  answer=$(jq -c 'if .payload.text | type == "string"
    then { result: { text: (.payload.text | ascii_upcase), attempt } }
    else { error: "text must be a string", final: true } end' <<<"$task")
  redis rpush "$reply_to" "$answer" >/dev/null
  redis expire "$reply_to" 3600 >/dev/null # nobody may be waiting any more
done
