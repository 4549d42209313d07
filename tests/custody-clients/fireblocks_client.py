"""Fireblocks' own Python client against the simulator: every call a custodian of ours needs, and what must be refused."""

import json
import sys

from fireblocks.client import Fireblocks
from fireblocks.client_configuration import ClientConfiguration
from fireblocks.exceptions import ApiException
from fireblocks.models.create_vault_account_request import CreateVaultAccountRequest
from fireblocks.models.transaction_request import TransactionRequest

CONTENT = "ab" * 32
FINAL = ("COMPLETED", "FAILED", "BLOCKED")


def refusal(work):
    try:
        work()
        return "none"
    except ApiException as error:
        return json.loads(error.body)


def main():
    base_path, api_key, key_file = sys.argv[1:]
    with open(key_file, encoding="utf-8") as file:
        secret_key = file.read()

    def connected(key):
        return Fireblocks(ClientConfiguration(api_key=key, secret_key=secret_key, base_path=base_path))

    with connected(api_key) as client, connected("00000000-0000-0000-0000-000000000000") as stranger:
        request = CreateVaultAccountRequest(name="their desk: 1")
        vault = client.vaults.create_vault_account(create_vault_account_request=request).result().data
        wallet = client.vaults.create_vault_account_asset(vault.id, "ETH_TEST5").result().data
        listed = client.vaults.get_paged_vault_accounts(name_prefix="their desk: 1", limit=1).result().data
        key = client.vaults.get_public_key_info_for_address(vault.id, "ETH_TEST5", 0, 0, compressed=False).result().data
        raw = {
            "operation": "RAW",
            "assetId": "ETH_TEST5",
            "source": {"type": "VAULT_ACCOUNT", "id": vault.id},
            "externalTxId": "their-1",
            "extraParameters": {"rawMessageData": {"messages": [{"content": CONTENT}]}},
        }

        def create():
            return client.transactions.create_transaction(transaction_request=TransactionRequest.from_dict(raw)).result().data

        created = create()
        statuses = []
        while True:
            found = client.transactions.get_transaction(created.id).result().data
            statuses.append(found.status)
            if found.status in FINAL or len(statuses) == 20:
                break
        again = client.transactions.get_transaction_by_external_id("their-1").result().data
        signature = found.signed_messages[0].signature
        said = {
            "address": wallet.address,
            "listed": [account.name for account in listed.accounts],
            "publicKey": key.public_key,
            "statuses": statuses,
            "sameId": again.id == created.id,
            "signature": {"r": signature.r, "s": signature.s, "v": int(signature.v)},
            "content": CONTENT,
            "duplicate": refusal(create),
            "refused": refusal(lambda: stranger.vaults.get_paged_vault_accounts(limit=1).result()),
        }
    print(json.dumps(said))


main()
