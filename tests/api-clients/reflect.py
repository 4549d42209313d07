"""Calls the gateway as a client that knows nothing but its address: the contracts come by reflection, no file of ours is read.

    reflect.py ADDRESS CA.pem OPERATION-ID     (the API key in DALP_API_KEY)

Prints one JSON object: the services that reflection names, the operation as GetOperation answers, its last state as WatchOperation
streams it, and the code and reason of a refused call.
"""

import json
import os
import sys

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

OPERATIONS = "dalp.operation.v1.OperationService"


class Gateway:
    """A channel to the gateway, and the contracts that it told about itself."""

    def __init__(self, address: str, authority: bytes, api_key: str) -> None:
        # The key goes with every call, that of reflection too.
        caller = grpc.access_token_call_credentials(api_key)
        secured = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(authority), caller)
        self.channel = grpc.secure_channel(address, secured)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.database)

    def call(self, service: str, method: str, fields: dict):
        """Makes a call of one answer or of many."""
        described = self.pool.FindServiceByName(service).FindMethodByName(method)
        request = message_factory.GetMessageClass(described.input_type)(**fields)
        answer = message_factory.GetMessageClass(described.output_type)
        form = self.channel.unary_stream if described.server_streaming else self.channel.unary_unary
        prepared = form(
            f"/{service}/{method}", request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        return prepared(request, timeout=60)


def main() -> None:
    address, authority, operation_id = sys.argv[1:]
    with open(authority, "rb") as file:
        gateway = Gateway(address, file.read(), os.environ["DALP_API_KEY"])
    got = gateway.call(OPERATIONS, "GetOperation", {"operation_id": operation_id})
    states = [json_format.MessageToDict(change) for change in gateway.call(OPERATIONS, "WatchOperation", {"operation_id": operation_id})]
    try:
        gateway.call(OPERATIONS, "GetOperation", {"operation_id": "no-uuid"})
        refused = "nothing"
    except grpc.RpcError as error:
        refused = error.code().name
    print(
        json.dumps(
            {
                "services": sorted(gateway.database.get_services()),
                "operation": json_format.MessageToDict(got)["operation"],
                "last_state": states[-1]["operation"]["state"],
                "refused": refused,
            }
        )
    )


if __name__ == "__main__":
    main()
