"""What schemathesis needs to know of the service beyond docs/openapi.yaml. Loaded by schemathesis.toml."""

import functools
import itertools
import os
import re
import uuid

import requests
import schemathesis

MAX_TOTAL = 2**53 - 1

run = uuid.uuid4().hex
count = itertools.count()


# A space in a query is written %20: the service refuses a plus sign there. A real plus sign is already %2B.
encode_params = requests.models.RequestEncodingMixin._encode_params
requests.models.RequestEncodingMixin._encode_params = staticmethod(
    lambda data: encoded.replace("+", "%20") if isinstance(encoded := encode_params(data), str) else encoded
)


def as_integers(value):
    """In JSON Schema 1.0 is an integer; the service refuses that spelling, as the contract requires."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [as_integers(entry) for entry in value]
    if isinstance(value, dict):
        return {name: as_integers(entry) for name, entry in value.items()}
    return value


@functools.cache
def cursor():
    """A cursor of this service. Its first digits are the epoch, which all its cursors share."""
    link = requests.get(f"{os.environ['BASE_URL'].rstrip('/')}/events?limit=1", timeout=60).headers["Link"]
    return re.search(r"after=([^&>]+)", link)[1]


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """Makes generated values valid: integers in the service's spelling, and a cursor that it has issued, which no pattern
    describes. A key from the examples is replaced, or every order after the first would be refused for reusing it."""
    if case.meta is not None and case.meta.generation.mode.is_positive:
        case.body = as_integers(case.body)
        after = (case.query or {}).get("after")
        if after is not None and not str(after).startswith(cursor()[:8]):
            case.query["after"] = cursor()
    key = (case.headers or {}).get("Idempotency-Key")
    if key in ("8e03978e-40d5-43dd-bc93-6894a57f9324", '"8e03978e-40d5-43dd-bc93-6894a57f9324"'):
        case.headers["Idempotency-Key"] = key.replace("8e03978e", f"{run}-{next(count)}")


@schemathesis.check
def only_a_reused_key_or_a_huge_total_makes_valid_data_unprocessable(ctx, response, case):
    """The two rules for orders that no schema can express."""
    if response.status_code != 422 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    problem = response.json()
    if problem["type"] == "/problems/idempotency-key-reused":
        return
    total = sum(item["quantity"] * item["unitAmount"] for item in case.body["items"])
    assert total > MAX_TOTAL, f"a valid order was refused: {problem}"
