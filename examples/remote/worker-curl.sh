#!/usr/bin/env bash
# A worker for the remote type `shout` over HTTP, in bash with curl and jq: RabbitMQ's management API hands out messages
# and takes answers. A message is acknowledged as it is fetched, so a worker that dies leaves its task to the time-out.
set -euo pipefail
url=${RABBITMQ_API:-http://guest:guest@127.0.0.1:15672}/api
vhost=%2F
api() { curl --silent --show-error --fail --max-time 10 --json @- "$url/$1"; }

until curl --silent --fail --max-time 10 -X PUT --json '{"durable": true}' "$url/queues/$vhost/qw.remote.shout"; do
  sleep 1
done
echo ready
while true; do
  messages=$(api "queues/$vhost/qw.remote.shout/get" \
    <<<'{"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}') || messages='[]'
  if [ "$messages" = '[]' ]; then
    sleep 1
    continue
  fi
  jq '.[0] | (.payload | fromjson) as $task
    | (if $task.payload.text | type == "string"
       then { result: { text: ($task.payload.text | ascii_upcase), attempt: $task.attempt } }
       else { error: "text must be a string", final: true } end) as $answer
    | { routing_key: .properties.reply_to, properties: { correlation_id: .properties.correlation_id },
        payload: ($answer | tojson), payload_encoding: "string" }' <<<"$messages" |
    api "exchanges/$vhost/amq.default/publish" >/dev/null || echo "the answer was not taken" >&2
done
