// Devices of AWS's SDKs for JavaScript that a test steers: one JSON command a line on standard input, one
// JSON line on standard output for each answer ({id, ok | error, details}) and event ({client, event, value}).
import { createInterface } from "node:readline";
import sdkV1 from "aws-iot-device-sdk";
import sdk from "aws-iot-device-sdk-v2";

const { iot, iotshadow, mqtt, mqtt5 } = sdk;
const REQUESTS = {
  maxRequestResponseSubscriptions: 4,
  maxStreamingSubscriptions: 2,
  operationTimeoutInSeconds: 15,
};
const clients = new Map();

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const teller = (client) => (event, value) => say({ client, event, value: value ?? null });

// A class has `connect`, which returns whether the Session was there, and `disconnect`.
class V2 {
  // The answer to a request of IotShadowClientv2.
  request({ method, request }) {
    return this.shadow[method](request);
  }
  // A stream of IotShadowClientv2; its events are told as `event`.
  listen({ method, request, event }) {
    const stream = this.shadow[method](request);
    this.streams.push(stream);
    stream.on("incomingPublish", ({ message }) => this.tell(event, message));
    return new Promise((resolve) => {
      stream.on("subscriptionStatus", ({ type }) => resolve(type));
      stream.open();
    });
  }
  // A subscription of the older IotShadowClient.
  async subscribe({ method, request, event }) {
    const { error_code } = await this.older[method](request, mqtt.QoS.AtLeastOnce, (_error, told) =>
      this.tell(event, told),
    );
    if (error_code) throw new Error(`not subscribed: ${error_code}`);
  }
  // A request of the older IotShadowClient.
  async publish({ method, request }) {
    await this.older[method](request, mqtt.QoS.AtLeastOnce);
  }
  close() {
    for (const stream of this.streams) stream.close();
    this.shadow.close();
  }
  streams = [];
}

class V2At5 extends V2 {
  constructor({ host, port, files, name, kept }, tell) {
    super();
    this.tell = tell;
    const builder = iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromPath(
      host,
      files.certificate,
      files.key,
    );
    builder.withPort(port).withCertificateAuthorityFromPath(undefined, files.authority);
    const session = kept ? { sessionExpiryIntervalSeconds: 600 } : {};
    // The SDK takes a client id only together with a Keep Alive; 1200 is what it uses without.
    builder.withConnectProperties({ clientId: name, keepAliveIntervalSeconds: 1200, ...session });
    if (kept) builder.withSessionBehavior(mqtt5.ClientSessionBehavior.RejoinAlways);
    this.client = new mqtt5.Mqtt5Client(builder.build());
    this.client.on("messageReceived", ({ message }) => tell("message", message.topicName));
    this.shadow = iotshadow.IotShadowClientv2.newFromMqtt5(this.client, REQUESTS);
    this.older = iotshadow.IotShadowClient.newFromMqtt5Client(this.client);
  }
  connect() {
    return new Promise((resolve, reject) => {
      this.client.once("connectionSuccess", ({ connack }) => resolve(connack.sessionPresent));
      this.client.once("connectionFailure", ({ error }) => reject(error));
      this.client.start();
    });
  }
  disconnect() {
    return new Promise((resolve) => {
      this.client.once("stopped", () => {
        this.close();
        this.client.close();
        resolve();
      });
      this.client.stop();
    });
  }
}

class V2At311 extends V2 {
  constructor({ host, port, files, name }, tell) {
    super();
    this.tell = tell;
    const config = iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder_from_path(files.certificate, files.key)
      .with_certificate_authority_from_path(undefined, files.authority)
      .with_client_id(name)
      .with_endpoint(host)
      .with_port(port)
      .build();
    this.connection = new mqtt.MqttClient().new_connection(config);
    this.connection.on("error", () => {});
    this.connection.on("message", (topic) => tell("message", topic));
    this.shadow = iotshadow.IotShadowClientv2.newFromMqtt311(this.connection, REQUESTS);
    this.older = new iotshadow.IotShadowClient(this.connection);
  }
  connect() {
    return this.connection.connect();
  }
  async disconnect() {
    this.close();
    await this.connection.disconnect();
  }
}

class V1 {
  constructor({ host, port, files, name, kept }, tell) {
    const { certificate: certPath, key: keyPath, authority: caPath } = files;
    this.name = name;
    this.thing = sdkV1.thingShadow({ host, port, certPath, keyPath, caPath, clientId: name, clean: !kept });
    this.thing.on("status", (_thing, status, token, told) => tell("status", { status, token, ...told }));
    this.thing.on("delta", (_thing, told) => tell("delta", told));
    this.thing.on("foreignStateChange", (_thing, operation, told) => tell("foreign", { operation, ...told }));
    this.thing.on("packetreceive", (packet) => {
      if (packet.cmd === "connack") this.isSessionPresent = packet.sessionPresent;
    });
    this.ready = new Promise((resolve, reject) => {
      this.thing.once("error", reject);
      // The SDK puts what is subscribed before the connection off until it is there.
      this.thing.register(name, { qos: 1 }, (error) => (error ? reject(error) : resolve()));
    });
  }
  async connect() {
    await this.ready;
    return this.isSessionPresent;
  }
  // Starts an operation, whose `status` follows; returns its token.
  request({ method, request }) {
    return this.thing[method](this.name, request ?? undefined);
  }
  disconnect() {
    return new Promise((resolve) => this.thing.end(false, resolve));
  }
}

const kinds = { "v2-5": V2At5, "v2-3.1.1": V2At311, v1: V1 };

const run = ({ client, do: what, ...rest }) => {
  if (what === "connect") {
    clients.set(client, new kinds[rest.kind](rest, teller(client)));
  }
  return clients.get(client)[what](rest);
};

createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const { id, ...command } = JSON.parse(line);
    try {
      say({ id, ok: (await run(command)) ?? null });
    } catch (error) {
      say({ id, error: String(error), details: error.modeledError ?? null });
    }
  })
  .on("close", () => process.exit(0));
