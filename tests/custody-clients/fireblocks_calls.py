"""Fireblocks' own Python client makes the logical calls that it is given, in order, so that they can be compared with ours on the wire."""

import json
import sys

from fireblocks.client import Fireblocks
from fireblocks.client_configuration import ClientConfiguration
from fireblocks.exceptions import ApiException
from fireblocks.models.create_assets_request import CreateAssetsRequest
from fireblocks.models.create_vault_account_request import CreateVaultAccountRequest
from fireblocks.models.transaction_request import TransactionRequest


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        given = json.load(file)
    with open(given["keyFile"], encoding="utf-8") as file:
        secret_key = file.read()
    configuration = ClientConfiguration(api_key=given["apiKey"], secret_key=secret_key, base_path=given["basePath"])
    refused = []
    with Fireblocks(configuration) as client:
        vaults, transactions = client.vaults, client.transactions
        made = {
            "vaults": lambda one: vaults.get_paged_vault_accounts(
                name_prefix=one.get("name"), limit=one["limit"], after=one.get("after")
            ),
            "vault": lambda one: vaults.create_vault_account(
                create_vault_account_request=CreateVaultAccountRequest.from_dict(one["request"]), idempotency_key=one["idempotencyKey"]
            ),
            "wallet": lambda one: vaults.create_vault_account_asset(
                one["vault"], one["asset"], create_assets_request=CreateAssetsRequest(), idempotency_key=one["idempotencyKey"]
            ),
            "key": lambda one: vaults.get_public_key_info_for_address(one["vault"], one["asset"], 0, 0, compressed=False),
            "addresses": lambda one: vaults.get_vault_account_asset_addresses_paginated(one["vault"], one["asset"]),
            "transaction": lambda one: transactions.create_transaction(
                transaction_request=TransactionRequest.from_dict(one["request"])
            ),
            "look": lambda one: transactions.get_transaction(one["id"]),
            "find": lambda one: transactions.get_transaction_by_external_id(one["externalId"]),
            "cancel": lambda one: transactions.cancel_transaction(one["id"]),
        }
        for one in given["calls"]:
            try:
                made[one["call"]](one).result()
            except ApiException as error:
                # What was made before is refused; the request is what is looked at.
                refused.append({"call": one["call"], "status": error.status})
    print(json.dumps(refused))


main()
