// DFNS' own client makes the logical calls that it is given, in order, so that they can be compared with ours on the wire.
import { DfnsApiClient } from "@dfns/sdk";
import { AsymmetricKeySigner } from "@dfns/sdk-keysigner";
import { readFileSync } from "node:fs";

const { baseUrl, orgId, authToken, credId, keyFile, calls } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const signer = new AsymmetricKeySigner({ credId, privateKey: readFileSync(keyFile, "utf8") });
const client = new DfnsApiClient({ baseUrl, orgId, authToken, signer });
const query = ({ limit, page }) => ({ query: { limit, paginationToken: page } });
const made = {
    keys: (given) => client.keys.listKeys(query(given)),
    key: ({ request }) => client.keys.createKey({ body: request }),
    wallet: ({ request }) => client.wallets.createWallet({ body: request }),
    signature: ({ key, request }) => client.keys.generateSignature({ keyId: key, body: request }),
    look: ({ key, id }) => client.keys.getSignature({ keyId: key, signatureId: id }),
    find: ({ key, ...given }) => client.keys.listSignatures({ keyId: key, ...query(given) }),
    broadcast: ({ wallet, request }) => client.wallets.broadcastTransaction({ walletId: wallet, body: request }),
    lookAtBroadcast: ({ wallet, id }) => client.wallets.getTransaction({ walletId: wallet, transactionId: id }),
    findBroadcast: ({ wallet, ...given }) => client.wallets.listTransactions({ walletId: wallet, ...query(given) }),
    approval: ({ id }) => client.policies.getApproval({ approvalId: id }),
};
const refused = [];
for (const { call, ...given } of calls) {
    try {
        await made[call](given);
    } catch (error) {
        // What was made before is refused; the request is what is looked at.
        refused.push({ call, status: error.httpStatus ?? String(error) });
    }
}
console.log(JSON.stringify(refused));
