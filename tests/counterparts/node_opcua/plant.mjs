/** One OPC UA server with its variables, and everything that a test may have go wrong in it. */
import { readFileSync } from "node:fs";
import { setImmediate as nextRound, setTimeout as sleep } from "node:timers/promises";
import { OPCUACertificateManager } from "node-opcua-certificate-manager";
import { MessageSecurityMode, SecurityPolicy } from "node-opcua-secure-channel";
import { MonitoredItem, OPCUAServer } from "node-opcua-server";
import { JobReceiver, NODESETS } from "./job_control.mjs";

const LOOPBACK = "127.0.0.1";
const FASTEST_SAMPLING = 5; // ms; node-opcua's own least is 50
const HISTORY = 10_000; // values kept of each variable that has a history
MonitoredItem.minimumSamplingInterval = FASTEST_SAMPLING;

export class Plant {
  #server;
  #options;
  #namespaces = new Map();
  #variables = new Map();
  #alarms = new Map();
  #sessions = new Set();
  #subscription = null;
  #counting = null;
  #answers = {};
  #overflows = 0;
  #jobs = null;

  /**
   * @param pki folder of node-opcua's certificate managers, kept from plant to plant
   * @param options `port` (0: any), `namespaces` (URIs, the first is that of `add`), `limits` (of ServerCapabilities),
   *   `secure` ({policy; certificate, key, trusted, trustedUser: files; user, password}; without it nothing is signed or
   *   encrypted), `jobControl` (a job order receiver, see job_control.mjs)
   */
  constructor(pki, options) {
    this.#options = { port: 0, namespaces: ["urn:test:plc"], limits: {}, ...options };
    this.#server = new OPCUAServer({
      port: this.#options.port,
      host: LOOPBACK,
      hostname: LOOPBACK,
      serverCertificateManager: certificates(`${pki}/servers`),
      userCertificateManager: certificates(`${pki}/users`), // left out, it would be a folder in the user's home
      serverInfo: { applicationUri: "urn:test:plc:server" },
      serverCapabilities: { minSupportedSampleRate: FASTEST_SAMPLING, ...this.#options.limits },
      ...(this.#options.jobControl ? { nodeset_filename: NODESETS } : {}),
      ...access(this.#options.secure),
    });
    this.#server.on("create_session", (session) => this.#follow(session));
    this.#server.on("response", (response) => this.#note(response.responseHeader.serviceResult.name));
  }

  /** Listen; the port. */
  async start() {
    const { secure, namespaces } = this.#options;
    await this.#server.initialize();
    if (secure) await this.#server.serverCertificateManager.trustCertificate(readFileSync(secure.trusted));
    if (secure?.trustedUser) await this.#server.userCertificateManager.trustCertificate(readFileSync(secure.trustedUser));
    for (const uri of namespaces) this.#namespaces.set(uri, this.#space.registerNamespace(uri));
    this.#space.installAlarmsAndConditionsService();
    if (this.#options.jobControl) {
      this.#jobs = new JobReceiver(this.#space, this.#namespaces.get(this.#ownNamespace), this.#options.jobControl);
    }
    await this.#server.start();
    return this.#server.endpoints[0].port;
  }

  async stop() {
    this.#counting = null;
    await this.#server.shutdown(0);
  }

  get #space() {
    return this.#server.engine.addressSpace;
  }

