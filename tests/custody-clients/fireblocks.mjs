// Fireblocks' own client against the simulator: every call a custodian of ours needs, and what must be refused.
import { Fireblocks } from "@fireblocks/ts-sdk";
import { readFileSync } from "node:fs";

const [basePath, apiKey, keyFile] = process.argv.slice(2);
const client = new Fireblocks({ basePath, apiKey, secretKey: readFileSync(keyFile, "utf8") });
const content = "ab".repeat(32);

const vault = (await client.vaults.createVaultAccount({ createVaultAccountRequest: { name: "their desk: 1" } })).data;
const place = { vaultAccountId: vault.id, assetId: "ETH_TEST5" };
const wallet = (await client.vaults.createVaultAccountAsset(place)).data;
const listed = (await client.vaults.getPagedVaultAccounts({ namePrefix: "their desk: 1", limit: 1 })).data;
const key = (await client.vaults.getPublicKeyInfoForAddress({ ...place, change: 0, addressIndex: 0, compressed: false })).data;

const transactionRequest = {
    operation: "RAW",
    assetId: "ETH_TEST5",
    source: { type: "VAULT_ACCOUNT", id: vault.id },
    externalTxId: "their-1",
    extraParameters: { rawMessageData: { messages: [{ content }] } },
};
const created = (await client.transactions.createTransaction({ transactionRequest })).data;
const statuses = [];
let found;
do {
    found = (await client.transactions.getTransaction({ txId: created.id })).data;
    statuses.push(found.status);
} while (!["COMPLETED", "FAILED", "BLOCKED"].includes(found.status) && statuses.length < 20);
const again = (await client.transactions.getTransactionByExternalId({ externalTxId: "their-1" })).data;

const refusal = async (work) => {
    try {
        await work();
        return "none";
    } catch (error) {
        return error.response?.data ?? String(error);
    }
};
const duplicate = await refusal(() => client.transactions.createTransaction({ transactionRequest }));
const stranger = new Fireblocks({ basePath, apiKey: "00000000-0000-0000-0000-000000000000", secretKey: readFileSync(keyFile, "utf8") });
const refused = await refusal(() => stranger.vaults.getPagedVaultAccounts({ limit: 1 }));

console.log(JSON.stringify({
    address: wallet.address,
    listed: listed.accounts.map((account) => account.name),
    publicKey: key.publicKey,
    statuses,
    sameId: again.id === created.id,
    signature: found.signedMessages?.[0]?.signature,
    content,
    duplicate,
    refused,
}));
