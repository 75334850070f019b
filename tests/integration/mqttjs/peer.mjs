// Clients of mqtt.js that a test steers: one JSON command a line on standard input, one JSON line on standard
// output for each answer ({id, ok | error}) and for each message ({client, message}). Bytes travel as
// Node.js writes a Buffer: {"type": "Buffer", "data": [...]}.
import { createInterface } from "node:readline";
import mqtt from "mqtt";

const clients = new Map();

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const bytes = (_key, value) => (value?.type === "Buffer" ? Buffer.from(value.data) : value);

const commands = {
  connect({ client, url, options }, done) {
    const peer = mqtt.connect(url, { reconnectPeriod: 0, clientId: client, ...options });
    clients.set(client, peer);
    peer.once("connect", (connack) => done(null, connack));
    peer.on("error", (error) => done(error));
    peer.on("disconnect", (packet) => say({ client, disconnect: packet.reasonCode }));
    peer.on("message", (topic, payload, { qos, retain, properties }) =>
      say({ client, message: { topic, payload, qos, retain, properties: properties ?? {} } }),
    );
  },
  subscribe({ client, topic, options }, done) {
    clients.get(client).subscribe(topic, options, (error, _granted, suback) => done(error, suback?.granted));
  },
  unsubscribe({ client, topic }, done) {
    clients.get(client).unsubscribe(topic, (error) => done(error));
  },
  publish({ client, topic, payload, options }, done) {
    clients.get(client).publish(topic, payload, options, (error) => done(error));
  },
  end({ client }, done) {
    clients.get(client).end(false, {}, () => done(null));
  },
  // Gone without DISCONNECT.
  kill({ client }, done) {
    const peer = clients.get(client);
    peer.once("close", () => done(null));
    peer.stream.destroy();
  },
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line, bytes);
  let isAnswered = false;
  commands[command.do](command, (error, value) => {
    if (isAnswered) return;
    isAnswered = true;
    const { id } = command;
    say(error ? { id, error: error.message, code: error.code ?? null } : { id, ok: value ?? null });
  });
}).on("close", () => process.exit(0));
