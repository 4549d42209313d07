// DFNS' own client with its key signer against the simulator: every call a custodian of ours needs, and what must be refused.
import { DfnsApiClient } from "@dfns/sdk";
import { AsymmetricKeySigner } from "@dfns/sdk-keysigner";
import { readFileSync } from "node:fs";

const [baseUrl, orgId, authToken, credId, keyFile] = process.argv.slice(2);
const signer = new AsymmetricKeySigner({ credId, privateKey: readFileSync(keyFile, "utf8") });
const client = new DfnsApiClient({ baseUrl, orgId, authToken, signer });
const hash = `0x${"ab".repeat(32)}`;

const key = await client.keys.createKey({ body: { scheme: "ECDSA", curve: "secp256k1", name: "their desk" } });
const wallet = await client.wallets.createWallet({ body: { network: "EthereumSepolia", signingKey: { id: key.id } } });
const listed = await client.keys.listKeys({ query: { limit: 1 } });
const body = { kind: "Hash", hash, externalId: "their-1" };
const created = await client.keys.generateSignature({ keyId: key.id, body });
const statuses = [created.status];
let found = created;
while (!["Signed", "Failed", "Rejected"].includes(found.status) && statuses.length < 20) {
    found = await client.keys.getSignature({ keyId: key.id, signatureId: created.id });
    statuses.push(found.status);
}
const repeated = await client.keys.generateSignature({ keyId: key.id, body });

const refusal = async (work) => {
    try {
        await work();
        return "none";
    } catch (error) {
        return { status: error.httpStatus, message: error.message };
    }
};
const other = { ...body, hash: `0x${"cd".repeat(32)}` };
const conflict = await refusal(() => client.keys.generateSignature({ keyId: key.id, body: other }));
const stranger = new DfnsApiClient({ baseUrl, authToken: "a.b.c", signer });
const refused = await refusal(() => stranger.keys.listKeys());

console.log(JSON.stringify({
    address: wallet.address,
    publicKey: key.publicKey,
    listed: listed.items.map((item) => item.name),
    statuses,
    sameId: repeated.id === created.id,
    signature: found.signature,
    conflict,
    refused,
}));
