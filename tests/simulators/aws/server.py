#!/usr/bin/env python3
"""AWS to test against: moto, and beside it what moto leaves out and a signer depends on.

- `Sign` with MessageType DIGEST signs the digest as it is, of 32 bytes only (moto hashes what it is given once more).
- Keys that are disabled or wait for their deletion sign nothing, and their public half is not told.
- `GetPublicKey` names the key by its ARN, as `Sign` does.
- Who asks is known by an access key, every signature is verified (by moto, with botocore's arithmetic), and what its policy does not list is refused,
  in the words and the JSON of the service. A request that is five minutes off is refused, too.

The signer's policy is deploy/aws/signer-policy.json. Only its actions count here: moto knows neither their resources nor conditions.

Prints one line of JSON once it listens; ends when its standard input does. What an operator would do is asked of /stand-in.
"""
import base64
import datetime
import json
import logging
import os
import pathlib
import sys
import threading

os.environ["MOTO_CALL_RESET_API"] = "false"

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from moto import settings
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.exceptions import JsonRESTError, _RESTError
from moto.iam import access_control
from moto.iam.models import iam_backends
from moto.kms.models import kms_backends
from moto.kms.responses import KmsResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.secretsmanager.models import secretsmanager_backends
from moto.sts.models import sts_backends
from moto.sts.responses import TokenResponse
from werkzeug.serving import make_server

ROOT = pathlib.Path(__file__).resolve().parents[3]
POLICY = json.loads((ROOT / "deploy/aws/signer-policy.json").read_text())
EVERYTHING = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
REGION = "eu-central-1"
SIGNER = "svc-signer"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/{SIGNER}"
CLUSTER_TOKEN = "token-of-the-cluster"
TRUST = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]})
OFF_BY_MAX = datetime.timedelta(minutes=5)

clock_ahead = datetime.timedelta()


def refused(kind, message):
    return JsonRESTError(kind, message)


def usable(backend, key_id):
    key = backend.describe_key(key_id)
    if key.key_state == "Disabled":
        raise refused("DisabledException", f"{key.arn} is disabled.")
    if key.key_state != "Enabled":
        raise refused("KMSInvalidStateException", f"{key.arn} is pending deletion.")
    return key


def sign(self):
    key_id = self._get_param("KeyId")
    self._validate_key_id(key_id)
    key = usable(self.kms_backend, key_id)
    digest, algorithm = self._get_param("Message"), self._get_param("SigningAlgorithm")
    if self._get_param("MessageType") != "DIGEST":
        raise refused("ValidationException", "here only digests are signed")
    if key.key_usage != "SIGN_VERIFY":
        raise refused("InvalidKeyUsageException", f"{key.arn} key usage is {key.key_usage} which is not valid for Sign.")
    if algorithm not in key.signing_algorithms:
        raise refused("InvalidKeyUsageException", f"Algorithm {algorithm} is incompatible with key spec {key.key_spec}.")
    if len(digest) != 32:
        raise refused("ValidationException", f"Digest is invalid length for algorithm {algorithm}.")
    signature = key.private_key.private_key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    return json.dumps({"KeyId": key.arn, "Signature": base64.b64encode(signature).decode(), "SigningAlgorithm": algorithm})


def get_public_key(self):
    key_id = self._get_param("KeyId")
    self._validate_key_id(key_id)
    key = usable(self.kms_backend, key_id)
    _, public_key = self.kms_backend.get_public_key(key_id)
    return json.dumps(
        {
            "KeyId": key.arn,
            "PublicKey": base64.b64encode(public_key).decode(),
            "CustomerMasterKeySpec": key.key_spec,
            "KeySpec": key.key_spec,
            "KeyUsage": key.key_usage,
            "SigningAlgorithms": key.signing_algorithms,
        }
    )


def create_alias(self):
    """Answers with nothing at all, as AWS does."""
    self._set_alias()
    return ""


class Access(access_control.IAMRequest):
    """Refuses as JSON services do."""

    def _raise_signature_does_not_match(self):
        raise refused(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key"
            f" and signing method.\nThe Canonical String for this request should have been {dict(self._headers)}",
        )

    def _raise_invalid_access_key(self, _):
        raise refused("UnrecognizedClientException", "The security token included in the request is invalid.")

    def _raise_access_denied(self):
        raise refused("AccessDeniedException", f"User: {self._access_key.arn} is not authorized to perform: {self._action}")


def web_identity(self, resource="*"):
    """Unsigned: the cluster's token says who asks, and moto believes every one."""
    if self._get_action() != "AssumeRoleWithWebIdentity":
        return super(TokenResponse, self)._authenticate_and_authorize_normal_action(resource)
    if self._get_param("WebIdentityToken") != CLUSTER_TOKEN or self._get_param("RoleArn") != ROLE_ARN:
        raise InvalidIdentityToken()
    return None


