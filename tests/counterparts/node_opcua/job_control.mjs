/**
 * A job order receiver of another make, with the OPC Foundation's own nodeset (ISA-95 Job Control 2.0.0; it comes with
 * the npm package node-opcua-nodesets, OPC Foundation MIT License): the list, the methods, and what each may do.
 */
import { nodesets } from "node-opcua-nodesets";
import { StatusCodes } from "node-opcua-status-code";

const URI = "http://opcfoundation.org/UA/ISA95-JOBCONTROL_V2/";
const STATES = ["", "NotAllowedToStart", "AllowedToStart", "Running", "Interrupted", "Ended", "Aborted"];
const [NOT_ALLOWED, ALLOWED, RUNNING, INTERRUPTED, ENDED, ABORTED] = [1, 2, 3, 4, 5, 6];
const GONE = 0;

/** Method: from which states, to which. */
const CHANGES = {
  Start: [[NOT_ALLOWED], ALLOWED],
  RevokeStart: [[ALLOWED], NOT_ALLOWED],
  Pause: [[RUNNING], INTERRUPTED],
  Resume: [[INTERRUPTED], RUNNING],
  Stop: [[RUNNING, INTERRUPTED], ENDED],
  Abort: [[NOT_ALLOWED, ALLOWED, RUNNING, INTERRUPTED], ABORTED],
  Cancel: [[NOT_ALLOWED, ALLOWED], GONE],
  Clear: [[ENDED, ABORTED], GONE],
};
const BY_ORDER = ["Store", "StoreAndStart", "Update"];
const [GOOD, UNKNOWN, INVALID_STATE, NOT_ACCEPTED] = [0, 1, 3, 4]; // bits of the ReturnStatus, annex B.2

/** What the server must load before it starts. */
export const NODESETS = [nodesets.standard, nodesets.isa95JobControl];

export class JobReceiver {
  #jobs = new Map();
  #called = [];
  #space;
  #list;
  #options;

  /**
   * @param options `capacity`, `shown` (what it says that is; 0: nothing), `zeroIsSuccess` (other machines return 0), `uncertain` (failures are
   *   Uncertain calls)
   */
  constructor(space, namespace, options) {
    this.#space = space;
    this.#options = { capacity: 4, shown: options.capacity ?? 4, zeroIsSuccess: false, uncertain: false, ...options };
    const type = space.findObjectType("ISA95JobOrderReceiverObjectType", space.getNamespaceIndex(URI));
    const receiver = type.instantiate({
      browseName: "JobControl",
      organizedBy: space.rootFolder.objects,
      namespace,
      nodeId: `ns=${namespace.index};s=JobControl`,
      optionals: [...BY_ORDER, ...Object.keys(CHANGES)],
    });
    for (const name of [...BY_ORDER, ...Object.keys(CHANGES)]) {
      receiver.getMethodByName(name).bindMethod((given, _context, done) => done(null, this.#answer(name, given[0].value)));
    }
    receiver.getChildByName("MaxDownloadableJobOrders").setValueFromSource({
      dataType: "UInt16",
      value: this.#options.shown,
    });
    this.#list = receiver.getChildByName("JobOrderList");
  }

  /** Which methods were called, with which order. */
  get called() {
    return this.#called;
  }

  /** The machine lets the order run that is allowed to. */
  run() {
    for (const job of this.#jobs.values()) if (job.state === ALLOWED) job.state = RUNNING;
    this.#show();
  }

  /** Somebody at the machine took the order out of its list. */
  drop(name) {
    this.#jobs.delete(name);
    this.#show();
  }

  /** The order as it was stored, without what this stack adds to it. */
  order(name) {
    return this.#jobs.get(name).order.toJSON();
  }

  #answer(method, argument) {
    const id = argument.jobOrderID ?? argument;
    this.#called.push([method, id]);
    const bit = BY_ORDER.includes(method) ? this.#take(method, argument) : this.#change(method, id);
    this.#show();
    return {
      statusCode: bit !== GOOD && this.#options.uncertain ? StatusCodes.Uncertain : StatusCodes.Good,
      outputArguments: [
        { dataType: "UInt64", arrayType: "Scalar", value: [0, this.#options.zeroIsSuccess ? bit : 1 << bit] },
      ],
    };
  }

  #take(method, order) {
    const known = this.#jobs.get(order.jobOrderID);
    if (method === "Update") {
      if (!known) return UNKNOWN;
      if (known.state > ALLOWED) return INVALID_STATE;
      known.order = order;
      return GOOD;
    }
    if (known || this.#jobs.size >= this.#options.capacity) return NOT_ACCEPTED;
    this.#jobs.set(order.jobOrderID, { order, state: method === "Store" ? NOT_ALLOWED : ALLOWED });
    return GOOD;
  }

  #change(method, id) {
    const job = this.#jobs.get(id);
    const [before, after] = CHANGES[method];
    if (!job) return UNKNOWN;
    if (!before.includes(job.state)) return INVALID_STATE;
    job.state = after;
    if (after === GONE) this.#jobs.delete(id);
    return GOOD;
  }

  #show() {
    const value = [...this.#jobs.values()].map(({ order, state }) =>
      this.#make("ISA95JobOrderAndStateDataType", {
        jobOrder: order,
        state: [this.#make("ISA95StateDataType", { stateNumber: state, stateText: { text: STATES[state] } })],
      }),
    );
    this.#list.setValueFromSource({ dataType: "ExtensionObject", arrayType: "Array", value });
  }

  #make(name, fields) {
    return this.#space.constructExtensionObject(this.#space.findDataType(name, this.#space.getNamespaceIndex(URI)), fields);
  }
}
