// Transfers with ethers: its NonceManager per key, gas and fees left to the library.
import { Contract, JsonRpcProvider, Network, NonceManager, Wallet, version } from "ethers";
import { ABI, readOrder, sendAll } from "./order.mjs";

const order = await readOrder();
const network = Network.from(order.chainId);
const provider = new JsonRpcProvider(order.url, network, { staticNetwork: network });
const contracts = order.keys.map(
  (key) => new Contract(order.token, ABI, new NonceManager(new Wallet(key, provider))),
);

await sendAll(order, `ethers ${version}`, (number) => contracts[number % contracts.length].transfer(order.receiver, 1n));
