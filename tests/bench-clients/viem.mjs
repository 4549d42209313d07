// Transfers with viem: a nonce manager per account, gas and fees left to the library.
import { readFileSync } from "node:fs";
import { createWalletClient, defineChain, http, parseAbi } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { createNonceManager, jsonRpc } from "viem/nonce";
import { ABI, readOrder, sendAll } from "./order.mjs";

const { version } = JSON.parse(readFileSync(new URL("node_modules/viem/package.json", import.meta.url)));
const order = await readOrder();
const chain = defineChain({
  id: order.chainId,
  name: "bench",
  nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [order.url] } },
});
const nonceManager = createNonceManager({ source: jsonRpc() });
const wallets = order.keys.map((key) =>
  createWalletClient({ account: privateKeyToAccount(key, { nonceManager }), chain, transport: http() }),
);
const abi = parseAbi(ABI);

await sendAll(order, `viem ${version}`, (number) =>
  wallets[number % wallets.length].writeContract({
    address: order.token,
    abi,
    functionName: "transfer",
    args: [order.receiver, 1n],
  }),
);