  get #ownNamespace() {
    return this.#options.namespaces[0];
  }

  // --- variables ---------------------------------------------------------------------------------------------------

  /** A writable variable `s=<name>`, with a history if it is `historized`; one in the first namespace can be written. */
  add({ name, value, type = "Int32", namespace = this.#ownNamespace, historized = false }) {
    const variable = this.#namespaces.get(namespace).addVariable({
      organizedBy: this.#space.rootFolder.objects,
      nodeId: `s=${name}`,
      browseName: name,
      dataType: type,
      value: { dataType: type, value },
    });
    if (historized) this.#space.installHistoricalDataNode(variable, { maxOnlineValues: HISTORY });
    if (namespace === this.#ownNamespace) this.#variables.set(name, { variable, type });
  }

  write({ name, value }) {
    const { variable, type } = this.#variables.get(name);
    variable.setValueFromSource({ dataType: type, value });
  }

  read({ name }) {
    return this.#variables.get(name).variable.readValue().value.value;
  }

  /** Write 1, 2, 3 … every so many milliseconds until `rest`. */
  count({ name, every }) {
    const counting = { last: 0 };
    this.#counting = counting;
    this.#countOn(name, every, counting);
  }

  async #countOn(name, every, counting) {
    while (this.#counting === counting) {
      counting.last += 1;
      await this.#writeSampled(name, counting.last, every);
    }
  }

  /** Stop counting; the last number written. */
  rest() {
    const { last } = this.#counting;
    this.#counting = null;
    return last;
  }

  /** Write these values as fast as they are sampled. */
  async burst({ name, values }) {
    for (const value of values) await this.#writeSampled(name, value, 2 * FASTEST_SAMPLING);
  }

  /**
   * Write, and let at least one sample pass, however busy the machine is: node's timers run in the order in which they
   * are due, and what the sampler asks for in the next round comes before what is asked for here.
   */
  async #writeSampled(name, value, pause) {
    this.write({ name, value });
    await sleep(pause);
    await nextRound();
  }

  // --- alarms ------------------------------------------------------------------------------------------------------

  /** Raise or clear the off-normal alarm of that name, which the first call makes. */
  alarm({ name, active }) {
    const input = this.#alarms.get(name) ?? this.#makeAlarm(name);
    input.setValueFromSource({ dataType: "Boolean", value: active });
  }

  #makeAlarm(name) {
    const namespace = this.#namespaces.get(this.#ownNamespace);
    const { objects } = this.#space.rootFolder;
    const source = namespace.addObject({
      organizedBy: objects,
      browseName: "PAL01",
      eventSourceOf: objects.server,
    });
    const common = { dataType: "Boolean", value: { dataType: "Boolean", value: false } };
    const input = namespace.addVariable({ componentOf: source, browseName: `${name}.Input`, ...common });
    const normalState = namespace.addVariable({ componentOf: source, browseName: `${name}.Normal`, ...common });
    namespace.instantiateOffNormalAlarm({
      browseName: name,
      componentOf: source,
      conditionSource: source,
      conditionName: name,
      inputNode: input,
      normalState,
    });
    this.#alarms.set(name, input);
    return input;
  }

  // --- job orders --------------------------------------------------------------------------------------------------

  /** The machine lets every order run that is allowed to. */
  runJobs() {
    this.#jobs.run();
  }

  /** Somebody at the machine takes that order out of its list. */
  dropJob({ name }) {
    this.#jobs.drop(name);
  }

  /** Which methods of Job Control were called, and the order of that name as it was stored. */
  jobs({ name = null }) {
    return { called: this.#jobs.called, order: name === null ? null : this.#jobs.order(name) };
  }

  // --- what a server can refuse, lose or forget --------------------------------------------------------------------

  /** Other ServerCapabilities from now on; how much goes into one call is fixed at the start. */
  limit(limits) {
    Object.assign(this.#server.engine.serverCapabilities, limits);
  }

  /** Use up so many sequence numbers without a notification. */
  skip({ numbers }) {
    for (let skipped = 0; skipped < numbers; skipped += 1) this.#subscription._get_next_sequence_number();
  }

  /** The next notification goes astray, though the server believes it sent. */
  lose() {
    const engine = this.#subscription.publishEngine;
    const send = engine._send_response;
    engine._send_response = (subscription, response) => {
      if (!response.notificationMessage.notificationData?.length) return send.call(engine, subscription, response);
      engine._send_response = send;
      return undefined;
    };
  }

  /** End the subscription, as a server does that is short of something. */
  terminate() {
    this.#subscription.terminate();
  }

  /** Forget every session with its subscriptions, as after a download to the PLC. */
  forget() {
    for (const session of this.#sessions) this.#server.engine.closeSession(session.authenticationToken, true, "Forcing");
    this.#sessions.clear();
  }

  // --- what a server tells of itself -------------------------------------------------------------------------------

  /** `answers` sent, by status; `overflows` marked in values sent; values `discarded` for want of room in a queue. */
  told() {
    const discarded = this.#subscription?.subscriptionDiagnostics.monitoringQueueOverflowCount ?? 0;
    return { answers: this.#answers, overflows: this.#overflows, discarded };
  }

  /** The sequence numbers that no client has acknowledged. */
  kept() {
    return this.#subscription.getAvailableSequenceNumbers();
  }

  #follow(session) {
    this.#sessions.add(session);
    session.on("session_closed", () => this.#sessions.delete(session));
    session.on("new_subscription", (subscription) => {
      this.#subscription = subscription;
      subscription.on("notification", (message) => this.#countOverflows(message));
    });
  }

  #countOverflows(message) {
    const items = message.notificationData.flatMap((data) => data.monitoredItems ?? []);
    this.#overflows += items.filter((item) => item.value.statusCode.hasOverflowBit).length;
  }

  #note(status) {
    this.#answers[status] = (this.#answers[status] ?? 0) + 1;
  }
}

function certificates(rootFolder) {
  return new OPCUACertificateManager({ rootFolder, disableFileWatchers: true });
}

function access(secure) {
  if (!secure) return { securityModes: [MessageSecurityMode.None], securityPolicies: [SecurityPolicy.None] };
  return {
    securityModes: [MessageSecurityMode.SignAndEncrypt],
    securityPolicies: [SecurityPolicy[secure.policy]],
    certificateFile: secure.certificate,
    privateKeyFile: secure.key,
    allowAnonymous: false,
    userManager: { isValidUser: (user, password) => user === secure.user && password === secure.password },
  };
}
