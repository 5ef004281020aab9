// A worker for the remote type `shout` over NATS: npm install nats && node worker-nats.cjs
const { connect, JSONCodec } = require("nats");

async function main() {
  const codec = JSONCodec();
  const client = await connect({ servers: process.env.NATS_SERVERS || "nats://127.0.0.1:4222" });
  const requests = client.subscribe("qw.remote.shout", { queue: "workers" });
  console.log("ready");
  for await (const message of requests) {
    const task = codec.decode(message.data);
    message.respond(codec.encode(shout(task)));
  }
}

function shout(task) {
  const { text } = task.payload;
  if (typeof text !== "string") return { error: "text must be a string", final: true };
  return { result: { text: text.toUpperCase(), attempt: task.attempt } };
}

main();
