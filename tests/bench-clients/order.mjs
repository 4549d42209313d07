// What the bench says on standard input: the order, then "go"; and what it hears on standard output.
import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

export const ABI = ["function transfer(address to, uint256 amount) returns (bool)"];

/** Reads the order. */
export async function readOrder() {
  return JSON.parse((await lines.next()).value);
}

/** Says that the client is ready, waits for the word, and runs `send(number)` for each transfer, `inFlight` at a time. */
export async function sendAll(order, library, send) {
  console.log(`ready ${library}`);
  await lines.next();
  let next = 0;
  const worker = async () => {
    while (next < order.transfers) await send(next++);
  };
  await Promise.all(Array.from({ length: order.inFlight }, worker));
  console.log("sent");
  process.exit(0);
}
