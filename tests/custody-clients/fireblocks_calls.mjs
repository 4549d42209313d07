// Fireblocks' own client makes the logical calls that it is given, in order, so that they can be compared with ours on the wire.
import { Fireblocks } from "@fireblocks/ts-sdk";
import { readFileSync } from "node:fs";

const { basePath, apiKey, keyFile, calls } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const client = new Fireblocks({ basePath, apiKey, secretKey: readFileSync(keyFile, "utf8") });
const place = ({ vault, asset }) => ({ vaultAccountId: vault, assetId: asset });
const made = {
    vaults: ({ name, limit, after }) => client.vaults.getPagedVaultAccounts({ namePrefix: name, limit, after }),
    vault: ({ request, idempotencyKey }) => client.vaults.createVaultAccount({ createVaultAccountRequest: request, idempotencyKey }),
    wallet: (given) => client.vaults.createVaultAccountAsset({ ...place(given), createAssetsRequest: {}, idempotencyKey: given.idempotencyKey }),
    key: (given) => client.vaults.getPublicKeyInfoForAddress({ ...place(given), change: 0, addressIndex: 0, compressed: false }),
    addresses: (given) => client.vaults.getVaultAccountAssetAddressesPaginated(place(given)),
    transaction: ({ request }) => client.transactions.createTransaction({ transactionRequest: request }),
    look: ({ id }) => client.transactions.getTransaction({ txId: id }),
    find: ({ externalId }) => client.transactions.getTransactionByExternalId({ externalTxId: externalId }),
    cancel: ({ id }) => client.transactions.cancelTransaction({ txId: id }),
};
const refused = [];
for (const { call, ...given } of calls) {
    try {
        await made[call](given);
    } catch (error) {
        // What was made before is refused; the request is what is looked at.
        refused.push({ call, status: error.response?.statusCode ?? String(error) });
    }
}
console.log(JSON.stringify(refused));
