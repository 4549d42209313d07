"""Transfers with web3.py: nonces counted per key, gas and fees left to the library."""

import asyncio
import json
import sys

from eth_account import Account
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3 import __version__ as version

ABI = [
    {
        "type": "function",
        "name": "transfer",
        "stateMutability": "nonpayable",
        "inputs": [{"name": "to", "type": "address"}, {"name": "amount", "type": "uint256"}],
        "outputs": [{"name": "", "type": "bool"}],
    }
]


async def main() -> None:
    order = json.loads(sys.stdin.readline())
    web3 = AsyncWeb3(AsyncHTTPProvider(order["url"]))
    token = web3.eth.contract(address=order["token"], abi=ABI)
    accounts = [Account.from_key(key) for key in order["keys"]]
    nonces = [await web3.eth.get_transaction_count(account.address) for account in accounts]

    async def send(number: int) -> None:
        lane = number % len(accounts)
        account, nonce = accounts[lane], nonces[lane]
        nonces[lane] += 1
        call = token.functions.transfer(order["receiver"], 1)
        transaction = await call.build_transaction({"from": account.address, "nonce": nonce})
        await web3.eth.send_raw_transaction(account.sign_transaction(transaction).raw_transaction)

    async def worker(numbers) -> None:
        for number in numbers:
            await send(number)

    print(f"ready web3.py {version}", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    numbers = iter(range(order["transfers"]))
    await asyncio.gather(*(worker(numbers) for _ in range(order["inFlight"])))
    print("sent", flush=True)
    await web3.provider.disconnect()


asyncio.run(main())