class InvalidIdentityToken(_RESTError):
    def __init__(self):
        super().__init__("InvalidIdentityToken", "The web identity token that was passed could not be validated.")


KmsResponse.sign = sign
TokenResponse._authenticate_and_authorize_normal_action = web_identity
KmsResponse.get_public_key = get_public_key
KmsResponse.create_alias = create_alias
access_control.IAMRequest = Access


def kms():
    return kms_backends[ACCOUNT][REGION]


def make(alias, spec="ECC_SECG_P256K1", usage="SIGN_VERIFY"):
    key = kms().create_key(None, usage, spec, "made by an operator", None)
    kms().delete_alias(alias)
    kms().create_alias(key.id, alias)


def state(alias, to):
    key_id = kms().get_key_id_from_alias(alias)
    match to:
        case "Enabled":
            kms().cancel_key_deletion(key_id)
            kms().enable_key(key_id)
        case "Disabled":
            kms().disable_key(key_id)
        case "PendingDeletion":
            kms().schedule_key_deletion(key_id, 7)
        case "gone":
            kms().delete_key(key_id)
        case _:
            raise ValueError(to)


def secret(name, text, binary=False):
    backend = secretsmanager_backends[ACCOUNT][REGION]
    plain, encoded = (None, base64.b64encode(text.encode()).decode()) if binary else (text, None)
    if name in backend.secrets:
        return json.loads(backend.put_secret_value(name, plain, encoded, None, ["AWSCURRENT"]))
    return json.loads(backend.create_secret(name, plain, encoded, "", [], None, None, [], False))


def deny(actions):
    allowed = [{"Effect": one["Effect"], "Action": one["Action"], "Resource": "*"} for one in POLICY["Statement"]]
    denied = [{"Effect": "Deny", "Action": actions, "Resource": "*"}] if actions else []
    policy = {"Version": POLICY["Version"], "Statement": allowed + denied}
    iam_backends[ACCOUNT]["aws"].put_user_policy(SIGNER, "signer", json.dumps(policy))
    iam_backends[ACCOUNT]["aws"].put_role_policy(SIGNER, "signer", json.dumps(policy))


def clock(ahead_s):
    global clock_ahead
    clock_ahead = datetime.timedelta(seconds=ahead_s)


def keys():
    return [{"arn": key.arn, "aliases": sorted(key.aliases), "state": key.key_state} for key in kms().list_keys()]


ORDERS = {"make": make, "state": state, "secret": secret, "deny": deny, "clock": clock, "keys": keys}


class StandIn:
    def __init__(self, moto):
        self.moto = moto

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/stand-in":
            order = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            answer = ORDERS[order.pop("do")](**order)
            return self.answer(start_response, "200 OK", answer)
        if skewed := self.skewed(environ.get("HTTP_X_AMZ_DATE")):
            return self.answer(start_response, "400 Bad Request", {"__type": "InvalidSignatureException", "message": skewed})
        return self.moto(environ, start_response)

    @staticmethod
    def answer(start_response, status, body):
        start_response(status, [("content-type", "application/json")])
        return [json.dumps(body).encode()]

    @staticmethod
    def skewed(date):
        if date is None:
            return None
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + clock_ahead
        signed = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        form = "%Y%m%dT%H%M%SZ"
        if signed < now - OFF_BY_MAX:
            return f"Signature expired: {date} is now earlier than {now - OFF_BY_MAX:{form}} ({now:{form}} - 5 min.)"
        if signed > now + OFF_BY_MAX:
            return f"Signature not yet current: {date} is still later than {now + OFF_BY_MAX:{form}} ({now:{form}} + 5 min.)"
        return None


def user(name):
    iam = iam_backends[ACCOUNT]["aws"]
    iam.create_user("us-east-1", name)
    key = iam.create_access_key(name)
    return {"access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key}


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    users = {"signer": user(SIGNER), "operator": user("operator")}
    iam_backends[ACCOUNT]["aws"].put_user_policy("operator", "everything", EVERYTHING)
    iam_backends[ACCOUNT]["aws"].create_role(SIGNER, TRUST, "/", None, "", [], "3600")
    deny([])
    # The role that moto's machine says it has, with the keys that it says.
    machine = sts_backends[ACCOUNT]["aws"].assume_role(REGION, "machine", ROLE_ARN, None, 3600, None)
    machine.access_key_id, machine.secret_access_key, machine.session_token = "test-key", "test-secret-key", "test-session-token"
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    MotoRequestHandler.protocol_version = "HTTP/1.1"
    server = make_server("127.0.0.1", 0, StandIn(DomainDispatcherApplication(create_backend_app)), threaded=True,
                         request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_port, "region": REGION, "account": ACCOUNT, "role": ROLE_ARN, "cluster_token": CLUSTER_TOKEN, "users": users}), flush=True)
    sys.stdin.read()
    os._exit(0)


main()
