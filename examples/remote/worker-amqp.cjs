// A worker for the remote type `shout` over RabbitMQ: npm install amqplib && node worker-amqp.cjs
const amqp = require("amqplib");

async function main() {
  const connection = await amqp.connect(process.env.RABBITMQ_URL || "amqp://127.0.0.1");
  const channel = await connection.createChannel();
  await channel.assertQueue("qw.remote.shout", { durable: true });
  await channel.prefetch(10);
  await channel.consume("qw.remote.shout", (message) => {
    const answer = Buffer.from(JSON.stringify(shout(JSON.parse(message.content))));
    const { replyTo, correlationId } = message.properties;
    channel.sendToQueue(replyTo, answer, { correlationId });
    channel.ack(message); // after the answer: a worker that dies leaves the task to another
  });
  console.log("ready");
}

function shout(task) {
  const { text } = task.payload;
  if (typeof text !== "string") return { error: "text must be a string", final: true };
  return { result: { text: text.toUpperCase(), attempt: task.attempt } };
}

main();
