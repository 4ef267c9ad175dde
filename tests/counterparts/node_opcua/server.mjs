/**
 * Stands for a PLC of another make: an OPC UA server of node-opcua that does on request what a PLC does in a bad week.
 *
 * Requests come as JSON lines on stdin, {"id": 1, "do": "add", "with": {"name": "count", "value": 0}}, and are answered
 * in their order on stdout, {"id": 1, "did": …} or {"id": 1, "failed": "why"}. `Plant` has what can be done. The end of
 * stdin ends the process, so that none outlives its test.
 */
import { createInterface } from "node:readline";

console.log = console.error; // node-opcua reports on stdout, which belongs to the answers
const { Plant } = await import("./plant.mjs");

const [, , pki] = process.argv;
let plant = null;

/** What the plant as a whole can do; everything else is a method of the running one. */
const around = {
  async start(options) {
    plant = new Plant(pki, options);
    return { port: await plant.start() };
  },
  async stop() {
    const stopping = plant;
    plant = null;
    await stopping.stop();
  },
};

async function answer(line) {
  const { id, do: what, with: given = {} } = JSON.parse(line);
  try {
    const did = await (around[what] ? around[what](given) : plant[what](given));
    return { id, did: did ?? null };
  } catch (error) {
    return { id, failed: `${what}: ${error.stack ?? error}` };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(line))}\n`);
}
process.exit(0);
